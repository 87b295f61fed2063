"""`holdstill sweep`: remove what dead runs left behind."""

from __future__ import annotations

from holdstill.cli.options import HelpFormatter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from holdstill.snapshots.model import Leftover

_DESCRIPTION = """\
Look on every mounted btrfs file system for what runs that were killed have left, and remove it.
Each run does the same on the file systems that it freezes.

A snapshot is removed only if it lies in holdstill's staging directory, bears its name, is read-only
and a copy of the subvolume that it is named after, and no process of its run is alive. Whatever
else lies there stays and is reported.
"""

_EPILOG = """\
exit status:
  0   nothing is left
  1   something could not be removed
  77  not permitted
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep",
        help="remove the snapshots of dead runs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Sweep, and print a line for each leftover."""
    from holdstill.cli.format import count
    from holdstill.cli.messages import warn
    from holdstill.errors import shown
    from holdstill.linux import privileges
    from holdstill.snapshots.everywhere import sweep_all
    from holdstill.snapshots.turn import Turn

    def say(leftover: Leftover) -> None:
        what = count(len(leftover.snapshots), "snapshot")
        verb = "would remove" if arguments.dry_run else "removing"
        print(f"{verb} {what} of run {leftover.run} on {shown(leftover.device)}")

    privileges.require()
    problems = sweep_all(say, remove=not arguments.dry_run, turn=Turn(warn=warn))
    for problem in problems:
        warn(problem)
    return 1 if problems else 0
