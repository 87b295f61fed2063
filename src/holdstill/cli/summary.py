"""What is said of a run when it has ended."""

from __future__ import annotations

from holdstill.cli import messages
from holdstill.cli.format import count, duration, size
from holdstill.records.record import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdstill.records.record import RepositoryResult, RetentionResult, RunRecord

_PRIORITIES = {
    Outcome.OK: messages.INFO,
    Outcome.SKIPPED: messages.WARNING,
    Outcome.PARTIAL: messages.WARNING,
    Outcome.FAILED: messages.ERROR,
    Outcome.INTERRUPTED: messages.ERROR,
}


def print_failures(record: RunRecord) -> None:
    """Say on standard error what went wrong, each with its remedy."""
    failures = [record.failure, *(result.failure for result in record.repositories)]
    failures += [r.retention.failure for r in record.repositories if r.retention is not None]
    for failure in failures:
        if failure is not None:
            fields = messages.fields_of(record.job, record.run_id)
            messages.say_failure(f"{record.job}: {failure.message}", failure.remedy, fields)


def print_result(record: RunRecord) -> None:
    """Print what became of a run; where that would go into the journal, with fields of its own."""
    text = "\n".join(lines(record))
    if not messages.is_journal(1):
        print(text, flush=True)
        return
    fields = messages.fields_of(record.job, record.run_id)
    messages.say(text, _PRIORITIES[record.outcome], {**fields, "HOLDSTILL_OUTCOME": record.outcome})


def lines(record: RunRecord) -> Iterator[str]:
    """Yield the job's outcome, and under each repository's name what became of it."""
    yield f"{record.job}: {record.outcome} in {duration(record.seconds)}"
    for result in record.repositories:
        first, *rest = _facts(result)
        yield f"  {result.name}: {first}"
        yield from (" " * len(f"  {result.name}: ") + fact for fact in rest)


def _facts(result: RepositoryResult) -> Iterator[str]:
    stored = f" ({size(result.data_added_packed)} stored)" if result.data_added_packed else ""
    snapshot = f"snapshot {result.snapshot_id[:8]}" if result.snapshot_id else "no snapshot"
    yield f"{result.outcome}, {snapshot}, {size(result.data_added)} added{stored}"
    if result.snapshot_id:
        yield (
            f"{count(result.files_new, 'file')} new, {result.files_changed:,} changed, "
            f"{result.files_unmodified:,} unchanged"
        )
    if result.error_count:
        yield count(result.error_count, "error")
    if result.retention is not None:
        yield _retention(result.retention)


def _retention(result: RetentionResult) -> str:
    if result.kept is None or result.removed is None:
        return f"retention {result.outcome}"
    pruned = ", pruned" if result.pruned else ""
    kept = count(result.kept, "snapshot")
    return f"retention {result.outcome}: {kept} kept, {result.removed:,} removed{pruned}"
