"""What a job's repositories need beside its backups: pruning and checking, with the job's lock."""

from __future__ import annotations

from datetime import UTC, datetime

from holdstill.jobs.lock import job_lock, lock_places
from holdstill.jobs.plan import environment_of, find_restic, restic_cache, target_of, user_of
from holdstill.jobs.repository import Outside, make_cache
from holdstill.records.history import History
from holdstill.records.record import Failure, MaintenanceRecord
from holdstill.restic.client import Client
from holdstill.restic.outcome import Outcome
from holdstill.systemd.units import Kind
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdstill.config.model import Config, Job
    from holdstill.jobs.reporter import Reporter
    from holdstill.linux.signals import Signals
    from holdstill.restic.outcome import Reading


class Maintained(NamedTuple):
    """What became of one repository."""

    repository: str
    reading: Reading

    @property
    def is_ok(self) -> bool:
        """Whether nothing went wrong."""
        return self.reading.outcome is Outcome.OK


def maintain(  # noqa: PLR0913 - independent circumstances, as those of a run
    config: Config,
    name: str,
    kind: Kind,
    environment: Mapping[str, str],
    reporter: Reporter,
    *,
    signals: Signals,
    wait: float,
) -> Iterator[Maintained]:
    """Prune or check each repository of a job; none after a signal.

    How each ends is noted in the history, unless a signal ends it. No backup of the job runs
    meanwhile: prune wants a repository for itself. Raises
    JobActiveError, ProgramError, ConfigurationError, StoppedError.
    """
    user = user_of(config, name)
    job = config.jobs[name]
    targets = [target_of(config, name, repository) for repository in job.repositories]
    found = find_restic(config, environment, signals)

    def say(text: str) -> None:
        if text:
            reporter.phase(name, text)

    make_cache(restic_cache(config, job), user)

    def warn(text: str) -> None:
        reporter.warn(name, text)

    history = History(config.state_directory, config.history_days, warn)
    with job_lock(lock_places(config), name, wait=wait, signals=signals, say=say) as lock:
        for target in targets:
            if lock is None or signals.read() is not None or signals.last is not None:
                return
            say(f"{_DOING[kind]} {target.name}")
            client = Client(
                Outside(signals, lock.descriptors, user),
                found.binary,
                environment_of(user, environment),
            )
            reading = client.maintain(target, _arguments(job, kind), say, warn)
            if reading.outcome is not Outcome.INTERRUPTED:
                history.note_maintenance(_record(name, kind, target.name, reading))
            yield Maintained(target.name, reading)


def _record(job: str, kind: Kind, repository: str, reading: Reading) -> MaintenanceRecord:
    is_ok = reading.outcome is Outcome.OK
    failure = None if is_ok else Failure(reading.message, reading.remedy)
    return MaintenanceRecord(job, kind, repository, datetime.now(UTC), failure)


_DOING = {Kind.PRUNE: "pruning", Kind.CHECK: "checking"}


def _arguments(job: Job, kind: Kind) -> tuple[str, ...]:
    """Return restic's words for it."""
    if kind is Kind.PRUNE:
        most = job.prune.max_unused if job.prune is not None else ""
        return ("prune", *(("--max-unused", most) if most else ()))
    part = job.check.read_data_subset if job.check is not None else ""
    return ("check", *((f"--read-data-subset={part}",) if part else ()))
