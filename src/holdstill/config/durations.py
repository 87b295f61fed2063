"""Spans of time as people write them: `90s`, `10m`, `1h30m`."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


PATTERN: Final = r"([0-9]{1,6}[dhms])+"
EXPECTED: Final = "must be days, hours, minutes and seconds, like 90s, 10m or 1h30m"

_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds_in(text: str) -> int | None:
    """Return how long `text` says, or None where it is not written as a span of time."""
    if not re.fullmatch(PATTERN, text, re.ASCII):
        return None
    parts = re.findall(r"(\d+)([dhms])", text)
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)
