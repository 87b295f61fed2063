"""What the demonstration has shown, in words and in a table: pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from holdstill.demo.rounds import HELD, PLAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.demo.bank import Audit
    from holdstill.demo.rounds import Result

HEADINGS = ("", "backups", "restores wrong", "what was wrong", "took")
RIGHT_ALIGNED = (False, True, True, False, True)

_BUG = "This must never happen. Please report it, with everything printed above."
_LUCK = "Plain restic got away with it this time: it was quicker than the transfers. Try again."


def in_words(result: Result) -> str:
    """Say what one restore held."""
    wrong = [_wrong(audit) for audit in result.audits if not audit.right]
    if not wrong:
        return f"restored: all {len(result.audits)} banks are right"
    return f"restored: {len(wrong)} of {len(result.audits)} banks are WRONG: {', '.join(wrong)}"


def _wrong(audit: Audit) -> str:
    if audit.malformed:
        return f"malformed ({audit.malformed.splitlines()[0]})"
    return f"sum off by {audit.off_by:+,}"


@dataclass(frozen=True, slots=True)
class Row:
    """What one method came to."""

    cells: tuple[str, ...]
    """As many as HEADINGS."""
    wrong: int
    """How many of its restores were wrong."""


def rows(results: Sequence[Result]) -> tuple[Row, ...]:
    """Return a row for each method."""
    return tuple(_row(method, of) for method, of in _by_method(results) if of)


def _by_method(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for method in (PLAIN, HELD):
        yield method, [result for result in results if result.method == method]


def _row(method: str, results: Sequence[Result]) -> Row:
    wrong = sum(not result.right for result in results)
    # The median, since the very first backup fills the repository for all others.
    seconds = median(result.backup.seconds for result in results)
    damage = _damage([audit for result in results for audit in result.audits])
    counts = (str(len(results)), f"{wrong} of {len(results)}")
    return Row((method, *counts, damage, f"{seconds:.1f} s"), wrong)


def _wrong_among(results: Sequence[Result]) -> int:
    return sum(not result.right for result in results)


def _damage(audits: Sequence[Audit]) -> str:
    malformed = sum(bool(audit.malformed) for audit in audits)
    sums = [abs(audit.off_by) for audit in audits if audit.off_by and not audit.malformed]
    parts = []
    if sums:
        parts.append(f"{len(sums)} of {len(audits)} sums off, by up to {max(sums):,}")
    if malformed:
        parts.append(f"{malformed} of {len(audits)} malformed")
    return "; ".join(parts) or "nothing"


def table(results: Sequence[Result]) -> str:
    """Return the rows as aligned plain text."""
    lines = (HEADINGS, *(row.cells for row in rows(results)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, RIGHT_ALIGNED, strict=True)
        ).rstrip()
        for line in lines
    )


def holds(results: Sequence[Result]) -> bool:
    """Whether every restore from holdstill's backups was right."""
    return all(result.right for result in results if result.method == HELD)


def conclusion(results: Sequence[Result]) -> str:
    """Say honestly what was seen."""
    said = [f"{_counted(method, of)}." for method, of in _by_method(results) if of]
    if silent := _silent(results):
        said.append(silent)
    if all(result.right for result in results if result.method == PLAIN):
        said.append(_LUCK)
    if not holds(results):
        said.append(_BUG)
    return " ".join(said)


def _counted(method: str, results: Sequence[Result]) -> str:
    wrong = _wrong_among(results)
    how_many = {0: "none", len(results): "all"}.get(wrong, str(wrong))
    return f"Of {len(results)} restores from {method}'s backups {how_many} were wrong"


def _silent(results: Sequence[Result]) -> str:
    """Say how many wrong restores came from backups that claimed success."""
    wrong = [result for result in results if not result.right]
    silent = sum(result.backup.said_ok for result in wrong)
    if not silent:
        return ""
    which = (
        "Every wrong one" if silent == len(wrong) else f"{silent} of the {len(wrong)} wrong ones"
    )
    return f"{which} came from a backup that had reported success."
