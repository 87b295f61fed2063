"""`holdstill demo`: live backups against frozen ones, on a temporary disk."""

from __future__ import annotations

import argparse
import sys

from holdstill.cli.options import HelpFormatter, columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from holdstill.demo.report import Row
    from holdstill.demo.rounds import Result

_ROUNDS = 4
_MOST_ROUNDS = 50

_EPILOG = f"""\
It needs root, restic, btrfs-progs, 1.5 GB of room in /var/tmp (or $TMPDIR) for a while, and takes
about half a minute. Nothing of it is left behind, even if it is killed.

exit status:
  0      every restore from holdstill's backups was right
  1      one was wrong, or the demonstration could not be given
  2      wrong command line
  77     not permitted
  128+N  ended by signal N

example:
  holdstill demo --rounds {_ROUNDS}
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="see it work on a temporary disk with live databases",
        description="Make a temporary btrfs disk, keep three databases on it busy, and back them "
        "up in turn with plain restic and with holdstill. Every backup is restored and audited: "
        "the money in each database must add up.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_rounds,
        default=_ROUNDS,
        help=f"backups of each kind (default: {_ROUNDS})",
    )
    parser.set_defaults(run=run)


def _rounds(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MOST_ROUNDS}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Play the demonstration, print the table, and return the exit status."""
    from holdstill.demo import report
    from holdstill.demo.rounds import play
    from holdstill.demo.stage import Interrupted
    from holdstill.linux.signals import Signals

    results = []
    with Signals() as signals:
        try:
            for result in play(arguments.rounds, signals, _tell):
                _tell(f"  {report.in_words(result)}")
                results.append(result)
        except Interrupted as interrupted:
            _tell("Interrupted. Nothing is left behind.")
            return 128 + interrupted.number
    _show(results)
    print(_wrapped(report.conclusion(results), sys.stdout))
    return 0 if report.holds(results) else 1


def _tell(text: str) -> None:
    print(_wrapped(text, sys.stderr), file=sys.stderr, flush=True)


def _wrapped(text: str, stream: TextIO) -> str:
    """Break a line between words, where a terminal would break it anywhere."""
    from textwrap import fill

    return fill(text, columns(), subsequent_indent="  ") if stream.isatty() else text


def _show(results: Sequence[Result]) -> None:
    from holdstill.demo import report

    print()
    if sys.stdout.isatty():
        _show_in_colour(report.rows(results))
    else:
        print(report.table(results))
    print()


def _show_in_colour(rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from holdstill.demo.report import HEADINGS, RIGHT_ALIGNED

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, right in zip(HEADINGS, RIGHT_ALIGNED, strict=True):
        table.add_column(heading, justify="right" if right else "left")
    for row in rows:
        table.add_row(*row.cells, style="red" if row.wrong else "green")
    Console().print(table)
