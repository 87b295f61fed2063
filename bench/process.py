"""Runs programs and says what they cost: wall time, CPU of the whole tree, and restic's part of it.

restic is started through a small wrapper that notes the CPU of each restic process; what the
wrapper itself uses is measured once and taken off.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WRAPPER = """\
#!/bin/bash
'{program}' "$@"
status=$?
times >>'{log}'
exit $status
"""
_CALIBRATIONS = 15


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float
    """Of the process and all its descendants, restic and its wrapper left out."""
    user: float
    """The same outside of the kernel, where the removal of a snapshot drops every cached inode."""


@dataclass(frozen=True, slots=True)
class Restic:
    """A restic, wrapped."""

    directory: str
    """To be put before PATH."""
    log: str
    wrapper: tuple[float, float]
    """What the wrapper itself needs, as `take_cpu` returns it."""

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which `restic` is this one."""
        clean = {name: value for name, value in os.environ.items() if name[:7] != "RESTIC_"}
        return clean | {"PATH": f"{self.directory}:{os.environ['PATH']}"} | dict(extra)

    def take_cpu(self) -> tuple[float, float]:
        """Return user and system time of restic since the last call, its wrappers' included."""
        descriptor = os.open(self.log, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+", encoding="ascii") as file:
            of_children = file.read().splitlines()[1::2]
            file.truncate(0)
        times = [[_seconds(word) for word in line.split()] for line in of_children]
        user = sum(both[0] + self.wrapper[0] for both in times)
        return user, sum(both[1] + self.wrapper[1] for both in times)


def wrapped(program: str, directory: str) -> Restic:
    """Make a directory with a wrapped restic, its own CPU calibrated."""
    os.makedirs(f"{directory}/idle")
    idle = _wrapped("/bin/true", f"{directory}/idle", (0.0, 0.0))
    costs = [run([f"{idle.directory}/restic"], os.environ, idle) for _ in range(_CALIBRATIONS)]
    user, both = median(cost.user for cost in costs), median(cost.cpu for cost in costs)
    return _wrapped(program, directory, (user, both - user))


def _wrapped(program: str, directory: str, own: tuple[float, float]) -> Restic:
    log = f"{directory}/cpu.log"
    write_program(f"{directory}/restic", _WRAPPER.format(program=program, log=log))
    return Restic(directory, log, own)


def write_program(path: str, text: str) -> None:
    """Make a file that can be executed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    restic: Restic | None = None,
    *,
    accepted: Sequence[int] = (0,),
) -> Cost:
    """Run a program to its end, its output out of sight; raises RuntimeError if it fails."""
    if restic is not None:
        restic.take_cpu()
    with tempfile.TemporaryFile() as output:
        silence = [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
        began = time.perf_counter()
        pid = os.posix_spawnp(argv[0], list(argv), environment, file_actions=silence)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        code = os.waitstatus_to_exitcode(status)
        if code not in accepted:
            output.seek(0)
            raise _failed(argv, code, output.read().decode("utf-8", "replace"))
    user, system = restic.take_cpu() if restic is not None else (0.0, 0.0)
    beyond = usage.ru_utime - user
    return Cost(wall, beyond + usage.ru_stime - system, beyond)


def tool(*argv: str) -> str:
    """Run a program of this machine and return what it printed."""
    return captured(argv, os.environ)


def captured(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program to its end and return what it printed; raises RuntimeError if it fails."""
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _failed(argv, done.returncode, done.stderr)
    return done.stdout


def _seconds(word: str) -> float:
    """Read what bash's `times` prints: 0m1.234s."""
    minutes, _, seconds = word.rstrip("s").partition("m")
    return int(minutes) * 60 + float(seconds)


def _failed(argv: Sequence[str], status: int, said: str) -> RuntimeError:
    return RuntimeError(f"{shlex.join(argv)} ended with {status}: {said[-2000:]}")
