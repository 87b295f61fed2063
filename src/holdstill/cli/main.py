"""The entry point: builds the parser, runs the command, and turns every error into words."""

from __future__ import annotations

import argparse
import atexit
import importlib
import os
import signal
import sys
from io import TextIOWrapper

from holdstill.cli import messages, results
from holdstill.cli.options import HelpFormatter, add_config_option
from holdstill.errors import HoldstillError, PrintError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMMANDS = (
    "init",
    "backup",
    "plan",
    "status",
    "history",
    "exec",
    "sweep",
    "restic",
    "maintain",
    "schedule",
    "config",
    "doctor",
    "demo",
)

_BROKEN_PIPE = 128 + signal.SIGPIPE

_EPILOG = """\
exit status:
  0   ok
  1   failed
  2   wrong command line
  77  not permitted
  78  configuration error
  more in the help text of each command
"""


class _Version(argparse.Action):
    """Prints the installed version; importlib.metadata is slow, and so is left to this moment."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"holdstill {version('holdstill')}")
        parser.exit()


# For a translation of each of its words argparse searches the file system; there is none.
vars(argparse).update(_=str, ngettext=lambda one, many, number: one if number == 1 else many)


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser with these commands; help, man pages and completions come from it."""
    parser = argparse.ArgumentParser(
        prog="holdstill",
        description="Atomic backups: restic reads a btrfs snapshot at its original path.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_config_option(parser)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.set_defaults(takes_rest=None, failed=None)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in commands:
        importlib.import_module(f"holdstill.cli.{name}").add_parser(subparsers)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; what follows `--` is kept apart, in `rest`, untouched."""
    cut = argv.index("--") if "--" in argv else len(argv)
    head, rest = list(argv[:cut]), list(argv[cut + 1 :])
    # Building one command's parser is several times cheaper than building all.
    parser = build_parser(head[:1] if head[:1] and head[0] in COMMANDS else COMMANDS)
    arguments, unknown = parser.parse_known_args(head)
    if complaint := _complaint(arguments.takes_rest, unknown, rest):
        parser.exit(arguments.failed or 2, f"holdstill: error: {complaint}\n")
    arguments.rest = rest
    return arguments


def _complaint(takes_rest: str | None, unknown: Sequence[str], rest: Sequence[str]) -> str:
    """Say what is wrong with the parts of a command line; empty if nothing is."""
    if takes_rest and not rest:
        return f"no {takes_rest}: it stands after --, see --help"
    if unknown:
        return f"unrecognized arguments: {' '.join(unknown)}"
    if rest and not takes_rest:
        return "this command takes nothing after --"
    return ""


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    arguments = parse(argv)
    try:
        return _run(arguments)
    except HoldstillError as error:
        if isinstance(error, PrintError):
            results.silence()  # what is left of it would fail again at the end
        messages.say_error(error)
        if arguments.failed and error.exit_status not in {126, 127}:
            return int(arguments.failed)
        return error.exit_status
    except BrokenPipeError:
        results.silence()
        return _BROKEN_PIPE
    except Exception:  # noqa: BLE001 - the last place: a bug shows its traceback and its status
        import traceback

        traceback.print_exc()
        return arguments.failed or 1


def _run(arguments: argparse.Namespace) -> int:
    status: int = arguments.run(arguments)
    sys.stdout.flush()  # here, where a closed pipe is still an error that somebody catches
    return status


def _know_every_name() -> None:
    """Start again in UTF-8 mode where the locale is not: the configuration's paths are UTF-8.

    What the locale cannot print is escaped then.
    """
    if sys.getfilesystemencoding() != "utf-8":
        encoding = sys.stdout.encoding if sys.stdout is not None else "ascii"
        options = ("-X", "utf8", "-X", f"holdstill={encoding}")
        os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])  # noqa: S606
    if encoding := sys._xoptions.get("holdstill"):  # noqa: SLF001 - documented, in CPython alone
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(encoding=str(encoding), errors="backslashreplace")


def console() -> NoReturn:
    """Be the program."""
    _know_every_name()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    else:
        results.name_failures()
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # Taking the interpreter down takes longer than taking a snapshot: only what is asked for runs.
    atexit._run_exitfuncs()  # noqa: SLF001 - the same that the interpreter would run
    os._exit(status)
