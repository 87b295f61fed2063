"""`holdstill maintain`: prune and check the repositories of jobs."""

from __future__ import annotations

import os
from contextlib import suppress

from holdstill.cli.options import (
    HelpFormatter,
    add_config_option,
    add_jobs_argument,
    duration,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from holdstill.jobs.maintain import Maintained
    from holdstill.systemd.units import Kind

_DESCRIPTION = """\
Let restic prune or check each repository of jobs, as their `prune` and `check` tables say. Where
those have a `schedule`, systemd's timers do this. No backup of a job runs meanwhile: each waits for
the other.
"""

_EPILOG = """\
exit status:
  0      ok
  1      failed: a repository is damaged, or cannot be reached
  2      wrong command line
  75     a run of the job is active
  77     not permitted
  78     configuration error
  128+N  ended by signal N
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "maintain",
        help="prune or check the repositories of jobs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("what", choices=("prune", "check"), help="what to do")
    add_jobs_argument(parser)
    add_config_option(parser)
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=duration,
        default=0,
        help="wait this long (90s, 10m, 2h) for a run of a job to end; without it, end with 75 "
        "at once",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do it for each repository of each job; what fails does not keep the others from it."""
    from holdstill.cli.options import chosen_jobs, forbid_others_to_write, load_config
    from holdstill.cli.progress import reporter
    from holdstill.errors import StoppedError
    from holdstill.jobs.maintain import maintain
    from holdstill.linux import privileges
    from holdstill.linux.signals import Signals
    from holdstill.systemd.notify import notifier
    from holdstill.systemd.units import Kind

    privileges.require()
    forbid_others_to_write()
    config = load_config(arguments)
    kind = Kind(arguments.what)
    status = 0
    with (
        notifier(os.environ) as told,
        Signals(pulse=told.pulse) as signals,
        reporter(told) as watcher,
    ):
        with suppress(StoppedError):
            for name in chosen_jobs(arguments, config):
                done = maintain(
                    config, name, kind, os.environ, watcher, signals=signals, wait=arguments.wait
                )
                status = max(status, _said(name, kind, done))
        if signals.last is not None:
            return 128 + signals.last
    return status


def _said(name: str, kind: Kind, done: Iterator[Maintained]) -> int:
    """Say what becomes of a job's repositories, and return the exit status of that."""
    from holdstill.cli.messages import say_failure
    from holdstill.errors import HoldstillError, PrintError, StoppedError

    status = 0
    try:
        for one in done:
            if one.is_ok:
                print(f"{name}: {kind} of {one.repository}: ok", flush=True)
            else:
                status = 1
                say_failure(f"{name}: {one.reading.message}", one.reading.remedy)
    except (PrintError, StoppedError):
        raise
    except HoldstillError as error:
        say_failure(f"{name}: {error.message}", error.remedy)
        status = max(status, error.exit_status)
    return status
