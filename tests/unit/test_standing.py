"""How jobs stand: which is bad, and which is overdue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdstill.jobs.standing import NEVER, RUNNING, Facts, standing
from holdstill.records.past import PastRun
from holdstill.records.record import Outcome, RunRecord, plain
from holdstill.systemd.timers import Timer, parse

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def _run(ago: timedelta, took: timedelta = HOUR) -> PastRun:
    started = NOW - ago
    record: dict[str, Any] = plain(RunRecord("home", "run", Outcome.OK, 0, started, started + took))
    return PastRun("run", "home", started, Outcome.OK, record)


def _facts(
    *successes: PastRun, outcome: str = "ok", timer: Timer | None = None, schedule: str = ""
) -> Facts:
    last = successes[-1] if successes else None
    return Facts("home", last, successes, outcome, timer, schedule)


def _timer(last: timedelta | None, following: timedelta | None = 9 * HOUR) -> Timer:
    return Timer(
        None if following is None else NOW + following, None if last is None else NOW - last
    )


@pytest.mark.parametrize(
    ("outcome", "bad"),
    [
        (Outcome.OK, False),
        (RUNNING, False),
        (NEVER, False),
        (Outcome.PARTIAL, True),
        (Outcome.FAILED, True),
        (Outcome.INTERRUPTED, True),
    ],
)
def test_whatever_is_not_ok_is_bad(outcome: str, bad: bool) -> None:
    """Partial is not ok."""
    assert standing(_facts(_run(HOUR), outcome=outcome), NOW).is_bad is bad


@pytest.mark.parametrize(
    ("successes", "timer", "overdue"),
    [
        ((), _timer(None), False),
        ((), _timer(9 * HOUR), True),
        ((), _timer(timedelta(minutes=1)), False),
        ((9 * HOUR,), _timer(9 * HOUR), False),
        ((33 * HOUR,), _timer(9 * HOUR), True),
        ((9.5 * HOUR,), _timer(9 * HOUR), False),
        ((33 * HOUR, 2 * HOUR), _timer(9 * HOUR), False),
        ((9 * HOUR,), _timer(9 * HOUR, -HOUR), True),
        ((9 * HOUR,), _timer(9 * HOUR, None), False),
    ],
)
def test_what_a_timer_starts_has_to_succeed(
    successes: tuple[timedelta, ...], timer: Timer, overdue: bool
) -> None:
    """Also by hand, or by a run that was still going on when the timer came."""
    facts = _facts(*map(_run, successes), timer=timer)
    assert bool(standing(facts, NOW).overdue) is overdue


@pytest.mark.parametrize(
    ("days", "overdue"),
    [
        ((), False),
        ((1.5,), False),
        ((2.5,), True),
        ((5, 4, 3, 1.9), False),
        ((6, 5, 4, 3), True),
        ((30, 23, 16, 9), False),
        ((40, 33, 26, 19), True),
        ((0.97, 0.96, 0.95), False),
    ],
)
def test_without_a_timer_twice_the_usual_interval_is_too_long(
    days: tuple[float, ...], overdue: bool
) -> None:
    """At least a day, so that some backups by hand are no schedule."""
    successes = [_run(day * DAY) for day in days]
    assert bool(standing(_facts(*successes, schedule="daily"), NOW).overdue) is overdue
    assert standing(_facts(*successes), NOW).overdue == ""


def test_a_running_job_is_never_overdue() -> None:
    """It is being done."""
    facts = _facts(_run(90 * DAY), timer=_timer(9 * HOUR), outcome=RUNNING)
    assert (standing(facts, NOW).overdue, standing(facts, NOW).is_bad) == ("", False)


SHOWN = """\
NextElapseUSecRealtime=Mon 2026-11-23 03:00:00 UTC
LastTriggerUSec=Sun 2026-11-22 03:00:07 UTC
Id=holdstill@home.timer
ActiveState=active

NextElapseUSecRealtime=
LastTriggerUSec=n/a
Id=holdstill@work.timer
ActiveState=active

NextElapseUSecRealtime=
LastTriggerUSec=
Id=holdstill@none.timer
ActiveState=inactive
"""


def test_reads_what_systemctl_shows() -> None:
    """A block for each timer; one that is not active is none."""
    assert parse(SHOWN) == {
        "holdstill@home.timer": Timer(
            datetime(2026, 11, 23, 3, tzinfo=UTC), datetime(2026, 11, 22, 3, 0, 7, tzinfo=UTC)
        ),
        "holdstill@work.timer": Timer(None, None),
    }


@pytest.mark.parametrize("text", ["", "\n\n", "Failed to connect to bus", "a=b\n\n=\n"])
def test_what_is_no_answer_has_no_timers(text: str) -> None:
    """As on a machine where systemd is not in charge."""
    assert parse(text) == {}
