"""Options, and what several commands do with them."""

from __future__ import annotations

import argparse
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdstill.config.model import Config


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs to the terminal, and leaves lists (with indented lines) as they are."""

    def __init__(self, prog: str) -> None:
        """Find the width out: for argparse, shutil would do it, which is slow to import."""
        super().__init__(prog, width=columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(p if "\n  " in p else fill(p, width, indent) for p in paragraphs)


def columns() -> int:
    """Return the width of the terminal as shutil does: COLUMNS, the terminal's own, or 80."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Let the configuration be named, before or after the command."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="configuration (default: $HOLDSTILL_CONFIG, then /etc/holdstill/config.toml)",
    )


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Take the names of jobs."""
    parser.add_argument(
        "jobs", metavar="JOB", nargs="*", help="a job; all of them if none is named"
    )


def wants_colour() -> bool:
    """Whether standard output is a terminal whose user has not asked for plain text."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def duration(text: str) -> int:
    """Return the seconds of an option such as `10m`, for argparse."""
    from holdstill.config.durations import EXPECTED, seconds_in

    seconds = seconds_in(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(EXPECTED)
    return seconds


def load_config(arguments: argparse.Namespace) -> Config:
    """Load the configuration that the command line or the environment names."""
    from holdstill.config.load import load, locate

    return load(locate(getattr(arguments, "config", None), os.environ), os.environ)


def forbid_others_to_write() -> None:
    """Let no umask of the caller's make what is made here, directories above all, anybody's."""
    os.umask(os.umask(0o077) | 0o022)


def chosen_jobs(arguments: argparse.Namespace, config: Config) -> Sequence[str]:
    """Return the jobs that were named, each once, or all; raises UsageError for an unknown one."""
    from holdstill.errors import UsageError, shown

    for name in arguments.jobs:
        if name not in config.jobs:
            message = f"there is no job {shown(name)}"
            raise UsageError(message, remedy=f"configured: {', '.join(config.jobs)}")
    return tuple(dict.fromkeys(arguments.jobs)) or tuple(config.jobs)


def program_words() -> tuple[str, ...]:
    """Return how this program was started, for those who have a PATH of their own."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "holdstill" and os.access(script, os.X_OK):
        return (script,)
    return (sys.executable, "-P", "-m", "holdstill")
