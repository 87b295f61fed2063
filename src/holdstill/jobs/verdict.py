"""From what happened to an outcome and an exit status: pure, and in one place."""

from __future__ import annotations

from holdstill.records.record import Outcome, RepositoryResult, RunRecord, Size, worst

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_STATUS = {Outcome.OK: 0, Outcome.PARTIAL: 3, Outcome.FAILED: 1, Outcome.SKIPPED: 75}
_SIGNAL_BASE = 128
_SIGINT = 2


def of_repository(result: RepositoryResult) -> Outcome:
    """Return a repository's outcome with its retention: a failed one is a failure to be seen."""
    retention = [result.retention.outcome] if result.retention is not None else []
    return worst([result.outcome, *retention])


def shrinkage(result: RepositoryResult, before: Size | None, percent: int) -> str:
    """Say in what a backup has fewer than `percent` of the last one; empty where it has enough."""
    if before is None:
        return ""
    now = Size(result.total_files, result.total_bytes)
    words = ("files", "bytes")
    return " and ".join(
        f"{new:,} {word} where the last one had {old:,}"
        for new, old, word in zip(now, before, words, strict=True)
        if new * 100 < old * percent
    )


def of_run(results: Sequence[RepositoryResult], *, planned: int, interrupted: bool) -> Outcome:
    """Return a run's outcome; a repository that was planned and not reached is no success."""
    if interrupted:
        return Outcome.INTERRUPTED
    missing = [Outcome.FAILED] if len(results) < planned or not planned else []
    return worst([*map(of_repository, results), *missing])


def exit_status(outcome: Outcome, signal: int | None) -> int:
    """Return what `backup` exits with; `signal` is what interrupted it, where that is known."""
    if outcome is Outcome.INTERRUPTED:
        return _SIGNAL_BASE + (signal or _SIGINT)
    return _EXIT_STATUS[outcome]


def exit_status_of_all(records: Sequence[RunRecord]) -> int:
    """Return the exit status of the worst run."""
    return max(records, key=lambda record: record.outcome.badness).exit_status
