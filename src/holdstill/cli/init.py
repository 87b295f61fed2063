"""`holdstill init`: from nothing to a configuration, a repository, and the first backup."""

from __future__ import annotations

import argparse
import os
import re
import sys

from holdstill.cli.options import HelpFormatter, add_config_option, program_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.cli.interview import Made
    from holdstill.cli.questions import Questions
    from holdstill.config.upkeep import Keep

_DESCRIPTION = """\
Look at this machine's mounts, propose what can be frozen and backed up, and write a first
configuration. The repository is created, or opened if there is one. What is missing is asked for on
a terminal; nothing is written before everything is known. No file is ever overwritten unasked.
"""

_EPILOG = """\
examples:
  holdstill init
  holdstill init --repository sftp:backup@nas:/srv/restic --yes
  holdstill init --path /srv/data --repository /mnt/disk/restic --dry-run
  holdstill init --from-env /etc/restic/backup.env

exit status:
  0   ok: the repository was opened or created, the configuration is written
  1   nothing can be frozen, the repository cannot be used, a file cannot be
      written, or the last answer was no
  2   wrong command line, or something is missing that cannot be asked for
  77  not permitted
  78  a configuration is there already, or the environment file cannot be
      translated
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "init",
        help="write a first configuration and create the repository",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_config_option(parser)
    add = parser.add_argument
    add(
        "--path",
        metavar="PATH",
        action="append",
        default=[],
        help="what to back up, instead of what is proposed; may be given several times",
    )
    add("--job", metavar="NAME", type=_name, help="call the job this, and make only one")
    add(
        "--repository",
        metavar="URL",
        type=_url,
        help="where to: what restic's --repo takes, without a password",
    )
    add(
        "--environment-file",
        metavar="FILE",
        help="variables that restic needs for the repository, as for systemd's EnvironmentFile=",
    )
    password = parser.add_mutually_exclusive_group()
    password.add_argument(
        "--password-file", metavar="FILE", help="the file that holds the repository's password"
    )
    password.add_argument(
        "--generate-password",
        action="store_true",
        help="make a password for a new repository, and store it beside the configuration",
    )
    add(
        "--keep",
        metavar="UNIT=N,...",
        type=_keep,
        default=argparse.SUPPRESS,
        help="how many backups stay (default: last=3,daily=14,weekly=8,monthly=12), or everything",
    )
    add(
        "--schedule",
        metavar="CALENDAR",
        type=_calendar,
        default=argparse.SUPPRESS,
        help="when, as a systemd calendar (default: *-*-* 03:00:00), or never",
    )
    add(
        "--from-env",
        metavar="FILE",
        help="go on where a shell script was, whose environment file this is: BACKUP_PATHS, "
        "BACKUP_EXCLUDES, RETENTION_DAYS and so on, and restic's own variables",
    )
    add(
        "--output",
        metavar="FILE",
        help="where the configuration is written (default: where it is looked for)",
    )
    add("--replace", action="store_true", help="replace the configuration that is there")
    add("--yes", action="store_true", help="ask nothing: take what is proposed")
    add("--dry-run", action="store_true", help="print the configuration and do nothing")
    parser.set_defaults(run=run)


def _name(text: str) -> str:
    from holdstill.config.rules import name_complaint

    if complaint := name_complaint(text):
        raise argparse.ArgumentTypeError(complaint)
    return text


def _url(text: str) -> str:
    from holdstill.cli.interview import url_complaint
    from holdstill.locations import without_password

    if without_password(text) != text:
        message = "a password there shows to every user of this machine: put it into the file that "
        raise argparse.ArgumentTypeError(message + "--environment-file names, or answer questions")
    if complaint := url_complaint(text):
        raise argparse.ArgumentTypeError(complaint)
    return text


def _keep(text: str) -> Keep | None:
    from msgspec.structs import replace

    from holdstill.config.rules import COUNTS
    from holdstill.config.upkeep import HIGHEST_COUNT, Keep

    if text == "everything":
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        unit, _, number = part.strip().partition("=")
        if unit not in COUNTS or not re.fullmatch("[0-9]{1,9}", number):
            units = ", ".join(COUNTS)
            raise argparse.ArgumentTypeError(f"{part!r} is not UNIT=N with a unit of {units}")
        found[unit] = min(int(number), HIGHEST_COUNT)
    if not any(found.values()):
        raise argparse.ArgumentTypeError("that would keep nothing")
    return replace(Keep(), **found)


def _calendar(text: str) -> str:
    if not text.isprintable() or not text:
        raise argparse.ArgumentTypeError("must be one line of printable text")
    return "" if text == "never" else text


def run(arguments: argparse.Namespace) -> int:
    """Set the machine up; raises what cannot be done."""
    from holdstill.cli import interview
    from holdstill.cli.messages import say
    from holdstill.cli.questions import Questions
    from holdstill.config.load import locate
    from holdstill.config.store import in_the_way, refuse_shared
    from holdstill.linux import privileges

    privileges.require()
    chosen = arguments.output or locate(getattr(arguments, "config", None), os.environ)
    output = os.path.abspath(chosen)
    if os.path.lexists(output) and not (arguments.replace or arguments.dry_run):
        raise in_the_way(output)
    if os.path.isdir(os.path.dirname(output)):
        refuse_shared(os.path.dirname(output))
    questions = Questions(possible=_is_terminal() and not arguments.yes)
    if arguments.from_env:
        made = interview.from_origin(arguments)
    else:
        made = interview.from_machine(arguments, questions, output)
    if arguments.dry_run:
        sys.stdout.buffer.write(os.fsencode(made.draft.text))
        return 0
    if questions.asked and not _agreed(made, questions, output):
        say("Nothing has been written.")
        return 1
    _write(made, output, replace=arguments.replace)
    schedules = [job.schedule for job in made.config.jobs.values() if job.schedule]
    if schedules and _can_schedule() and questions.asked:
        schedules = [] if _let_systemd_start(questions, output) else schedules
    print("\n".join(_next_steps(made, output, schedules)))
    return 0


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _agreed(made: Made, questions: Questions, output: str) -> bool:
    """Show what has been decided, and ask."""
    from holdstill.cli.format import table
    from holdstill.cli.messages import say
    from holdstill.errors import shown
    from holdstill.locations import without_password

    job = next(iter(made.config.jobs.values()))
    (repository,) = made.config.repositories.values()
    kept = "everything" if job.keep is None else _kept(job.keep)
    rows = [
        ("backups of", " ".join(shown(p) for one in made.config.jobs.values() for p in one.paths)),
        ("go to", without_password(repository.url)),
        ("at", job.schedule or "no time: only by hand"),
        ("and stay", kept),
        ("as says", shown(output)),
    ]
    say("\n" + "\n".join(f"  {line}" for line in table(rows)) + "\n")
    return questions.yes("Write this?")


def _kept(keep: Keep) -> str:
    from holdstill.config.rules import COUNTS

    numbers = ((unit, getattr(keep, unit)) for unit in COUNTS)
    return ", ".join(f"{unit} {number}" for unit, number in numbers if number)


def _write(made: Made, output: str, *, replace: bool) -> None:
    """First the password, without which a repository is lost; last the configuration."""
    from holdstill.cli.interview import reach
    from holdstill.cli.messages import say, warn
    from holdstill.config.store import store
    from holdstill.config.warnings import warnings
    from holdstill.errors import shown
    from holdstill.jobs.setup import open_existing, open_or_create
    from holdstill.locations import without_password

    binary, target = reach(made.config)
    url = without_password(target.url)
    if made.new_password:
        store(str(target.password_file), os.fsencode(f"{made.new_password}\n"))
        say(f"Stored the password in {shown(str(target.password_file))}.")
        say("  Keep a copy of it somewhere else: without it nobody can read the backups.")
    if made.is_import:
        open_existing(binary, target, warn)
        say(f"Opened the repository {url}.")
    else:
        created = open_or_create(binary, target, warn)
        say(f"{'Created' if created else 'Opened'} the repository {url}.")
    store(output, os.fsencode(made.draft.text), replace=replace)
    say(f"Wrote the configuration, {shown(output)}.")
    for text in warnings(made.config):
        warn(text)


def _let_systemd_start(questions: Questions, output: str) -> bool:
    """Offer the timer; return whether it is there now."""
    from holdstill.cli import schedule

    if not questions.yes("Let systemd start it then?"):
        return False
    status = schedule.install(argparse.Namespace(config=output, jobs=[], dry_run=False))
    return status == 0


def _next_steps(made: Made, output: str, schedules: Sequence[str]) -> Iterator[str]:
    """Yield what to do now, the first backup last; `schedules` are yet to be installed."""
    from holdstill.cli.format import table
    from holdstill.config.load import DEFAULT_FILE
    from holdstill.errors import shown

    option = f" --config {shown(output)}" if output != DEFAULT_FILE else ""
    program = ("sudo " if os.environ.get("SUDO_USER") else "") + f"holdstill{option}"
    yield "\nNow:"
    if made.is_import:
        yield "  disable the script's own timer: both would run"
    if schedules and _can_schedule():
        steps = [(f"{program} schedule install", f"run it by itself: {schedules[0]}")]
    else:
        steps = []
    steps.append((f"{program} plan", "what a run would do"))
    steps.append((f"{program} backup", "the first backup"))
    if schedules and not _can_schedule():
        yield "  to run it by itself, a line in /etc/cron.d/holdstill:"
        words = " ".join(map(shown, program_words()))
        yield f"    {cron_line(schedules[0], words + option)}"
    yield from (f"  {line}" for line in table(steps))


def _can_schedule() -> bool:
    from holdstill.systemd.control import is_in_charge

    return is_in_charge()


def cron_line(calendar: str, program: str) -> str:
    """Return a line of crontab(5) for a daily calendar; at three o'clock for any other."""
    daily = re.fullmatch(r"(?:\*-\*-\* )?(\d\d?):(\d\d)(?::\d\d)?", calendar, re.ASCII)
    hour, minute = (int(daily[1]), int(daily[2])) if daily else (3, 0)
    return f"{minute} {hour} * * * root {program} backup"
