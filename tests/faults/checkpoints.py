"""Runs of a job that are watched at their checkpoints (dying.py)."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.faults import dying
from tests.kernel.backups import TIMEOUT_SECONDS, kill_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.kernel.backups import Site

_Name = TypeVar("_Name", str, tuple[str, int])
_LAST = "jobs.run:Run.close begins"


@contextmanager
def watched(
    site: Site, victim: str, checkpoint: str, count: int
) -> Iterator[subprocess.Popen[str]]:
    """Start `backup data` in a session of its own, all of which is dead at the end."""
    log = site.path("log")
    Path(log).unlink(missing_ok=True)
    argv = [sys.executable, "-P", dying.__file__, log, victim, checkpoint, str(count)]
    site.configure()
    process = subprocess.Popen(
        [*argv, "backup", "--json", "data"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=site.environ(),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            kill_group(process.pid)


def logged(site: Site) -> list[str]:
    """Return what the last such run has logged."""
    log = Path(site.path("log"))
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def names(site: Site) -> list[str]:
    """Return all checkpoints of a run, in their order."""
    return [name for name, count in recorded(site, "holdstill") if count == 1]


def recorded(site: Site, victim: str) -> list[tuple[str, int]]:
    """Return each checkpoint of a run at which there is a victim, and the how manieth time it is.

    Those before it is put on record: it may be called ok then, and all is done.
    """
    with watched(site, victim, "", 0) as process:
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    lines = [line.split(" ", 1) for line in logged(site)]
    reached = [(name, int(count)) for count, name in lines]
    return list(dict.fromkeys(takewhile(lambda one: one[0] != _LAST, reached)))


def spread(names: Sequence[_Name], count: int) -> list[_Name]:
    """Return so many of them, evenly."""
    step = max(1, len(names) // count)
    return list(names[::step])
