"""What earlier runs have left, on the disks and on record; and what starts the next."""

from __future__ import annotations

from datetime import UTC, datetime

from holdstill.errors import shown
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.jobs.checkup.machine import moment
from holdstill.jobs.standing import NEVER, observe
from holdstill.records.past import past
from holdstill.snapshots.everywhere import sweep_all
from holdstill.snapshots.turn import Turn
from holdstill.systemd.timers import timer_name, timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding
    from holdstill.jobs.standing import Standing
    from holdstill.linux.signals import Signals
    from holdstill.snapshots.model import Leftover
    from holdstill.systemd.timers import Timer


def leftovers(signals: Signals) -> Iterator[Finding]:
    """Look for what dead runs have left on the disks, and leave it there."""
    found: list[Leftover] = []
    problems = sweep_all(found.append, remove=False, turn=Turn(signals))
    yield from judge_leftovers(found, problems)


def judge_leftovers(found: Sequence[Leftover], problems: Sequence[str]) -> Iterator[Finding]:
    """Judge it: the next run sweeps what is ours."""
    about = About(Check.LEFTOVERS)
    for one in found:
        many = "" if len(one.snapshots) == 1 else "s"
        text = f"{len(one.snapshots)} snapshot{many} of the dead run {one.run} on"
        yield about.warning(f"{text} {shown(one.device)}", remedies.SWEEP)
    for problem in problems:
        yield about.warning(problem, remedies.LOOK_AT_IT)
    if not found and not problems:
        yield about.ok("none")


def records(config: Config, now: datetime) -> Iterator[Finding]:
    """Read the history, all of it, and what it says of each job; raises HistoryError."""
    with past(config.state_directory) as runs:
        runs.check()
    for standing in observe(config, now):
        yield judge_standing(standing)
        yield from judge_maintenance(standing)


def judge_standing(found: Standing) -> Finding:
    """Judge how a job has done lately."""
    about, remedy = About(Check.RECORDS, found.job), remedies.HISTORY.format(job=found.job)
    if found.overdue:
        return about.warning(f"overdue: {found.overdue}", remedy)
    if found.last is None or found.outcome == NEVER:
        return about.ok("no run yet")
    text = f"{found.outcome}, {moment(found.last.started)}"
    if not found.has_failed:
        return about.ok(text)
    failure = next(iter(found.last.failures), None)
    why = f": {failure['message']}" if failure else ""
    return about.warning(f"{text}{why}", (failure["remedy"] if failure else "") or remedy)


def judge_maintenance(found: Standing) -> Iterator[Finding]:
    """Judge what has become of pruning and checking a job's repositories."""
    about = About(Check.RECORDS, found.job)
    for one in found.maintenance:
        text = f"{one.kind} of {one.repository} failed, {moment(one.finished)}"
        message, remedy = one.failure or ("", "")
        again = remedies.MAINTAIN.format(kind=one.kind, job=found.job)
        yield about.warning(f"{text}: {message}", remedy or again)


def timers_of(config: Config) -> Iterator[Finding]:
    """Ask systemd what starts each job; starts one process."""
    active = timers(tuple(config.jobs))
    for name, job in config.jobs.items():
        yield judge_timer(name, active.get(name), job.schedule, datetime.now(UTC))


def judge_timer(job: str, timer: Timer | None, schedule: str, now: datetime) -> Finding:
    """Judge what starts a job, if anything does."""
    about, name = About(Check.TIMER, job), timer_name(job)
    if timer is None and schedule:
        text = f"its schedule is {shown(schedule)}, and it has no active timer"
        return about.warning(text, remedies.SCHEDULE.format(job=job))
    if timer is None:
        text = "no schedule and no timer: nothing that is known here starts it"
        return about.warning(text, remedies.NO_SCHEDULE.format(job=job))
    if timer.next_start is None:
        return about.warning("active, and never starts it", remedies.CALENDAR.format(timer=name))
    text = f"next start {moment(max(timer.next_start, now))}"
    if not timer.stays:
        text = f"{text}, and not enabled: it is gone when the machine starts anew"
        return about.warning(text, remedies.ENABLE.format(timer=name))
    return about.ok(text)
