"""A run as data: what `backup --json` prints, and what every other report is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from holdstill.records.json_text import text_of
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Outcome(StrEnum):
    """How a run, or its part in one repository, ended; from best to worst."""

    OK = "ok"
    SKIPPED = "skipped"
    """Another run of the job was active; nothing was touched."""
    PARTIAL = "partial"
    """A backup exists, and restic could not read everything for it."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def badness(self) -> int:
        """Rank, for finding the worst."""
        return list(Outcome).index(self)


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the worst outcome; ok if there is none."""
    return max(outcomes, key=lambda outcome: outcome.badness, default=Outcome.OK)


class Phase(StrEnum):
    """What a run is at, in the order in which the phases come."""

    PLANNING = "planning"
    """Looks at the sources and at restic."""
    FREEZING = "freezing"
    """Sweeps leftovers and takes the snapshots."""
    BACKING_UP = "backing-up"
    """restic reads the view; once for each repository."""
    CLEANING_UP = "cleaning-up"
    """Deletes the snapshots."""
    RETENTION = "retention"
    """restic forgets and prunes; once for each repository."""


class PhaseRecord(NamedTuple):
    """A phase of a run."""

    name: Phase
    repository: str
    """Empty where the phase is not about one."""
    started: datetime
    seconds: float | None = None
    """None while it goes on."""


class Failure(NamedTuple):
    """Why something did not end well."""

    message: str
    remedy: str = ""


class SnapshotRecord(NamedTuple):
    """A snapshot that the run took, and removed again."""

    file_system: str
    """Uuid of the file system."""
    subvolume_id: int
    """Of the source."""
    id: int
    """Of the snapshot."""
    transaction: int


class FileSystemRecord(NamedTuple):
    """What was frozen together on one file system."""

    file_system: str
    """Its uuid."""
    instant: str
    """How simultaneous its snapshots are."""
    hold_ms: float
    attempts: int
    """Sets of snapshots that were taken until one was simultaneous."""


class LeftOutRecord(NamedTuple):
    """Something below a source that is not in the backup."""

    path: str
    reason: str
    remedy: str
    """How it would be included; empty where it cannot be."""


class Size(NamedTuple):
    """What a backup holds."""

    files: int
    bytes: int


class RetentionResult(NamedTuple):
    """What `restic forget` did."""

    outcome: Outcome
    kept: int | None = None
    """Snapshots; None where it is not known."""
    removed: int | None = None
    pruned: bool = False
    failure: Failure | None = None

    @property
    def has_pruned(self) -> bool:
        """Whether a prune went well: restic leaves it out where nothing was removed."""
        return self.pruned and bool(self.removed) and self.outcome is Outcome.OK


class RepositoryResult(NamedTuple):
    """A run's part in one repository; sizes in bytes."""

    name: str
    outcome: Outcome
    snapshot_id: str = ""
    data_added: int = 0
    data_added_packed: int | None = None
    """What was added after compression; unknown before restic 0.17."""
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    total_files: int = 0
    total_bytes: int = 0
    seconds: float = 0.0
    suspicious: bool = False
    """Clearly smaller than the last one that was not: the retention waits for somebody to look."""
    error_count: int = 0
    errors: tuple[str, ...] = ()
    """The first hundred."""
    failure: Failure | None = None
    retention: RetentionResult | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is a backup that later ones can be compared with."""
        return self.outcome is Outcome.OK and not self.suspicious


class RunRecord(NamedTuple):
    """One run of one job."""

    job: str
    run_id: str
    outcome: Outcome
    exit_status: int
    started: datetime
    finished: datetime
    phases: tuple[PhaseRecord, ...] = ()
    frozen_at: datetime | None = None
    hold_ms: float | None = None
    instant: str | None = None
    file_systems: tuple[FileSystemRecord, ...] = ()
    snapshots: tuple[SnapshotRecord, ...] = ()
    repositories: tuple[RepositoryResult, ...] = ()
    left_out: tuple[LeftOutRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.finished - self.started).total_seconds()


class MaintenanceRecord(NamedTuple):
    """How the last prune or check of a job ended in one repository."""

    job: str
    kind: str
    repository: str
    finished: datetime
    failure: Failure | None = None


def as_json(record: RunRecord) -> str:
    r"""Return the record as one line of JSON; times are UTC, in RFC 3339.

    A byte of a path that is not UTF-8 appears as `\udcXX`.
    """
    return text_of(plain(record))


def plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON makes of it
    """Return what JSON knows: a record as an object, a time as a text."""
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        items = [plain(item) for item in value]
        return items if names is None else dict(zip(names, items, strict=True))
    return value


def instant_text(instant: datetime) -> str:
    """Return a time as every record spells it, so that later ones sort behind."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
