"""`holdstill exec`: run a command while it sees paths frozen."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

from holdstill.cli.options import HelpFormatter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from holdstill.freeze import Held

_FAILED = 125

_DESCRIPTION = """\
Freeze each PATH in a snapshot, and run COMMAND while it sees the snapshots at the original paths,
from the same working directory. The snapshots are removed when COMMAND has ended.

Everything below each PATH shows the one instant at which it was frozen, read-only, subvolumes
nested in it included. Other mounts below a PATH are not in the view, nor are the snapshots that
other programs keep there; each is named in a warning. Where the root itself is frozen, /proc, /sys,
/dev and /run stay live. COMMAND keeps root's rights to read, but can
neither mount nor trace nor use set-uid programs, unless --keep-capabilities is given.
"""

_EPILOG = """\
exit status:
  that of COMMAND; 128+N if signal N ended it
  125  holdstill failed: COMMAND was not started, or cannot be believed
  126  COMMAND cannot be executed
  127  COMMAND was not found

example:
  holdstill exec /srv/mail -- tar -C / -cf /root/mail.tar srv/mail
"""


class _Parser(argparse.ArgumentParser):
    """Says 125 where argparse says 2, as env(1) and nice(1) do: 2 may be the command's own."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(_FAILED if status else 0, message)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "exec",
        help="run a command that sees paths frozen",
        description=_DESCRIPTION,
        usage="holdstill exec [-h] [--keep-capabilities] PATH [PATH ...] -- COMMAND [ARG ...]",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.__class__ = _Parser
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a directory on btrfs to freeze")
    parser.add_argument(
        "--keep-capabilities",
        action="store_true",
        help="let COMMAND do all that the caller can; holdstill still fails if the view is broken",
    )
    parser.set_defaults(run=run, takes_rest="COMMAND", failed=_FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Freeze, run, clean up, and return the command's exit status."""
    from holdstill.cli.messages import warn
    from holdstill.errors import StoppedError
    from holdstill.freeze import hold, not_shown, plan, settled, working_directory
    from holdstill.linux.privileges import die_with
    from holdstill.linux.signals import USERS, Signals
    from holdstill.snapshots.staging import new_run

    with Signals(*USERS) as signals, ExitStack() as stack:
        here = working_directory()
        paths = [os.path.normpath(os.path.join(here, path)) for path in arguments.paths]

        def freeze() -> Held:
            """Freeze the paths as they are now."""
            frozen = hold(
                plan(paths), new_run(), working_directory=here, signals=signals, warn=warn
            )
            return stack.enter_context(frozen)

        try:
            held = settled(freeze)
        except StoppedError as error:
            for text in error.notes:  # what could not be cleaned up
                warn(text)
            return 128 + (signals.last or 0)
        for text in not_shown(held.plan):
            warn(text)
        if (number := signals.newest()) is not None:  # it may have come while a lock was waited for
            return 128 + number
        view = held.view._replace(give_up=die_with) if arguments.keep_capabilities else held.view
        return view.run(arguments.rest).status
