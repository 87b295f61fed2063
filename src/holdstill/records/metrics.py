"""What is known of a job as Prometheus reads it: pure, from the record of its last run."""

from __future__ import annotations

from holdstill.records.record import Outcome
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import Any, Final

    from holdstill.records.past import PastRun

METRICS: Final[Mapping[str, str]] = {
    "holdstill_run_active": "1 while a run of the job goes on, or where one has died since.",
    "holdstill_run_active_start_timestamp_seconds": "When that run started.",
    "holdstill_last_success_timestamp_seconds": "When the last run ended that was ok.",
    "holdstill_run_outcome": "1 for the outcome of the last run that has ended, 0 for the others.",
    "holdstill_run_exit_status": "Exit status of that run.",
    "holdstill_run_start_timestamp_seconds": "When that run started.",
    "holdstill_run_end_timestamp_seconds": "When that run ended; not there if it died.",
    "holdstill_run_duration_seconds": "How long that run took.",
    "holdstill_run_warnings": "Warnings of that run.",
    "holdstill_run_left_out_paths": "Paths that were left out of the backup.",
    "holdstill_run_subvolumes": "Subvolumes that were frozen.",
    "holdstill_run_hold_seconds": "From the first request for a snapshot to the last answer.",
    "holdstill_run_skewed": "1 where it is not proven that all was frozen at one instant.",
    "holdstill_leftover_snapshots": "Snapshots of dead runs on the job's disks after that run.",
    "holdstill_phase_duration_seconds": "How long a phase of that run took.",
    "holdstill_backup_last_success_timestamp_seconds": (
        "When the last backup in the repository was made that is ok and not suspiciously small."
    ),
    "holdstill_backup_outcome": "1 for the outcome in the repository, 0 for the others.",
    "holdstill_backup_duration_seconds": "How long restic took to back up.",
    "holdstill_backup_size_bytes": "What the backup holds.",
    "holdstill_backup_added_bytes": "What the backup added to the repository, not compressed.",
    "holdstill_backup_stored_bytes": "What it added as it is stored; needs restic 0.17.",
    "holdstill_backup_files": "Files of the backup, by how they compare with the one before.",
    "holdstill_backup_directories": "Directories of the backup, likewise.",
    "holdstill_backup_errors": "What could not be read.",
    "holdstill_backup_suspicious": "1 where the backup is suspiciously small.",
    "holdstill_retention_outcome": "1 for the outcome of the retention, 0 for the others.",
    "holdstill_retention_kept_snapshots": "restic's snapshots that the retention has kept.",
    "holdstill_retention_removed_snapshots": "restic's snapshots that the retention has removed.",
}
"""Every metric and its help, in the order in which they are written. All of them are gauges."""

_CHANGES = ("new", "changed", "unmodified")
_OUTCOMES = (Outcome.OK, Outcome.PARTIAL, Outcome.FAILED, Outcome.INTERRUPTED)


class Known(NamedTuple):
    """What is known of a job."""

    active_since: datetime | None = None
    """When the run started that goes on."""
    last: PastRun | None = None
    """The last run that has ended and was not skipped."""
    last_ok: datetime | None = None
    """When the last run ended that was ok."""
    good_backups: Mapping[str, datetime] = {}
    """When the last good backup in each repository was made."""
    leftovers: int | None = None
    """Snapshots of dead runs, where somebody has looked."""


class Sample(NamedTuple):
    """A value of a metric."""

    metric: str
    value: float | None
    """None: not known, and not written."""
    labels: Mapping[str, str] = {}


def text(job: str, known: Known) -> str:
    """Return everything that is known of a job in Prometheus' text format.

    The label of the job is `job_name`: what a scrape adds is called `job`.
    """
    families: dict[str, list[str]] = {name: [] for name in METRICS}
    for sample in _samples(known):
        if sample.value is not None:
            labels = _labels({"job_name": job, **sample.labels})
            families[sample.metric].append(f"{sample.metric}{labels} {_number(sample.value)}\n")
    return "".join(
        f"# HELP {name} {METRICS[name]}\n# TYPE {name} gauge\n{''.join(lines)}"
        for name, lines in families.items()
        if lines
    )


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(round(value, 6))  # of a yes or no, too: 1 or 0


def _samples(known: Known) -> Iterator[Sample]:
    yield Sample("holdstill_run_active", known.active_since is not None)
    yield Sample("holdstill_run_active_start_timestamp_seconds", _timestamp(known.active_since))
    yield Sample("holdstill_last_success_timestamp_seconds", _timestamp(known.last_ok))
    yield Sample("holdstill_leftover_snapshots", known.leftovers)
    for repository, made in known.good_backups.items():
        name = "holdstill_backup_last_success_timestamp_seconds"
        yield Sample(name, _timestamp(made), {"repository": repository})
    if known.last is not None:
        yield from _of_run(known.last)
        for result in known.last.record["repositories"]:
            yield from _of_repository(result)


def _timestamp(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()


def _of_run(run: PastRun) -> Iterator[Sample]:
    record = run.record
    hold_ms, instant = record["hold_ms"], record["instant"]
    is_whole = run.finished is not None
    figures = {
        "exit_status": record["exit_status"],
        "start_timestamp_seconds": run.started.timestamp(),
        "end_timestamp_seconds": _timestamp(run.finished),
        "duration_seconds": run.seconds,
        "warnings": len(record["warnings"]) if is_whole else None,
        "left_out_paths": len(record["left_out"]) if is_whole else None,
        "subvolumes": len(record["snapshots"]) if instant else None,
        "hold_seconds": None if hold_ms is None else hold_ms / 1000,
        "skewed": instant == "skewed" if instant else None,
    }
    yield from _states("holdstill_run_outcome", run.outcome, _OUTCOMES, {})
    yield from (Sample(f"holdstill_run_{name}", value) for name, value in figures.items())
    for phase in record["phases"]:
        labels = {"phase": phase["name"], "repository": phase["repository"]}
        yield Sample("holdstill_phase_duration_seconds", phase["seconds"], labels)


def _of_repository(result: Mapping[str, Any]) -> Iterator[Sample]:
    labels = {"repository": result["name"]}
    figures = {
        "duration_seconds": result["seconds"],
        "size_bytes": result["total_bytes"],
        "added_bytes": result["data_added"],
        "stored_bytes": result["data_added_packed"],
        "errors": result["error_count"],
        "suspicious": result["suspicious"],
    }
    yield from _states("holdstill_backup_outcome", result["outcome"], _OUTCOMES, labels)
    yield from (Sample(f"holdstill_backup_{name}", v, labels) for name, v in figures.items())
    for change in _CHANGES:
        both = {**labels, "change": change}
        yield Sample("holdstill_backup_files", result[f"files_{change}"], both)
        yield Sample("holdstill_backup_directories", result[f"dirs_{change}"], both)
    if retention := result["retention"]:
        outcome, name = retention["outcome"], "holdstill_retention_outcome"
        yield from _states(name, outcome, _OUTCOMES, labels)
        yield Sample("holdstill_retention_kept_snapshots", retention["kept"], labels)
        yield Sample("holdstill_retention_removed_snapshots", retention["removed"], labels)


def _states(
    name: str, current: object, outcomes: Iterable[Outcome], labels: Mapping[str, str]
) -> Iterator[Sample]:
    """Yield a value for each outcome, so that each has a history of its own."""
    return (Sample(name, one == current, {**labels, "outcome": one}) for one in outcomes)
