"""holdstill, run as its users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# -P: with -m alone Python lists the working directory, which moves its access time.
EXEC = (sys.executable, "-P", "-m", "holdstill", "exec")
TIMEOUT_SECONDS = 60.0

Finished = subprocess.CompletedProcess[str]


def execute(  # noqa: PLR0913 - each a separate circumstance of a run
    paths: str | Sequence[str],
    *command: str,
    wrapper: Sequence[str] = (),
    cwd: str | None = None,
    stdin: str = "",
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
    keep_open: Sequence[int] = (),
) -> Finished:
    """Run `holdstill exec PATHS -- COMMAND` to its end."""
    return subprocess.run(
        argv(paths, *command, wrapper=wrapper),
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        input=stdin,
        cwd=cwd,
        env=None if environment is None else {**os.environ, **environment},
        preexec_fn=before,
        pass_fds=keep_open,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def argv(paths: str | Sequence[str], *command: str, wrapper: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the whole command line."""
    named = (paths,) if isinstance(paths, str) else tuple(paths)
    return (*wrapper, *EXEC, *named, "--", *command)


class Running:
    """holdstill in the background, talking through pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take over a started process; `started` makes them."""
        self.process = process

    @property
    def pid(self) -> int:
        """Of holdstill itself."""
        return self.process.pid

    def line(self) -> str:
        """Return the command's next line."""
        return _pipe(self.process.stdout).readline().rstrip("\n")

    def let_go(self) -> None:
        """Send the line that the command waits for."""
        _pipe(self.process.stdin).write("\n")
        _pipe(self.process.stdin).flush()

    def finish(self) -> Finished:
        """Wait for its end and return what is left of its output."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return Finished(self.process.args, self.process.returncode, out, err)


@contextmanager
def started(
    paths: str | Sequence[str],
    *command: str,
    cwd: str | None = None,
    before: Callable[[], None] | None = None,
    wrapper: Sequence[str] = (),
) -> Iterator[Running]:
    """Start `holdstill exec` in a session of its own, all of which is dead at the end."""
    process = subprocess.Popen(
        argv(paths, *command, wrapper=wrapper),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        cwd=cwd,
        preexec_fn=before,  # noqa: PLW1509 - no threads here
        start_new_session=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            _kill_group(process.pid)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
