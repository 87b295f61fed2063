"""One run of one job, from its lock to its record."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime

import msgspec

from holdstill.config.durations import seconds_in
from holdstill.config.problems import key_text
from holdstill.config.warnings import warnings as config_warnings
from holdstill.errors import (
    FreezeError,
    HoldstillError,
    JobActiveError,
    StoppedError,
    shown,
)
from holdstill.freeze import Held, hold, settled
from holdstill.jobs import verdict
from holdstill.jobs.lock import job_lock, lock_places
from holdstill.jobs.outside import Outside
from holdstill.jobs.plan import JobPlan, plan_job, restic_cache, user_of
from holdstill.jobs.repository import (
    ASK_WITH,
    GRACE_SECONDS,
    apply_retention,
    back_up_all,
    make_cache,
)
from holdstill.records.history import History
from holdstill.records.record import (
    Failure,
    FileSystemRecord,
    LeftOutRecord,
    Outcome,
    Phase,
    PhaseRecord,
    RepositoryResult,
    RunRecord,
    SnapshotRecord,
)
from holdstill.snapshots.model import Proof
from holdstill.snapshots.staging import new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdstill.config.model import Config, Job
    from holdstill.jobs.reporter import Reporter
    from holdstill.linux.signals import Signals
    from holdstill.snapshots.model import Instant, SnapshotSet

_NAMED = 3


class Run:
    """What a run has found out so far; `record` makes its record of it at any point."""

    def __init__(self, config: Config, job: str, reporter: Reporter, signals: Signals) -> None:
        """Begin a run, which knows nothing yet."""
        self.job = job
        self.history = History(config.state_directory, config.history_days, self.warn)
        self.outside = Outside(config, job, self.warn, signals)
        self.phases: list[PhaseRecord] = []
        """The last one goes on, since `entered` on the monotonic clock."""
        self.entered = 0.0
        self.id = new_run()
        self.started = datetime.now(UTC)
        self.reporter = reporter
        self.signals = signals
        self.planned = 0
        self.held: Held | None = None
        self.left_out: tuple[LeftOutRecord, ...] = ()
        self.repositories: dict[str, RepositoryResult] = {}
        self.warnings: list[str] = []
        self.failure: Failure | None = None
        self.outcome: Outcome | None = None
        """Set where the run ended by an error; otherwise it follows from the repositories."""
        self.exit_status: int | None = None

    def warn(self, text: str) -> None:
        """Say it now and record it, once."""
        if text in self.warnings:
            return
        self.warnings.append(text)
        self.reporter.warn(self.job, text)

    def say(self, text: str) -> None:
        """Say what has happened."""
        self.reporter.phase(self.job, text)

    def enter(self, phase: Phase, repository: str = "") -> None:
        """Begin a phase, which ends the one before; a run can be killed in each of them."""
        self.phases = [*self.phases_so_far(), PhaseRecord(phase, repository, datetime.now(UTC))]
        self.entered = time.monotonic()
        self.history.note_phases(self.phases)

    def phases_so_far(self) -> list[PhaseRecord]:
        """Return the phases as if the last one ended now."""
        seconds = round(time.monotonic() - self.entered, 3)
        return [*self.phases[:-1], *(one._replace(seconds=seconds) for one in self.phases[-1:])]

    def interrupted(self) -> bool:
        """Whether a signal has come or the time is up, also where nothing has reacted to it yet."""
        return self.signals.have_come()

    def fail(self, error: HoldstillError) -> None:
        """End the run by an error."""
        self.failure = Failure("; ".join((error.message, *error.notes)), error.remedy)
        skipped = isinstance(error, JobActiveError)
        self.outcome = Outcome.SKIPPED if skipped else Outcome.FAILED
        # 126 and 127 speak of the command of `exec`.
        self.exit_status = 1 if error.exit_status in {126, 127} else error.exit_status

    def record(self) -> RunRecord:
        """Return everything, judged."""
        interrupted = self.interrupted() and self.outcome is None
        outcome = self.outcome or verdict.of_run(
            tuple(self.repositories.values()), planned=self.planned, interrupted=interrupted
        )
        status = self.exit_status or verdict.exit_status(outcome, self.signals.last)
        instant = self.held.instant if self.held is not None else None
        return RunRecord(
            job=self.job,
            run_id=self.id,
            outcome=outcome,
            exit_status=status,
            started=self.started,
            finished=datetime.now(UTC),
            phases=tuple(self.phases_so_far()),
            frozen_at=instant.frozen_at if instant else None,
            hold_ms=instant.hold_ms if instant else None,
            instant=instant.proof if instant else None,
            file_systems=tuple(
                FileSystemRecord(s.file_system, s.proof, _milliseconds(s), s.attempts)
                for s in (instant.sets if instant else ())
            ),
            snapshots=tuple(
                SnapshotRecord(s.subvolume.file_system, s.subvolume.id, s.id, s.transaction)
                for s in (instant.snapshots if instant else ())
            ),
            repositories=tuple(self.repositories.values()),
            left_out=self.left_out,
            warnings=tuple(self.warnings),
            failure=self.failure,
        )

    def close(self) -> RunRecord:
        """Put the run on record and its metrics out; return the record."""
        record = self.record()
        self.history.close(record)
        devices = self.held.plan.devices.values() if self.held is not None else ()
        self.outside.publish(record, devices)
        return record

    def tell(self, record: RunRecord) -> RunRecord:
        """Tell of the run, and return its record with what could not be done since it was made."""
        self.outside.tell(record)
        complete = record._replace(warnings=tuple(self.warnings))
        if complete != record:
            self.history.close(complete)
        return complete


def run_job(  # noqa: PLR0913 - independent circumstances of a run
    config: Config,
    name: str,
    environment: Mapping[str, str],
    reporter: Reporter,
    signals: Signals,
    *,
    wait: float = 0.0,
) -> RunRecord:
    """Run a job; whatever is expected to go wrong is in the record that this returns.

    Waits up to `wait` seconds for another run of it to end.
    """
    run = Run(config, name, reporter, signals)
    reporter.begin(name, run.id)
    with contextlib.ExitStack() as stack:
        try:
            _run_locked(run, config, environment, stack, wait)
        except StoppedError as error:
            # What stopped it is known, and says how the run ended; what was not removed is not.
            for text in error.notes:
                run.warn(text)
        except HoldstillError as error:
            run.fail(error)
        except Exception:  # noqa: BLE001 - a bug fails its own run, not the record nor the next job
            import traceback

            traceback.print_exc()
            message = "unexpected error, see the traceback"
            run.fail(HoldstillError(message, remedy="please report it"))
        if signals.expired and signals.last is None:
            run.fail(_too_long(name, config.jobs[name]))
        record = run.close()  # with the lock: who has it next calls open rows interrupted
    return run.tell(record)


def _run_locked(
    run: Run,
    config: Config,
    environment: Mapping[str, str],
    stack: contextlib.ExitStack,
    wait: float,
) -> None:
    """Run the job with its lock held until the stack is left."""
    places = lock_places(config)
    taken = job_lock(places, run.job, wait=wait, signals=run.signals, say=run.say)
    lock = stack.enter_context(taken)
    if lock is None:
        return
    run.history.begin(run.job, run.id, run.started)
    run.outside.begin(run.id, run.started)
    for problem in lock.problems:
        run.warn(problem)
    with run.signals.limit(seconds_in(config.jobs[run.job].timeout)):
        _run(run, config, environment, lock.descriptors)


def _too_long(name: str, job: Job) -> HoldstillError:
    key = key_text(("jobs", name, "timeout"))
    message = f"stopped: the run took longer than {key} allows ({job.timeout})"
    return HoldstillError(message, remedy=f"see what took so long, or raise {key}")


def _run(run: Run, config: Config, environment: Mapping[str, str], locks: tuple[int, ...]) -> None:
    job = config.jobs[run.job]
    make_cache(restic_cache(config, job), user_of(config, run.job))
    with contextlib.ExitStack() as stack:
        plan, held = settled(lambda: _freeze(run, config, environment, locks, stack))
        run.held = held
        run.planned = len(plan.repositories)
        _note_left_out(run, plan)
        refuse_skewed(job, held.instant)
        run.say(f"frozen in {held.instant.hold_ms:.1f} ms ({held.instant.proof})")
        done = back_up_all(run, job, plan, held)
        run.enter(Phase.CLEANING_UP)
    # Only now: a snapshot that could not be removed is a failed run, whose retention must not run.
    for repository in done:
        if repository.retention is not None and not run.interrupted():
            apply_retention(run, plan, repository.target, repository.retention, locks)


def _freeze(
    run: Run,
    config: Config,
    environment: Mapping[str, str],
    locks: tuple[int, ...],
    stack: contextlib.ExitStack,
) -> tuple[JobPlan, Held]:
    """Plan the job and freeze it, until the stack is left; return what was found then."""
    run.enter(Phase.PLANNING)
    plan, warnings = plan_job(
        config, run.job, environment, watched=run.reporter.watched, signals=run.signals
    )
    for text in (*config_warnings(_only(config, run.job)), *warnings):
        run.warn(text)
    run.enter(Phase.FREEZING)
    frozen = hold(
        plan.freeze,
        run.id,
        # The cache is not there where it could not be made.
        live=tuple(path for path in plan.live if os.path.exists(path)),
        locks=locks,
        signals=run.signals,
        ask_with=ASK_WITH,
        grace=GRACE_SECONDS,
        warn=run.warn,
    )
    held = stack.enter_context(frozen)
    return plan._replace(freeze=held.plan), held


def refuse_skewed(job: Job, instant: Instant) -> None:
    """Raise FreezeError for what is not proven to be one instant, if the job asks for that."""
    if job.require_one_instant and instant.proof is Proof.SKEWED:
        message = (
            f"the subvolumes were not frozen at one instant (up to {instant.hold_ms:.0f} ms apart),"
            " which require-one-instant asks for"
        )
        remedy = "try when less is written; several file systems never share an instant"
        raise FreezeError(message, remedy=remedy)


def _milliseconds(one: SnapshotSet) -> float:
    return round((one.ended - one.began) * 1000, 3)


def _only(config: Config, name: str) -> Config:
    """Return the part of the configuration that a job uses."""
    job = config.jobs[name]
    return msgspec.structs.replace(
        config,
        jobs={name: job},
        repositories={key: config.repositories[key] for key in job.repositories},
        notifications={key: config.notifications[key] for key in job.notify},
        metrics_directory="",  # what is wrong with it is said by who writes there
    )


def _note_left_out(run: Run, plan: JobPlan) -> None:
    left_out = plan.left_out
    run.left_out = tuple(LeftOutRecord(h.path, h.reason, h.remedy) for h in left_out)
    if named := [shown(hidden.path) for hidden in left_out if not hidden.is_system]:
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        run.say(f"left out: {', '.join(named[:_NAMED])}{more} (holdstill plan says why)")
