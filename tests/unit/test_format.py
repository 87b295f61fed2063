"""Sizes, durations and counts for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.cli.format import BAD, age, count, duration, size, sparkline, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 << 20, "10.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (3 << 60, "3072.0 PiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    """Binary units, one decimal."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.84, "0.8 s"),
        (12.4, "12 s"),
        (59.7, "1:00"),
        (185, "3:05"),
        (3723, "1:02:03"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """As short as it can be without losing what matters."""
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (1204, "1,204 files")])
def test_count(number: int, text: str) -> None:
    """With its noun in the right number."""
    assert count(number, "file") == text


@given(st.integers(0, 1 << 62))
def test_every_size_is_short(number: int) -> None:
    """Nothing breaks a column."""
    assert len(size(number)) <= 10


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
        (86_400 * 2000, "2,000 d"),
    ],
)
def test_an_age_has_one_unit(seconds: float, expected: str) -> None:
    """It is never rounded up."""
    assert age(seconds) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([5], "▁"), ([3, 3], "▁▁"), ([0, 7, 14], "▁▅█"), ([100, 107], "▁█")],
)
def test_bars_go_from_the_least_to_the_most(values: list[float], expected: str) -> None:
    """So that small differences between large values show."""
    assert sparkline(values) == expected


def test_a_table_is_aligned_with_and_without_colour() -> None:
    """No blanks at the ends of lines; colour goes around a whole line."""
    rows = [("a", "bbb"), ("cccc", "d")]
    assert list(table(rows)) == ["a     bbb", "cccc  d"]
    assert list(table(rows, ["", BAD])) == ["a     bbb", "\x1b[31mcccc  d\x1b[0m"]
