"""Sizes, durations, counts and tables for people."""

from __future__ import annotations

from itertools import zip_longest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BAD = "31"
WARNING = "33"
GOOD = "32"
QUIET = "2"

_BARS = "▁▂▃▄▅▆▇█"
_UNIT = 1024
_MOST = 1 << 63
_MINUTE = 60


def size(count: int) -> str:
    """Return a number of bytes with three digits or so: `1.2 MiB`; others printed the number."""
    count = max(0, min(count, _MOST))
    if count < _UNIT:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= _UNIT
        if value < _UNIT or unit == "PiB":
            return f"{value:.1f} {unit}"
    raise AssertionError


def duration(seconds: float) -> str:
    """Return a time span: `0.8 s`, `12 s`, `3:05`, `1:02:03`."""
    if seconds < 10:  # noqa: PLR2004 - one decimal while it matters
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(seconds: float) -> str:
    """Return a long time in one unit: `40 s`, `12 min`, `7 h`, `3 d`."""
    left = max(0, int(seconds))
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if left < length:
            return f"{left} {unit}"
        left //= length
    return f"{left:,} d"


def sparkline(values: Sequence[float]) -> str:
    """Return a bar for each value: the lowest for the smallest, the highest for the largest."""
    lowest = min(values, default=0)
    span = max(values, default=0) - lowest or 1
    return "".join(_BARS[round((value - lowest) / span * (len(_BARS) - 1))] for value in values)


def table(rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows with their columns aligned, each in its style: the parameters of ANSI's SGR."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, style in zip_longest(rows, styles, fillvalue=""):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield styled("  ".join(cells).rstrip(), str(style))


def styled(text: str, style: str) -> str:
    """Return a line in colour; as it is without a style."""
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def count(number: int, what: str) -> str:
    """Return a number and its noun: `1 file`, `1,204 files`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
