"""A run's part in its repositories: a backup to each, and its retention."""

from __future__ import annotations

import contextlib
import os
from signal import SIGINT

from holdstill import process
from holdstill.errors import CommandNotExecutableError, CommandNotFoundError, ViewError
from holdstill.jobs import verdict
from holdstill.linux import privileges
from holdstill.records.record import Failure, Outcome, Phase, RepositoryResult, RetentionResult
from holdstill.restic import outcome as restic_outcome
from holdstill.restic.client import BackupResult, Client, DistrustedSnapshotError
from holdstill.restic.commands import exclude_line
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdstill.config.model import Job
    from holdstill.freeze import Held
    from holdstill.jobs.plan import JobPlan, RepositoryPlan
    from holdstill.jobs.run import Run
    from holdstill.linux.signals import Signals
    from holdstill.linux.users import User
    from holdstill.restic.commands import Backup, Retention, Target
    from holdstill.restic.events import Status

ASK_WITH = SIGINT
"""Every restic removes its lock on this one; 0.14 dies of the others and leaves it behind."""
GRACE_SECONDS = 4.0
"""How long restic may take to stop; the whole clean-up is to be done within five seconds."""


def make_cache(path: str, user: User | None) -> None:
    """Make restic's cache, and the user's own, also where a run died before it was that.

    What goes wrong says restic's client, with its reason.
    """
    with contextlib.suppress(OSError):
        os.makedirs(path, 0o700, exist_ok=True)
        if user is not None and os.lstat(path).st_uid == os.geteuid():
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def back_up_all(run: Run, job: Job, plan: JobPlan, held: Held) -> list[RepositoryPlan]:
    """Write to each repository in turn; return those that have a good backup now."""
    done = []
    for repository in plan.repositories:
        if run.interrupted():
            break
        frozen = repository.frozen_at(held.instant.frozen_at)
        result = _suspected(run, job, _back_up(run, plan, frozen, held))
        run.repositories[result.name] = result
        if result.is_good:
            done.append(repository)
    return done


def _suspected(run: Run, job: Job, result: RepositoryResult) -> RepositoryResult:
    """Mark a backup that is clearly smaller than the last one: something may have been lost."""
    if result.outcome is not Outcome.OK or not job.minimum_percent:
        return result
    before = run.history.last_size(run.job, result.name)
    shrinkage = verdict.shrinkage(result, before, job.minimum_percent)
    if not shrinkage:
        return result
    waits = "" if job.keep is None else ", and its retention waits"
    run.warn(
        f"repository {result.name}: the backup is suspiciously small{waits}: {shrinkage}; "
        f"if that is right: holdstill backup {run.job} --accept-size"
    )
    return result._replace(suspicious=True)


def _back_up(run: Run, plan: JobPlan, repository: RepositoryPlan, held: Held) -> RepositoryResult:
    name = repository.target.name
    run.enter(Phase.BACKING_UP, name)
    run.say(f"backing up to {name}")

    def progress(status: Status) -> None:
        run.reporter.progress(run.job, name, status)

    try:
        with _last_word(plan, repository.backup) as (request, descriptors):
            view = held.view._replace(
                locks=(*held.view.locks, *descriptors), give_up=privileges.read_as(plan.user)
            )
            client = Client(view.run, plan.binary, plan.environment)
            found = client.backup(repository.target, request, progress, run.warn)
    except DistrustedSnapshotError as error:
        failure = _disown(run, plan, repository.target, error, held.view.locks)
        return RepositoryResult(name, Outcome.FAILED, failure=failure)
    except (ViewError, CommandNotFoundError, CommandNotExecutableError) as error:
        failure = Failure(error.message, error.remedy)
        return RepositoryResult(name, Outcome.FAILED, failure=failure)
    return _result(name, found)


def _disown(
    run: Run, plan: JobPlan, target: Target, error: DistrustedSnapshotError, locks: tuple[int, ...]
) -> Failure:
    """Remove what restic wrote: it would look like the latest good backup."""
    client = Client(Outside(run.signals, locks, plan.user), plan.binary, plan.environment)
    reading = client.disown(target, error.snapshot, run.warn)
    name = error.snapshot[:8]
    if reading.outcome is restic_outcome.Outcome.OK:
        return Failure(f"{error.message}; restic's snapshot {name} was removed", error.remedy)
    reason = reading.message or "restic does not say why"
    message = f"{error.message}; restic's snapshot {name} could not be removed: {reason}"
    return Failure(message, f"do not trust {name}, remove it: {target.reach} -- forget {name}")


@contextlib.contextmanager
def _last_word(plan: JobPlan, request: Backup) -> Iterator[tuple[Backup, tuple[int, ...]]]:
    """Repeat what is kept out in an exclude file behind the user's own, which restic reads last.

    A pattern there that begins with `!` would bring back what is live. Yields the request, and the
    descriptors that restic needs for it.
    """
    if not (request.exclude_files and plan.kept_out):
        yield request, ()
        return
    descriptor = os.memfd_create("holdstill-exclude")
    try:
        os.write(descriptor, os.fsencode("\n".join(map(exclude_line, plan.kept_out)) + "\n"))
        path = f"/proc/self/fd/{descriptor}"
        yield request._replace(exclude_files=(*request.exclude_files, path)), (descriptor,)
    finally:
        os.close(descriptor)


def _result(name: str, found: BackupResult) -> RepositoryResult:
    summary = found.summary
    return RepositoryResult(
        name=name,
        outcome=Outcome(found.outcome),
        snapshot_id=summary.snapshot_id,
        data_added=summary.data_added,
        data_added_packed=summary.data_added_packed,
        files_new=summary.files_new,
        files_changed=summary.files_changed,
        files_unmodified=summary.files_unmodified,
        dirs_new=summary.dirs_new,
        dirs_changed=summary.dirs_changed,
        dirs_unmodified=summary.dirs_unmodified,
        total_files=summary.total_files_processed,
        total_bytes=summary.total_bytes_processed,
        seconds=round(found.duration, 3),
        error_count=found.error_count,
        errors=tuple(error.described() for error in found.errors),
        failure=Failure(found.message, found.remedy) if found.message else None,
    )


def apply_retention(
    run: Run, plan: JobPlan, target: Target, retention: Retention, locks: tuple[int, ...]
) -> None:
    """Forget what the retention keeps no more, and prune if the job says so."""
    run.enter(Phase.RETENTION, target.name)
    run.say(f"applying the retention to {target.name}")
    client = Client(Outside(run.signals, locks, plan.user), plan.binary, plan.environment)
    found = client.forget(target, retention, run.warn)
    result = RetentionResult(
        outcome=Outcome(found.outcome),
        kept=found.kept,
        removed=found.removed,
        pruned=retention.prune,
        failure=Failure(found.message, found.remedy) if found.message else None,
    )
    run.repositories[target.name] = run.repositories[target.name]._replace(retention=result)


class Outside(NamedTuple):
    """Runs restic where nothing is frozen."""

    signals: Signals
    locks: tuple[int, ...]
    user: User | None

    def __call__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_stdout: process.OnLine,
        on_stderr: process.OnLine,
    ) -> process.Ended:
        """Run a program that ends when this one dies."""
        parent, give_up = os.getpid(), privileges.read_as(self.user)
        child = process.Child(
            environment=environment,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            before_exec=lambda: give_up(parent, ASK_WITH),
            keep_open=self.locks,
            signals=self.signals,
            ask_with=ASK_WITH,
            grace=GRACE_SECONDS,
        )
        return process.run(argv, child)
