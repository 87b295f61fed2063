"""`holdstill schedule`: systemd's timers for the jobs."""

from __future__ import annotations

import os

from holdstill.cli.options import (
    HelpFormatter,
    add_config_option,
    add_jobs_argument,
    program_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from holdstill.jobs.schedule import Plan, Row
    from holdstill.systemd.unit_files import Action

_DESCRIPTION = """\
Let systemd start jobs when their `schedule` says. Each job with a schedule gets a timer; pruning
and checking get timers of their own where the job has schedules for them.
"""

_INSTALL = """\
Write, show and enable the units, in /etc/systemd/system: a template service, and for each job a
timer and a drop-in. Units of jobs that have no schedule any more, or are gone, are removed.
Where nothing has changed, nothing is done.

Change them with `systemctl edit`, which writes beside them: a file that was edited itself is kept
as it is, and named.
"""

_SHOW = """\
Show for each job when its timer starts it next, when it last has, and how its units stand.
"""

_REMOVE = """\
Stop the timers and remove all units that `schedule install` has written, of every job. Drop-ins of
others stay, and so does a file that was edited.
"""

_INSTALL_STATUS = """\
exit status:
  0   all units are as the configuration says, and enabled
  1   a unit is not ours to change, or systemd refused; or there is no systemd
  2   wrong command line
  77  not permitted
  78  configuration error, such as a schedule that systemd cannot read
"""

_SHOW_STATUS = """\
exit status:
  0   everything that has a schedule waits for it, or runs
  1   something is not installed, out of date, stale, off, or has failed; or there is no systemd
  2   wrong command line
  78  configuration error
"""

_REMOVE_STATUS = """\
exit status:
  0   nothing of ours is left
  1   a unit was edited and is kept, or systemd refused; or there is no systemd
  2   wrong command line
  77  not permitted
"""

_STATUS = """\
exit status:
  see the help text of each action
"""

_HEAD = ("JOB", "WORK", "SCHEDULE", "NEXT", "LAST", "UNITS")
_ACTION_STATUS = {"install": _INSTALL_STATUS, "show": _SHOW_STATUS, "remove": _REMOVE_STATUS}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    parser = commands.add_parser(
        "schedule",
        help="let systemd start the jobs",
        description=_DESCRIPTION,
        epilog=_STATUS,
        formatter_class=HelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    install = _add_action(actions, "install", "write and enable the units", _INSTALL)
    add_jobs_argument(install)
    show = _add_action(actions, "show", "show how they stand", _SHOW)
    show.add_argument("--json", action="store_true", help="print one JSON object")
    remove = _add_action(actions, "remove", "stop the timers and remove the units", _REMOVE)
    for one in (install, show):
        add_config_option(one)
    for one in (install, remove):
        one.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=_ACTION_STATUS[name],
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run, action=name)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    _require_systemd()
    actions = {"install": install, "show": _show, "remove": _remove}
    return actions[arguments.action](arguments)


def _require_systemd() -> None:
    from holdstill.errors import ProgramError
    from holdstill.systemd.control import is_in_charge

    if not is_in_charge():
        line = f"0 3 * * * root {' '.join(program_words())} backup"
        message = "systemd does not run this machine (there is no /run/systemd/system)"
        raise ProgramError(
            message, remedy=f"let cron start the jobs, with a line in /etc/cron.d/holdstill: {line}"
        )


def _require_root() -> None:
    from holdstill.errors import NotPermittedError

    if os.geteuid() != 0:
        message = "writing systemd's units needs root"
        raise NotPermittedError(message, remedy="run it with sudo")


def _program(arguments: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words of a command line with its configuration, and the paths in them."""
    from holdstill.config.load import DEFAULT_FILE, locate

    config = os.path.abspath(locate(getattr(arguments, "config", None), os.environ))
    option = () if config == DEFAULT_FILE else ("--config", config)
    words = program_words()
    return (*words, *option), (words[0], config)


def install(arguments: argparse.Namespace) -> int:
    """Write and enable the units of `jobs` (all if none is named), unless it is a `dry_run`."""
    from holdstill.cli.options import chosen_jobs, load_config
    from holdstill.errors import ConfigurationError
    from holdstill.jobs import schedule
    from holdstill.systemd.unit_files import observe

    _require_root()
    config = load_config(arguments)
    chosen = chosen_jobs(arguments, config)
    program, used = _program(arguments)
    works = schedule.works(config, used)
    mine = [work for work in works if work.job in chosen]
    unscheduled = set(chosen) - {work.job for work in mine}
    if arguments.jobs and unscheduled:
        message = f"job {min(unscheduled)} has no schedule"
        raise ConfigurationError(message, remedy='give it one, like schedule = "*-*-* 03:00:00"')
    schedule.refuse_bad_calendars(mine)
    schedule.refuse_missing_credentials(mine)
    found = observe()
    schedule.refuse_other_configuration(used[-1], found)
    plan = schedule.plan_install(works, chosen, program, found)
    if not mine and not plan.actions:
        message = "no job has a schedule"
        raise ConfigurationError(message, remedy='give one, like schedule = "*-*-* 03:00:00"')
    status = _carry_out(plan, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        print()
        _print_table(schedule.observe(config, program, used))
    return status


def _remove(arguments: argparse.Namespace) -> int:
    from holdstill.jobs import schedule
    from holdstill.systemd.unit_files import observe

    _require_root()
    plan = schedule.plan_removal(observe())
    if not plan.actions:
        print("nothing to remove")
    return _carry_out(plan, dry_run=arguments.dry_run)


def _carry_out(plan: Plan, *, dry_run: bool) -> int:
    """Execute a plan, or only print it; return the exit status."""
    from holdstill.cli.messages import say_failure
    from holdstill.errors import shown
    from holdstill.jobs import schedule
    from holdstill.systemd.unit_files import DIRECTORY, State

    if dry_run:
        for action in plan.actions:
            print("\n".join(_previewed(action)))
    else:
        schedule.execute(plan, lambda action: print(_done(action)))
    for action in plan.kept:
        path = shown(f"{DIRECTORY}/{action.path}")
        what = "was edited by hand" if action.state is State.EDITED else "is not holdstill's"
        remedy = schedule.edited_remedy(action.path) if plan.enable else f"remove it: rm {path}"
        say_failure(f"{path} {what}: it is kept", remedy)
    return 1 if plan.kept else 0


def _done(action: Action) -> str:
    from holdstill.errors import shown
    from holdstill.systemd.unit_files import DIRECTORY, Deed

    words = {
        Deed.WRITE: "wrote",
        Deed.REMOVE: "removed",
        Deed.UNCHANGED: "unchanged",
        Deed.KEEP: "kept",
    }
    return f"{words[action.deed]:<9}  {shown(f'{DIRECTORY}/{action.path}')}"


def _previewed(action: Action) -> Iterator[str]:
    from holdstill.errors import shown
    from holdstill.systemd.unit_files import DIRECTORY, Deed, marked

    words = {Deed.WRITE: "would write", Deed.REMOVE: "would remove"}
    yield f"{words.get(action.deed, action.deed):<12}  {shown(f'{DIRECTORY}/{action.path}')}"
    if action.deed is Deed.WRITE:
        yield from (f"  {line}".rstrip() for line in marked(action.text).splitlines())


def _show(arguments: argparse.Namespace) -> int:
    from holdstill.cli.options import load_config
    from holdstill.jobs import schedule

    config = load_config(arguments)
    rows = schedule.observe(config, *_program(arguments))
    if arguments.json:
        import json

        from holdstill.records.record import plain

        print(json.dumps({"timers": [plain(row) for row in rows]}))
    else:
        _print_table(rows)
    return 1 if any(row.is_bad for row in rows) else 0


def _print_table(rows: Sequence[Row]) -> None:
    from datetime import UTC, datetime

    from holdstill.cli.format import QUIET, table
    from holdstill.cli.options import wants_colour

    now = datetime.now(UTC)
    coloured = wants_colour()
    styles = [QUIET, *map(_style, rows)] if coloured else []
    lines = list(table([_HEAD, *(_cells(row, now) for row in rows)], styles))
    lines += ["", *(f"{r.job}: {r.kind}: {r.state}: {r.remedy}" for r in rows if r.remedy)]
    print("\n".join(lines).rstrip())


def _style(row: Row) -> str:
    from holdstill.cli.format import BAD, GOOD, QUIET

    if not row.schedule:
        return QUIET
    return BAD if row.is_bad else GOOD


def _cells(row: Row, now: datetime) -> tuple[str, ...]:
    from holdstill.cli.format import age

    coming, past = row.next_start, row.last_start
    return (
        row.job,
        row.kind or "-",
        row.schedule or "-",
        "-" if coming is None else "in " + age((coming - now).total_seconds()),
        "-" if past is None else age((now - past).total_seconds()) + " ago",
        row.state,
    )
