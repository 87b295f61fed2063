"""What a job's repositories need beside its backups: pruning and checking, with the job's lock."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from holdstill.errors import HoldstillError, JobActiveError, StoppedError
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
    from collections.abc import Iterable, Iterator, Mapping

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

    How each ends is noted in the history, also where restic could not be started, unless a signal
    ends it. No backup of the job runs meanwhile: prune wants a repository for itself. Raises
    JobActiveError, ProgramError, ConfigurationError, StoppedError.
    """
    job = config.jobs[name]

    def say(text: str) -> None:
        if text:
            reporter.phase(name, text)

    def warn(text: str) -> None:
        reporter.warn(name, text)

    history = History(config.state_directory, config.history_days, warn)
    left = dict.fromkeys(job.repositories)
    with ExitStack() as stack:
        stack.enter_context(_failures_noted(history, name, kind, left))
        user = user_of(config, name)
        targets = [target_of(config, name, repository) for repository in job.repositories]
        found = find_restic(config, environment, signals)
        make_cache(restic_cache(config, job), user)
        lock = stack.enter_context(
            job_lock(lock_places(config), name, wait=wait, signals=signals, say=say)
        )
        for target in targets:
            if lock is None or signals.newest() is not None:
                return
            say(f"{_DOING[kind]} {target.name}")
            client = Client(
                Outside(signals, lock.descriptors, user),
                found.binary,
                environment_of(user, environment),
            )
            reading = client.maintain(target, _arguments(job, kind), say, warn)
            del left[target.name]
            done = Maintained(target.name, reading)
            if reading.outcome is not Outcome.INTERRUPTED:
                failure = None if done.is_ok else Failure(reading.message, reading.remedy)
                history.note_maintenance(_record(name, kind, target.name, failure))
            yield done


@contextmanager
def _failures_noted(history: History, job: str, kind: Kind, left: Iterable[str]) -> Iterator[None]:
    """Note of the repositories that are left then why nothing could be done with them."""
    try:
        yield
    except (JobActiveError, StoppedError):
        raise
    except HoldstillError as error:
        for repository in left:
            failure = Failure(error.message, error.remedy)
            history.note_maintenance(_record(job, kind, repository, failure))
        raise


def _record(job: str, kind: Kind, repository: str, failure: Failure | None) -> MaintenanceRecord:
    return MaintenanceRecord(job, kind, repository, datetime.now(UTC), failure)


_DOING = {Kind.PRUNE: "pruning", Kind.CHECK: "checking"}


def _arguments(job: Job, kind: Kind) -> tuple[str, ...]:
    """Return restic's words for it."""
    if kind is Kind.PRUNE:
        most = job.prune.max_unused if job.prune is not None else ""
        return ("prune", *(("--max-unused", most) if most else ()))
    part = job.check.read_data_subset if job.check is not None else ""
    return ("check", *((f"--read-data-subset={part}",) if part else ()))
