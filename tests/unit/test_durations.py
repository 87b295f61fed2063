"""Spans of time as people write them."""

from __future__ import annotations

import pytest

from holdstill.config.durations import seconds_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("0s", 0),
        ("999999d", 999999 * 86400),
    ],
)
def test_a_span_of_time(text: str, seconds: int) -> None:
    """Numbers with a unit, which add up."""
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "m", "-1s", "1.5h", "1 h", "1h ", "1h\n", "1w", "1M", "1000000s", "\u0661s"]
)
def test_what_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert seconds_in(text) is None
