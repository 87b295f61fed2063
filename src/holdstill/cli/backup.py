"""`holdstill backup`: run jobs."""

from __future__ import annotations

import os

from holdstill.cli.options import (
    HelpFormatter,
    add_config_option,
    add_jobs_argument,
    duration,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from holdstill.config.model import Config
    from holdstill.records.record import RunRecord

_DESCRIPTION = """\
Run jobs one after another. A run freezes the job's paths in snapshots, lets restic read them at
their original paths, removes the snapshots, and then applies the retention.
"""

_EPILOG = """\
exit status:
  0      ok: complete, frozen, and seen to be read from the snapshots
  1      failed
  2      wrong command line
  3      partial: a backup exists, and something could not be read for it
  75     another run of the job is active
  77     not permitted
  78     configuration error
  128+N  ended by signal N
  with several jobs: that of the worst
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "backup",
        help="run jobs: freeze, back up, apply the retention",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_jobs_argument(parser)
    add_config_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument(
        "--json", action="store_true", help="end with one JSON object per run on standard output"
    )
    parser.add_argument(
        "--accept-size",
        action="store_true",
        help="let backups be smaller than `minimum-percent` allows, from now on",
    )
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=duration,
        default=0,
        help="wait this long (90s, 10m, 2h) for another run of a job to end; without it, end "
        "with 75 at once",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the jobs; the exit status is that of the worst."""
    if arguments.dry_run:
        from holdstill.cli.plan import run as print_plans

        return print_plans(arguments)
    from holdstill.cli import results
    from holdstill.cli.options import chosen_jobs, forbid_others_to_write, load_config
    from holdstill.cli.progress import reporter
    from holdstill.errors import PrintError
    from holdstill.jobs.run import run_job
    from holdstill.jobs.verdict import exit_status_of_all
    from holdstill.linux import privileges
    from holdstill.linux.signals import Signals
    from holdstill.systemd.notify import notifier

    privileges.require()
    forbid_others_to_write()
    config = load_config(arguments)
    if arguments.accept_size:
        config = _accepting_size(config)
    records = []
    unprinted: PrintError | BrokenPipeError | None = None
    with (
        notifier(os.environ) as told,
        Signals(pulse=told.pulse) as signals,
        reporter(told) as watcher,
    ):
        for name in chosen_jobs(arguments, config):
            record = run_job(config, name, os.environ, watcher, signals, wait=arguments.wait)
            watcher.finish()
            told.status(f"{name}: {record.outcome}")
            try:
                _report(record, as_json=arguments.json)
            except (PrintError, BrokenPipeError) as error:
                unprinted = error  # the other jobs still want their backups
            records.append(record)
            if signals.last is not None:
                break
    if unprinted is not None:
        if signals.last is None:
            raise unprinted
        results.silence()  # the terminal was closed: its signal says more
    return exit_status_of_all(records)


def _accepting_size(config: Config) -> Config:
    from msgspec.structs import replace

    jobs = {name: replace(job, minimum_percent=0) for name, job in config.jobs.items()}
    return replace(config, jobs=jobs)


def _report(record: RunRecord, *, as_json: bool) -> None:
    from holdstill.cli import summary
    from holdstill.records.record import as_json as json_of

    summary.print_failures(record)
    if as_json:
        print(json_of(record), flush=True)
    else:
        summary.print_result(record)
