"""`holdstill history`: the runs that have been."""

from __future__ import annotations

import argparse

from holdstill.cli.options import HelpFormatter, add_config_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.config.model import Config
    from holdstill.records.past import PastRun

_LIMIT = 20
_MOST = 1_000_000
_LONGEST_LINE = 50

_DESCRIPTION = """\
List the last runs, the newest last: of one job, or of all. Below, as bars, how long the
backups took and how much they hold, from the least to the most.
"""

_EPILOG = """\
exit status:
  0   ok
  1   the history cannot be read
  2   wrong command line
  77  not permitted
  78  configuration error
"""

_HEAD = ("STARTED", "JOB", "OUTCOME", "TOOK", "ADDED", "SIZE", "WARNINGS")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "history",
        help="list past runs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "job", metavar="JOB", nargs="?", help="a job, also one that is configured no more"
    )
    add_config_option(parser)
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=_LIMIT,
        help=f"how many runs (default: {_LIMIT})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")
    parser.set_defaults(run=run)


def _limit(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MOST:,}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Print the runs."""
    from holdstill.cli.options import load_config

    config = load_config(arguments)
    runs = _with_outcomes(config, _chosen(config, arguments.job, arguments.limit))
    if arguments.json:
        from holdstill.records.json_text import text_of

        for one, outcome in runs:
            print(text_of(one.ended_as(outcome).record))
    elif runs:
        print("\n".join(_lines(runs)))
    return 0


def _chosen(config: Config, job: str | None, limit: int) -> list[PastRun]:
    from holdstill.errors import UsageError, shown
    from holdstill.records.past import past

    with past(config.state_directory) as history:
        if job is None:
            return history.last_of_all(limit)
        found = history.last(job, limit)
    if not found and job not in config.jobs:
        message = f"there is no job {shown(job)}, nor a run of it on record"
        raise UsageError(message, remedy=f"configured: {', '.join(config.jobs)}")
    return found


def _with_outcomes(config: Config, runs: Sequence[PastRun]) -> list[tuple[PastRun, str]]:
    """Pair each run with how it ended, also one that goes on or has died since."""
    from holdstill.jobs.standing import outcome_of

    return [(one, outcome_of(config, one)) for one in runs]


def _lines(runs: Sequence[tuple[PastRun, str]]) -> Iterator[str]:
    from holdstill.cli.format import QUIET, table
    from holdstill.cli.options import wants_colour

    styles = [QUIET, *(_style(one, outcome) for one, outcome in runs)]
    yield from table([_HEAD, *(_row(*one) for one in runs)], styles if wants_colour() else ())
    made = [one for one, outcome in runs if outcome in {"ok", "partial"}]
    for job in dict.fromkeys(one.job for one in made):
        yield from _bars(job, [one for one in made if one.job == job][-_LONGEST_LINE:])


def _style(one: PastRun, outcome: str) -> str:
    from holdstill.cli.format import BAD, WARNING

    if outcome in {"running", "skipped"}:
        return ""
    if outcome != "ok":
        return BAD
    return WARNING if one.record["warnings"] else ""


def _row(one: PastRun, outcome: str) -> tuple[str, ...]:
    from holdstill.cli.format import duration, size

    warnings = len(one.record["warnings"])
    ended = one.seconds is not None
    return (
        one.started.astimezone().strftime("%Y-%m-%d %H:%M"),
        one.job,
        outcome,
        "-" if one.seconds is None else duration(one.seconds),
        size(one.added) if ended else "-",
        size(one.size) if ended else "-",
        str(warnings) if warnings else "-",
    )


def _bars(job: str, runs: Sequence[PastRun]) -> Iterator[str]:
    from holdstill.cli.format import duration, size, sparkline
    from holdstill.cli.results import can_print

    took = [one.seconds or 0.0 for one in runs]
    sizes = [one.size for one in runs]
    bars = (sparkline(took), sparkline(sizes))
    if len(runs) == 1 or not can_print("".join(bars)):
        return
    yield ""
    yield f"{job}: took {bars[0]} {duration(min(took))} to {duration(max(took))}"
    yield f"{' ' * len(job)}  size {bars[1]} {size(min(sizes))} to {size(max(sizes))}"
