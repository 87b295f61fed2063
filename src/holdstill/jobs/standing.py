"""How a job stands: from its runs on record and its timer to what `status` says of it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from holdstill.jobs.lock import is_held, lock_places
from holdstill.records.past import past
from holdstill.records.record import Outcome
from holdstill.systemd.timers import timers
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from holdstill.config.model import Config
    from holdstill.records.past import PastRun
    from holdstill.records.record import MaintenanceRecord
    from holdstill.systemd.timers import Timer

RUNNING = "running"
NEVER = "never"
SUCCESSES = 10
"""How many are looked at for the usual interval."""
_SLACK = timedelta(minutes=5)
"""From a timer's start of a unit to the run that it is."""
_SHORTEST = timedelta(days=1)
"""Of what counts as too long without a timer: several backups by hand are no schedule."""


class Facts(NamedTuple):
    """What is known of a job."""

    job: str
    last: PastRun | None
    """Its last run that was not skipped."""
    successes: Sequence[PastRun]
    """The last ones that were ok, the oldest first."""
    outcome: str
    """Of the last run, or RUNNING, or NEVER where there was none."""
    timer: Timer | None
    schedule: str
    maintenance: tuple[MaintenanceRecord, ...] = ()
    """The last prunes and checks of its repositories that have failed."""


class Standing(NamedTuple):
    """How a job stands."""

    job: str
    last: PastRun | None
    last_ok: PastRun | None
    outcome: str
    next_start: datetime | None
    overdue: str
    """Why there should have been a success by now; empty where it is not so."""
    maintenance: tuple[MaintenanceRecord, ...] = ()
    """Failed prunes and checks that none has been well since."""

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self.outcome == RUNNING

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look."""
        return bool(self.overdue or self.maintenance) or self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether the last run was not ok."""
        return self.outcome not in {Outcome.OK, RUNNING, NEVER}


def observe(config: Config, now: datetime) -> list[Standing]:
    """Look at the history, the locks and the timers of all jobs; starts one process.

    Raises HistoryError, NotPermittedError.
    """
    active = timers(tuple(config.jobs))
    with past(config.state_directory) as runs:
        facts = [
            Facts(
                job=name,
                last=last,
                successes=runs.last_ok(name, SUCCESSES),
                outcome=outcome_of(config, last) if last is not None else NEVER,
                timer=active.get(name),
                schedule=job.schedule,
                maintenance=tuple(
                    one
                    for one in runs.failed_maintenance(name)
                    if one.repository in job.repositories
                ),
            )
            for name, job in config.jobs.items()
            for last in [runs.last_tried(name)]
        ]
    return [standing(one, now) for one in facts]


def outcome_of(config: Config, run: PastRun) -> str:
    """Return how a run ended: `running` while it has not and its job's lock says that it lives."""
    if run.outcome is not None:
        return run.outcome
    return RUNNING if is_held(lock_places(config), run.job) else Outcome.INTERRUPTED


def standing(facts: Facts, now: datetime) -> Standing:
    """Judge a job."""
    return Standing(
        job=facts.job,
        last=facts.last,
        last_ok=facts.successes[-1] if facts.successes else None,
        outcome=facts.outcome,
        next_start=facts.timer.next_start if facts.timer is not None else None,
        overdue="" if facts.outcome == RUNNING else _overdue(facts, now),
        maintenance=facts.maintenance,
    )


def _overdue(facts: Facts, now: datetime) -> str:
    """With a timer: what it started should have succeeded. Without: much more than usual."""
    if facts.timer is not None:
        return _overdue_by_timer(facts, facts.timer, now)
    if not facts.schedule or not facts.successes:
        return ""
    starts = [run.started for run in facts.successes]
    gaps = sorted(later - one for one, later in pairwise(starts))
    usual = gaps[len(gaps) // 2] if gaps else _SHORTEST
    longest = max(2 * usual, _SHORTEST)
    if now - starts[-1] <= longest:
        return ""
    return "no success for more than twice the usual interval, and no active timer"


def _overdue_by_timer(facts: Facts, timer: Timer, now: datetime) -> str:
    if timer.next_start is not None and now - timer.next_start > _SLACK:
        return "its timer should have started it"
    finished = [run.finished for run in facts.successes if run.finished is not None]
    if timer.last_start is None or now - timer.last_start <= _SLACK:
        return ""
    # A run by hand that was still going on counts: the timer's own was skipped then.
    if finished and finished[-1] >= timer.last_start:
        return ""
    return "no run has succeeded since its timer started it"
