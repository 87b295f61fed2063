"""A dry freeze: everything that a run of a job does before restic reads, and then undone."""

from __future__ import annotations

import os

from holdstill.errors import ChangedError, HoldstillError, shown
from holdstill.freeze import hold, settled
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.jobs.checkup.repositories import missing_credential
from holdstill.jobs.lock import is_held, lock_places
from holdstill.jobs.preview import preview
from holdstill.jobs.repository import ASK_WITH, GRACE_SECONDS
from holdstill.jobs.run import refuse_skewed
from holdstill.linux import privileges
from holdstill.restic.commands import passthrough
from holdstill.snapshots.staging import new_run
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdstill.config.model import Config
    from holdstill.freeze import Held
    from holdstill.jobs.checkup.finding import Finding
    from holdstill.jobs.plan import JobPlan
    from holdstill.jobs.preview import Preview
    from holdstill.linux.signals import Signals
    from holdstill.process import Ended


class Trial(NamedTuple):
    """A job to be tried."""

    config: Config
    job: str
    environment: Mapping[str, str]
    signals: Signals

    @property
    def about(self) -> About:
        """What its findings are about."""
        return About(Check.JOB, self.job)


def dry_freeze(trial: Trial) -> Iterator[Finding]:
    """Plan a job, freeze it, let restic start in the view, and remove the snapshots.

    Not while a run of it is active. The job's lock is not taken: a run that begins meanwhile must
    not be skipped for this, and two freezes do not disturb each other. Raises HoldstillError.
    """
    about = trial.about
    if is_held(lock_places(trial.config), trial.job):
        yield about.warning("not tried: a run of it is active", remedies.ACTIVE)
    elif missing := missing_credential(trial.config, trial.job):
        yield about.warning("not tried: only its unit has the credential", missing)
    else:
        yield from settled(lambda: _attempt(trial))


def _attempt(trial: Trial) -> list[Finding]:
    found = preview(trial.config, trial.job, trial.environment, trial.signals)
    said = [*_of_preview(trial.about, found)]
    if found.plan is None or found.failures:
        return said
    warnings: list[str] = []
    try:
        said += _frozen(trial, found.plan, warnings)
    except ChangedError:
        raise  # the next attempt plans anew
    except HoldstillError as error:
        said.append(trial.about.failure(error))
    return [*said, *(trial.about.warning(text) for text in warnings)]


def _of_preview(about: About, found: Preview) -> Iterator[Finding]:
    yield from (about.failure(one) for one in found.failures)
    yield from (about.warning(text) for text in found.warnings)
    for note in found.notes:
        if not note.is_fatal:
            yield about.warning(f"{shown(note.path)}: {note.text}", note.remedy)


def _frozen(trial: Trial, plan: JobPlan, warnings: list[str]) -> Iterator[Finding]:
    frozen = hold(
        plan.freeze,
        new_run(),
        live=tuple(path for path in plan.live if os.path.exists(path)),
        signals=trial.signals,
        ask_with=ASK_WITH,
        grace=GRACE_SECONDS,
        sweeps=False,  # what a dead run has left is reported, and stays
        warn=warnings.append,
    )
    with frozen as held:
        refuse_skewed(trial.config.jobs[trial.job], held.instant)
        said: list[bytes] = []
        ended = _start_restic(plan, held, said)
    if trial.signals.expired:
        yield trial.about.error("the dry freeze was not over in time", remedies.HUNG)
    elif ended.status:
        words = shown(os.fsdecode(b" ".join(said[:1])))
        text = f"restic does not start in the view (status {ended.status}): {words}"
        yield trial.about.error(text, remedies.ANOTHER_RESTIC)
    else:
        yield trial.about.ok(_summary(held, plan))


def _start_restic(plan: JobPlan, held: Held, said: list[bytes]) -> Ended:
    """Let restic say its version: as who it runs in a backup, with its environment, in the view."""
    target = plan.repositories[0].target._replace(lock_wait=0)
    command = passthrough(plan.binary, target, ["version"], plan.environment)
    view = held.view._replace(give_up=privileges.read_as(plan.user))
    return view.run(
        command.argv,
        environment=command.environment,
        on_stdout=lambda _: None,
        on_stderr=said.append,
    )


def _summary(held: Held, plan: JobPlan) -> str:
    count = len(held.instant.snapshots)
    text = f"frozen in {held.instant.hold_ms:.0f} ms: {count} snapshot{'' if count == 1 else 's'}"
    if count > 1:
        text += f" ({held.instant.proof})"
    hidden = sum(not one.is_system for one in plan.left_out)
    return f"{text}, {hidden} left out (holdstill plan)" if hidden else text
