"""The only place that starts programs.

A process is started, read line by line with bounded memory, told of the signals that arrive here,
and waited for, whatever happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from holdstill.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    HoldstillError,
    ViewError,
    shown,
)
from holdstill.linux import privileges
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import Signals as Number
    from typing import IO, Protocol

    from holdstill.linux.signals import Signals

LONGEST_LINE = 1 << 20
"""Bytes of a line that are kept; the rest is dropped, so that no output can fill the memory."""

_CHUNK = 1 << 16
_POWERS = "it needs all capabilities of root, and no filter that refuses system calls"
_KILLED_BY = 128
_CAPTURE_SECONDS = 60.0
_CAPTURE_GRACE_SECONDS = 1.0

OnLine = Callable[[bytes], None]


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Its exit status; 128+N where signal N killed it."""
    signal: int | None = None
    """The signal that killed it."""
    told: Number | None = None
    """The last signal that arrived here while it ran."""


class Child(NamedTuple):
    """What a process is started with beyond its arguments."""

    environment: Mapping[str, str] | None = None
    """None: the environment of this process."""
    on_stdout: OnLine | None = None
    """Takes each line, without its newline; None: standard output and input are inherited."""
    on_stderr: OnLine | None = None
    before_exec: Callable[[], None] | None = None
    """Runs in the child; what it raises, `run` raises as ViewError."""
    keep_open: Sequence[int] = ()
    """Descriptors that the process inherits."""
    signals: Signals | None = None
    """Where terminating signals arrive; they are passed on."""
    ask_with: Number | None = None
    """What is sent instead of the signal that arrived; None: the same. SIGHUP is ignored then."""
    limit: float | None = None
    """Seconds until SIGKILL; None: no limit."""
    grace: float | None = None
    """Seconds between the first signal passed on and SIGKILL; None: it is never killed."""


if TYPE_CHECKING:

    class Run(Protocol):
        """Runs a program to its end: plainly, or inside a view."""

        def __call__(
            self,
            argv: Sequence[str],
            *,
            environment: Mapping[str, str],
            on_stdout: OnLine,
            on_stderr: OnLine,
        ) -> Ended:
            """Return how the program ended; the callbacks have seen every line by then."""


def run(argv: Sequence[str], child: Child) -> Ended:
    """Run a program to its end.

    A signal from the terminal has reached the whole foreground group already, so only the others
    are passed on. If a callback raises, the process is killed.

    Raises CommandNotFoundError, CommandNotExecutableError, ViewError (from `before_exec`).
    """
    process = _start(argv, child)
    try:
        told = _Watch(process, child).until_end()
    finally:
        with process:  # closes the pipes and waits
            process.kill()  # does nothing to a process that has ended
    if process.returncode < 0:
        return Ended(_KILLED_BY - process.returncode, signal=-process.returncode, told=told)
    return Ended(process.returncode, told=told)


@contextlib.contextmanager
def beside(argv: Sequence[str], child: Child) -> Iterator[Callable[[], bool]]:
    """Run a program while the body runs, then kill it; yields what tells whether it still runs.

    Its output is not read: it inherits standard output and error.

    Raises what `run` raises.
    """
    process = _start(argv, child)
    try:
        yield lambda: process.poll() is None
    finally:
        with process:  # waits
            process.kill()  # does nothing to a process that has ended


class Captured(NamedTuple):
    """A short-lived program's answer."""

    ended: Ended
    stdout: bytes
    stderr: bytes


def capture(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    signals: Signals | None = None,
) -> Captured:
    """Run a program for the few lines that it prints; it is killed after a minute.

    It ends with this process, and at the latest a second after a signal.
    """
    stdout: list[bytes] = []
    stderr: list[bytes] = []
    parent = os.getpid()
    ended = run(
        argv,
        Child(
            environment=environment,
            on_stdout=stdout.append,
            on_stderr=stderr.append,
            before_exec=lambda: privileges.die_with(parent, signal.SIGKILL),
            signals=signals,
            limit=_CAPTURE_SECONDS,
            grace=_CAPTURE_GRACE_SECONDS,
        ),
    )
    return Captured(ended, b"\n".join(stdout), b"\n".join(stderr))


def _start(argv: Sequence[str], child: Child) -> subprocess.Popen[bytes]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as said:
        try:
            return subprocess.Popen(
                argv,
                env=child.environment,
                stdin=None if child.on_stdout is None else subprocess.DEVNULL,
                stdout=None if child.on_stdout is None else subprocess.PIPE,
                stderr=None if child.on_stderr is None else subprocess.PIPE,
                preexec_fn=lambda: _in_child(child, writer),  # noqa: PLW1509 - no threads here
                pass_fds=child.keep_open,
            )
        except subprocess.SubprocessError:
            os.close(writer)
            writer = -1
            text = os.fsdecode(said.read())
            message, _, remedy = text.partition("\0")
            raise ViewError(message, remedy=remedy) from None
        except OSError as error:
            raise _not_started(argv[0], error) from None
        finally:
            if writer >= 0:
                os.close(writer)


def _in_child(child: Child, writer: int) -> None:
    """Prepare the forked child; an error's text goes up the pipe, since Popen drops it."""
    try:
        if child.before_exec is not None:
            child.before_exec()
        if child.ask_with is not None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closing terminal sends it to all
        if child.signals is not None:
            child.signals.restore_in_child()
    except BaseException as error:  # whatever it is, the parent must learn of it
        os.write(writer, os.fsencode(complaint(error))[:_CHUNK])
        raise


def complaint(error: BaseException) -> str:
    """Return what a child says of an error: what happened, a NUL, and what to do."""
    if isinstance(error, HoldstillError):
        return f"{error.message}\0{error.remedy}"
    if isinstance(error, PermissionError):
        return f"{error}\0{_POWERS}"
    if isinstance(error, OSError):
        return str(error)
    import traceback

    return "".join(traceback.format_exception(error))


def _not_started(program: str, error: OSError) -> HoldstillError:
    if isinstance(error, FileNotFoundError):
        return CommandNotFoundError(f"{shown(program)}: command not found")
    return CommandNotExecutableError(f"{shown(program)}: cannot be executed: {error.strerror}")


class _Watch:
    """Reads a process's output and passes signals on until it ends."""

    def __init__(self, process: subprocess.Popen[bytes], child: Child) -> None:
        self._process = process
        self._child = child
        self._outputs = [
            _Lines(stream, sink)
            for stream, sink in (
                (process.stdout, child.on_stdout),
                (process.stderr, child.on_stderr),
            )
            if stream is not None and sink is not None
        ]
        self._told: Number | None = None
        self._kill_at = None if child.limit is None else time.monotonic() + child.limit

    def until_end(self) -> Number | None:
        """Return the last signal that arrived."""
        handle = os.pidfd_open(self._process.pid)
        with os.fdopen(handle), selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            for output in self._outputs:
                selector.register(output, selectors.EVENT_READ)
            if self._child.signals is not None:
                selector.register(self._child.signals, selectors.EVENT_READ)
                # What came before the process existed has not reached it, from wherever it came.
                self._pass_on(self._child.signals, all_of_them=True)
            while not self._step(selector, handle):
                pass
        for output in self._outputs:
            output.finish()
        return self._told

    def _step(self, selector: selectors.BaseSelector, handle: int) -> bool:
        ready = [key.fileobj for key, _ in selector.select(self._patience())]
        for source in ready:
            if isinstance(source, _Lines) and not source.read():
                selector.unregister(source)
        if self._child.signals is not None and self._child.signals in ready:
            self._pass_on(self._child.signals)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._process.kill()
            self._kill_at = None
        return handle in ready

    def _patience(self) -> float | None:
        """Return for how many seconds there is nothing to do; None: until something happens."""
        pulse = self._child.signals.pulse() if self._child.signals is not None else None
        if self._kill_at is None:
            return pulse
        left = max(0.0, self._kill_at - time.monotonic())
        return left if pulse is None else min(left, pulse)

    def _pass_on(self, signals: Signals, *, all_of_them: bool = False) -> None:
        while (received := signals.read()) is not None:
            self._told = received.number
            wanted = self._child.ask_with or received.number
            has_it = received.from_terminal and received.number == wanted and not all_of_them
            if not has_it:
                self._process.send_signal(wanted)
            if self._child.grace is not None:
                at = time.monotonic() + self._child.grace
                self._kill_at = at if self._kill_at is None else min(at, self._kill_at)


class _Lines:
    """Cuts a pipe into lines, keeping at most LONGEST_LINE bytes of each."""

    def __init__(self, stream: IO[bytes], sink: OnLine) -> None:
        self.stream = stream
        self.sink = sink
        self.held = bytearray()
        os.set_blocking(stream.fileno(), False)

    def fileno(self) -> int:
        return self.stream.fileno()

    def read(self) -> int:
        """Take what is there and return how many bytes that was; 0 at the end of the stream."""
        data = os.read(self.stream.fileno(), _CHUNK)
        first, *rest = data.split(b"\n")
        self._hold(first)
        for piece in rest:
            self._flush()
            self._hold(piece)
        return len(data)

    def finish(self) -> None:
        """Take what is left when the process has ended; a grandchild may keep the pipe open."""
        left = fcntl.fcntl(self.stream, fcntl.F_GETPIPE_SZ)  # or keep writing into it for ever
        with contextlib.suppress(BlockingIOError):
            while left > 0 and (taken := self.read()):
                left -= taken
        if self.held:
            self._flush()

    def _hold(self, piece: bytes) -> None:
        self.held += piece[: LONGEST_LINE - len(self.held)]

    def _flush(self) -> None:
        line = bytes(self.held)
        self.held.clear()
        self.sink(line)
