"""`holdstill doctor`: everything that could make the next run fail, checked now."""

from __future__ import annotations

import os

from holdstill.cli.options import (
    HelpFormatter,
    add_config_option,
    add_jobs_argument,
    columns,
    duration,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding
    from holdstill.linux.signals import Signals

_DESCRIPTION = """\
Look at everything that could make a job's next run fail: the configuration, what the kernel allows,
directories, restic, secrets, each repository, leftovers, records, timers, space; and freeze each
job as a run does, and undo it. A line for each, `ok`, `warning` or `error`, and what to do about it
on a line of its own.

Nothing stays behind, no repository and no record is written to, and no run is kept from starting.
"""

_EPILOG = """\
exit status:
  0   no error; there may be warnings
  1   an error: a run would fail
  2   wrong command line
  77  not permitted
  78  configuration error
  128+N  ended by signal N
  with several errors: the highest
"""

_LIMIT_SECONDS = 60
_HEAD_COLUMN = len("warning  ")
_HEAD_WIDTH = 20
_TEXT_COLUMN = _HEAD_COLUMN + _HEAD_WIDTH + 2
_REMEDY_COLUMN = _HEAD_COLUMN + 2
_NARROWEST = 30


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="find what could make the next run fail",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_jobs_argument(parser)
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration,
        default=_LIMIT_SECONDS,
        help="give each check this long, such as 30s or 5m (default: 1m)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print each line as it is known, and return the exit status."""
    from holdstill.cli.options import forbid_others_to_write
    from holdstill.errors import UsageError
    from holdstill.jobs.checkup.finding import exit_status, said_once
    from holdstill.linux.signals import Signals

    forbid_others_to_write()
    if not arguments.timeout:
        raise UsageError("--timeout 0s leaves no time for any check", remedy="try --timeout 30s")
    known: set[str] = set()
    found: list[Finding] = []
    with Signals() as signals:
        for some in _findings(arguments, signals):
            new = said_once(some, known)
            found += new
            if not arguments.json:
                _print(new)
            if (number := signals.newest()) is not None:
                return 128 + number
    if arguments.json:
        print(_json(found))
    return exit_status(found)


def _findings(arguments: argparse.Namespace, signals: Signals) -> Iterator[Iterable[Finding]]:
    """Yield what each check has found, as soon as that is known."""
    from holdstill.config.load import locate
    from holdstill.errors import NotPermittedError
    from holdstill.jobs.checkup import checks
    from holdstill.jobs.checkup.machine import nothing_else
    from holdstill.linux import privileges

    config, refused = _configuration(arguments)
    yield refused
    path = locate(getattr(arguments, "config", None), os.environ)
    for one in checks.of_machine(config, path):
        yield checks.examine(one, arguments.timeout, signals)
    try:
        privileges.require()
    except NotPermittedError:
        yield [nothing_else()]
        return
    if config is not None:
        for one in checks.of_jobs_in(config, os.environ, signals):
            yield checks.examine(one, arguments.timeout, signals)


def _configuration(arguments: argparse.Namespace) -> tuple[Config | None, list[Finding]]:
    """Return what the chosen jobs use, or why the configuration cannot be used."""
    from holdstill.cli.options import chosen_jobs, load_config
    from holdstill.errors import ConfigurationError
    from holdstill.jobs.checkup.checks import narrowed, of_refused_configuration

    try:
        config = load_config(arguments)
    except ConfigurationError as error:
        return None, [*of_refused_configuration(error)]
    return narrowed(config, chosen_jobs(arguments, config)), []


def _print(findings: Sequence[Finding]) -> None:
    """Print findings; a remedy that several in a row have in common stands below the last."""
    from itertools import zip_longest

    for one, following in zip_longest(findings, findings[1:]):
        shared = following is not None and following.remedy == one.remedy
        for line in _lines(one, remedy="" if shared else one.remedy):
            print(line, flush=True)


def _lines(one: Finding, remedy: str) -> Iterator[str]:
    from holdstill.cli.format import BAD, GOOD, WARNING, styled
    from holdstill.cli.options import wants_colour

    style = {"ok": GOOD, "warning": WARNING, "error": BAD}[one.level] if wants_colour() else ""
    head = f"{one.check} {one.subject}".rstrip().ljust(_HEAD_WIDTH)
    first, *rest = _wrapped(one.text) or [""]
    label = styled(one.level, style) + " " * (_HEAD_COLUMN - len(one.level))
    yield f"{label}{head}  {first}"
    yield from (" " * _TEXT_COLUMN + line for line in rest)
    # Never broken: what is to be pasted into a shell would mean something else.
    yield from (" " * _REMEDY_COLUMN + line for line in remedy.splitlines())


def _wrapped(text: str) -> list[str]:
    """Break a line for a terminal; elsewhere each stays whole, to be searched and cut."""
    import sys
    import textwrap

    if not sys.stdout.isatty():
        return text.splitlines()
    width = max(columns() - _TEXT_COLUMN, _NARROWEST)
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return [part for line in text.splitlines() for part in wrapper.wrap(line)]


def _json(findings: Sequence[Finding]) -> str:
    import json

    from holdstill.jobs.checkup.finding import exit_status

    names = ("level", "check", "subject", "text", "remedy")
    said = [{name: getattr(one, name) for name in names} for one in findings]
    return json.dumps({"exit_status": exit_status(findings), "findings": said})
