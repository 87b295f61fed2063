r"""Records as JSON, in ASCII alone: a byte of a path that is not UTF-8 stands as `\udcXX`.

msgspec is there anyway, and knows no such bytes; the standard library's json does, and is imported
for them.
"""

from __future__ import annotations

import msgspec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def text_of(value: object) -> str:
    """Return what JSON knows as one line."""
    try:
        return msgspec.json.encode(value).decode("ascii")
    except UnicodeError:
        import json

        return json.dumps(value, separators=(",", ":"))


def value_of(text: str) -> Any:  # noqa: ANN401 - whatever JSON makes of it
    """Return what a text says; raises ValueError where that is not JSON."""
    try:
        return msgspec.json.decode(text)
    except ValueError:
        import json

        return json.loads(text)
