"""What the demonstration plays on: the disk, and how programs are started beside it."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field

from holdstill import process
from holdstill.demo import disk
from holdstill.errors import HoldstillError
from holdstill.linux.privileges import die_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdstill.linux.signals import Signals

JOB = "demo"
PYTHON = (sys.executable, "-P", "-m")
"""Runs a module; without -P root would import whatever lies in the working directory."""

_GRACE_SECONDS = 5.0
_REMEMBERED_LINES = 20
_PASSWORD = "demo"  # noqa: S105 - of a repository that lives for a minute
_FOREIGN = ("RESTIC_", "HOLDSTILL_")
_FROM_SYSTEMD = {"STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY"}

_CONFIG = """\
state-directory = "{rest}/state"
runtime-directory = "{rest}/run"
cache-directory = "{rest}/cache"

[repositories.local]
url = "{rest}/repository"
password-file = "{rest}/password"

[jobs.demo]
paths = ["{data}"]
repositories = ["local"]
"""


class Interrupted(Exception):  # noqa: N818 - nothing is wrong: somebody asked for the end
    """A signal asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class DemoError(HoldstillError):
    """A step of the demonstration failed that succeeds on every machine."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and the last lines that it printed."""

    status: int
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Actors:
    """How programs are started: none survives this process, each hears of signals."""

    environment: Mapping[str, str] = field(repr=False)
    signals: Signals

    def run(self, *argv: str, fine: Sequence[int] = (0,)) -> Ended:
        """Run a program to its end; raises DemoError unless its status is `fine`, Interrupted."""
        self.stop_if_told()
        said: deque[bytes] = deque(maxlen=_REMEMBERED_LINES)
        complaints: deque[bytes] = deque(maxlen=_REMEMBERED_LINES)
        ended = process.run(argv, self._child(said.append, complaints.append))
        self.stop_if_told()
        if ended.status not in fine:
            text = os.fsdecode(b"\n".join([*said, *complaints]))
            raise DemoError(
                f"'{' '.join(argv)}' ended with {ended.status}", remedy=f"it said:\n{text}"
            )
        return Ended(ended.status, tuple(said))

    def _child(self, on_stdout: process.OnLine, on_stderr: process.OnLine) -> process.Child:
        parent = os.getpid()
        return process.Child(
            environment=self.environment,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            # SIGTERM, so that holdstill ends what it has started.
            before_exec=lambda: die_with(parent, signal.SIGTERM),
            signals=self.signals,
            grace=_GRACE_SECONDS,
        )

    @contextmanager
    def beside(self, *argv: str) -> Iterator[Callable[[], bool]]:
        """Run a program while the body runs; yields what tells whether it still does.

        It hears of no signal: they are blocked here, which a child inherits.
        """
        parent = os.getpid()
        child = process.Child(
            environment=self.environment, before_exec=lambda: die_with(parent, signal.SIGKILL)
        )
        with process.beside(argv, child) as running:
            yield running

    def stop_if_told(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if (number := self.signals.newest()) is not None:
            raise Interrupted(number)


@dataclass(frozen=True, slots=True)
class Stage:
    """The disk, with an empty repository and a configuration for it, and the programs."""

    disk: disk.Disk
    restic: str
    config: str
    actors: Actors


def set_stage(signals: Signals, tell: Callable[[str], None]) -> Stage:
    """Make the disk and the repository.

    From then on this process is in a mount namespace of its own; the disk lives as long.
    Raises HoldstillError, Interrupted.
    """
    path = disk.search_path(os.environ)
    program = disk.programs(path)
    disk.enter_namespace()
    directory = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - for a file without a name
    tell(f"Making a temporary disk in {directory}. Nobody else sees it, and it vanishes by itself.")
    environment = _cleaned(os.environ) | {"PATH": path}
    used = (*sys.path, sys.executable, sys.prefix, sys.base_prefix, os.getcwd(), *program.values())
    start = Actors(environment, signals).run
    made = disk.make_disk(disk.place(used), directory, start, program)
    stage = Stage(
        disk=made,
        restic=program["restic"],
        config=_furnish(made),
        actors=Actors(environment | _inside(made), signals),
    )
    stage.actors.run(stage.restic, "init")
    return stage


def _cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would lead a program out of the demonstration."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FOREIGN) and name not in _FROM_SYSTEMD
    }


def _inside(made: disk.Disk) -> dict[str, str]:
    return {
        "TMPDIR": f"{made.rest}/scratch",
        "RESTIC_REPOSITORY": f"{made.rest}/repository",
        "RESTIC_PASSWORD_FILE": f"{made.rest}/password",
        "RESTIC_CACHE_DIR": f"{made.rest}/cache/restic",
    }


def _furnish(made: disk.Disk) -> str:
    """Put everything but the repository in place; return the configuration's path."""
    os.mkdir(f"{made.rest}/scratch")
    _write(f"{made.rest}/password", _PASSWORD)
    config = f"{made.rest}/config.toml"
    _write(config, _CONFIG.format(rest=made.rest, data=made.data))
    return config


def _write(path: str, text: str) -> None:
    with open(path, "x", encoding="utf-8", opener=_private) as file:
        file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
