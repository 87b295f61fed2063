"""`holdstill status`: how all jobs stand, on one screen."""

from __future__ import annotations

from datetime import UTC, datetime

from holdstill.cli.options import HelpFormatter, add_config_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import Any

    from holdstill.jobs.standing import Standing
    from holdstill.snapshots.model import Leftover

_DESCRIPTION = """\
Show for each job how long ago it last succeeded, how its last run ended, how long that took and
what it added, and when systemd's timer starts it next; then what needs attention, such as a prune
or a check that failed and has not been repeated with success, and the snapshots that dead runs have
left (only root sees those).

A job with a timer is overdue when no run has succeeded since the timer last started it. A job with
a `schedule` and no active timer is overdue when its last success is longer ago than twice the usual
interval between its last successes, and than a day. Other jobs never are.
"""

_EPILOG = """\
exit status:
  0   every job's last run was ok, or goes on; none is overdue
  1   a job's last run was not ok, or a job is overdue, or its last prune or
      check failed; or the history cannot be read
  2   wrong command line
  77  not permitted
  78  configuration error
"""

_HEAD = ("JOB", "LAST OK", "OUTCOME", "TOOK", "ADDED", "NEXT START")
_WARNINGS_SHOWN = 3


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "status",
        help="show how all jobs stand",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, print, and say by the exit status whether somebody should."""
    from holdstill.cli.options import load_config
    from holdstill.jobs.standing import observe

    config = load_config(arguments)
    now = datetime.now(UTC)
    standings = observe(config, now)
    leftovers, problems = _left_over()
    if arguments.json:
        print(_json(standings, leftovers, problems))
    else:
        _print(standings, leftovers, problems, now)
    return 1 if any(one.is_bad for one in standings) else 0


def _left_over() -> tuple[Sequence[Leftover] | None, Sequence[str]]:
    """Return what dead runs have left, None where that cannot be seen; and what else lies there."""
    from holdstill.cli.messages import warn
    from holdstill.errors import NotPermittedError
    from holdstill.linux import privileges
    from holdstill.snapshots.everywhere import sweep_all
    from holdstill.snapshots.turn import Turn

    found: list[Leftover] = []
    try:
        privileges.require()
    except NotPermittedError:
        return None, ()
    problems = sweep_all(found.append, remove=False, turn=Turn(warn=warn))
    return found, problems


def _print(
    standings: Sequence[Standing],
    leftovers: Sequence[Leftover] | None,
    problems: Sequence[str],
    now: datetime,
) -> None:
    from holdstill.cli.format import QUIET, WARNING, styled, table
    from holdstill.cli.options import wants_colour

    styles = [QUIET, *(_style(one) for one in standings)]
    notes = [(_style(one), note) for one in standings for note in _notes(one, now)]
    notes += [(WARNING, note) for note in (*_leftover_notes(leftovers), *problems)]
    coloured = wants_colour()
    rows = [_HEAD, *(_row(one, now) for one in standings)]
    lines = [*table(rows, styles if coloured else ()), *([""] if notes else [])]
    lines += (styled(note, style if coloured else "") for style, note in notes)
    print("\n".join(lines))


def _style(one: Standing) -> str:
    from holdstill.cli.format import BAD, GOOD, WARNING

    if one.is_bad:
        return BAD
    if one.last is None or one.is_running:
        return ""
    return WARNING if one.last.record["warnings"] else GOOD


def _row(one: Standing, now: datetime) -> tuple[str, ...]:
    from holdstill.cli.format import age, duration, size

    last, next_start = one.last, one.next_start
    seconds = None if last is None else last.seconds
    ended = last is not None and last.finished is not None
    if last is not None and one.is_running:
        seconds = (now - last.started).total_seconds()
    return (
        one.job,
        "-" if one.last_ok is None else age(_since(one.last_ok.started, now)) + " ago",
        one.outcome,
        "-" if seconds is None else duration(seconds),
        size(last.added) if last is not None and ended else "-",
        "-" if next_start is None else "in " + age(-_since(next_start, now)),
    )


def _since(instant: datetime, now: datetime) -> float:
    return (now - instant).total_seconds()


def _notes(one: Standing, now: datetime) -> Iterator[str]:
    """Yield what needs attention."""
    from holdstill.cli.format import age

    if one.overdue and one.outcome in {"ok", "never"}:
        yield f"{one.job}: overdue: {one.overdue}"
    yield from _maintenance_notes(one, now)
    if one.last is None:
        return
    phases = one.last.record["phases"]
    at = " ".join(filter(None, (phases[-1]["name"], phases[-1]["repository"]))) if phases else ""
    if one.is_running:
        yield f"{one.job}: running" + (f": {at}" if at else "")
    elif one.outcome != "ok":
        ago = age(_since(one.last.started, now))
        died = f" while {at}" if at and one.last.finished is None else ""
        yield f"{one.job}: {one.outcome}{died}, {ago} ago"
    for failure in one.last.failures:
        yield f"  {failure['message']}"
        if failure["remedy"]:
            yield f"    {failure['remedy']}"
    warnings = one.last.record["warnings"]
    yield from (f"{one.job}: warning: {text}" for text in warnings[:_WARNINGS_SHOWN])
    if len(warnings) > _WARNINGS_SHOWN:
        more = len(warnings) - _WARNINGS_SHOWN
        yield f"{one.job}: {more} more: holdstill history --json --limit 1 {one.job}"


def _maintenance_notes(one: Standing, now: datetime) -> Iterator[str]:
    from holdstill.cli.format import age

    for done in one.maintenance:
        ago = age(_since(done.finished, now))
        yield f"{one.job}: {done.kind} of {done.repository} failed, {ago} ago"
        message, remedy = done.failure or ("", "")
        yield f"  {message}"
        yield f"    {remedy or f'holdstill maintain {done.kind} {one.job}'}"


def _leftover_notes(leftovers: Sequence[Leftover] | None) -> Iterator[str]:
    from holdstill.cli.format import count
    from holdstill.errors import shown

    if leftovers is None:
        yield "leftovers: ? (only root sees them)"
        return
    for one in leftovers:
        what = count(len(one.snapshots), "snapshot")
        yield f"leftover: {what} of the dead run {one.run} on {shown(one.device)}"
    if leftovers:
        yield "  holdstill sweep"


def _json(
    standings: Sequence[Standing], leftovers: Sequence[Leftover] | None, problems: Sequence[str]
) -> str:
    from holdstill.records.json_text import text_of
    from holdstill.records.record import plain

    left = None if leftovers is None else [plain(one) for one in leftovers]
    jobs = [_job(one) for one in standings]
    return text_of({"jobs": jobs, "leftovers": left, "problems": list(problems)})


def _job(one: Standing) -> dict[str, Any]:
    from holdstill.records.record import plain

    return {
        "job": one.job,
        "outcome": one.outcome,
        "overdue": one.overdue or None,
        "last_ok": plain(one.last_ok.started) if one.last_ok is not None else None,
        "next_start": plain(one.next_start),
        "failed_maintenance": plain(one.maintenance),
        "last": None if one.last is None else one.last.ended_as(one.outcome).record,
    }
