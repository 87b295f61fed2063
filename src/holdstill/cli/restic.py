"""`holdstill restic`: restic on a job's repository, without having to know its secrets."""

from __future__ import annotations

import os
from functools import partial

from holdstill.cli.options import HelpFormatter, add_config_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  holdstill restic photos -- init
  holdstill restic photos -- snapshots
  holdstill restic photos -- restore latest --target /mnt/restored

exit status:
  that of restic; 128+N if signal N ended it
  1   restic cannot be started
  2   wrong command line
  78  configuration error
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "restic",
        help="run restic with a job's repository and secrets",
        description="Run restic with the repository, password, cache and environment of a job. "
        "Where the job says run-as, restic is that user with all capabilities of the caller: what "
        "it writes to the repository is the user's, and it can still restore everything.",
        usage="holdstill restic [-h] [--repository NAME] JOB -- ARG [ARG ...]",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("job", metavar="JOB", help="the job whose repository is meant")
    parser.add_argument(
        "--repository", metavar="NAME", help="which of the job's repositories (default: the first)"
    )
    add_config_option(parser)
    parser.set_defaults(run=run, takes_rest="ARG")


def run(arguments: argparse.Namespace) -> int:
    """Run restic as it is, on this terminal, and return its exit status."""
    from holdstill.cli.options import chosen_jobs, forbid_others_to_write, load_config
    from holdstill.errors import UsageError, shown
    from holdstill.jobs.plan import environment_of, find_restic, target_of, user_of
    from holdstill.linux.privileges import become
    from holdstill.linux.signals import Signals
    from holdstill.process import Child
    from holdstill.process import run as run_process
    from holdstill.restic.commands import passthrough

    forbid_others_to_write()
    config = load_config(arguments)
    arguments.jobs = [arguments.job]
    (job,) = chosen_jobs(arguments, config)
    names = config.jobs[job].repositories
    name = arguments.repository or names[0]
    if name not in names:
        message = f"job {job} has no repository {shown(name)}"
        raise UsageError(message, remedy=f"configured: {', '.join(names)}")
    found = find_restic(config, os.environ)
    target = target_of(config, job, name)._replace(lock_wait=0)
    user = user_of(config, job)
    environment = environment_of(user, os.environ)
    command = passthrough(found.binary, target, arguments.rest, environment)
    with Signals() as signals:
        before = None if user is None else partial(become, user)
        child = Child(environment=command.environment, before_exec=before, signals=signals)
        return run_process(command.argv, child).status
