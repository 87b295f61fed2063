"""Work of our own in a forked process, where this one must not hang, wait, or change namespaces.

None of it is to be done while there are threads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time

from holdstill.errors import ViewError
from holdstill.process import complaint
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdstill.linux.signals import Signals

_CHUNK = 1 << 16
_TRACEBACK = b"\0"
"""What an answer begins with that is none."""
_LAST_SECONDS = 10.0
"""For cleaning up after a signal."""


def descriptor_from_child(make: Callable[[], int]) -> int:
    """Return a descriptor that `make` opened in a forked child, whose namespaces end with it.

    Raises ViewError with what `make` raised.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = os.fork()
            if child == 0:
                _send_descriptor(make, theirs)
        text, descriptors, _, _ = socket.recv_fds(ours, _CHUNK, 1)
        os.waitpid(child, 0)
    if descriptors:
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
    message, _, remedy = os.fsdecode(text).partition("\0")
    raise ViewError(message or "a child process ended without an answer", remedy=remedy)


def _send_descriptor(make: Callable[[], int], to: socket.socket) -> None:
    try:
        socket.send_fds(to, [b"."], [make()])
    except BaseException as error:  # noqa: BLE001 - the parent raises it again
        to.send(os.fsencode(complaint(error))[:_CHUNK])
    finally:
        os._exit(0)


class Apart(NamedTuple):
    """What came of work in a process of its own."""

    process: int
    answer: bytes | None
    """None if there was none in time: the process still waits for the kernel, say."""


def apart(work: Callable[[], bytes], seconds: float, signals: Signals) -> Apart:
    """Do something in a forked child that may hang for ever without hanging this process.

    An answer without content means that `work` has raised; its traceback has been printed. A
    signal that arrives here is passed on, and shortens the time. A child that does not answer is
    left to itself: killed, it could not clean up when the kernel lets it go. It has no standard
    streams, so that nobody who reads those of this process waits for it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(work, writer)
    os.close(writer)
    deadline = time.monotonic() + seconds
    with os.fdopen(reader, "rb"):
        chunks: list[bytes] = []
        while (left := deadline - time.monotonic()) > 0:
            waiting = select.select([reader, signals.fileno()], [], [], left)[0]
            while signals.fileno() in waiting and (received := signals.read()) is not None:
                if not received.from_terminal:
                    os.kill(child, received.number)
                deadline = min(deadline, time.monotonic() + _LAST_SECONDS)
            if reader in waiting:
                chunks.append(os.read(reader, _CHUNK))
                if not chunks[-1]:
                    os.waitpid(child, 0)
                    return Apart(child, _without_traceback(b"".join(chunks)))
    return Apart(child, None)


def _answer(work: Callable[[], bytes], to: int) -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        with os.fdopen(to, "wb") as pipe:
            try:
                pipe.write(work())
            except BaseException:  # noqa: BLE001 - this process ends here
                import traceback

                pipe.write(_TRACEBACK + os.fsencode(traceback.format_exc()))
    finally:
        os._exit(0)


def _without_traceback(answer: bytes) -> bytes:
    if not answer.startswith(_TRACEBACK):
        return answer
    sys.stderr.write(os.fsdecode(answer.removeprefix(_TRACEBACK)))
    return b""


def end_children() -> None:
    """Kill the children of this process, and those that are its own by then, and wait for them."""
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _children() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own]


def _parent(process: str) -> int | None:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])  # its name may have blanks
    except OSError:  # it ended meanwhile
        return None


class Aside:
    """A forked process at something that must not hold this one up, in a session of its own.

    It has standard error and, to talk to this process, one end of a socket; no other file of this
    process stays open in it, so that it holds no lock. Terminating signals stay blocked in it where
    they are here. Not to be made while there are threads.
    """

    def __init__(self, work: Callable[[socket.socket], None], keep: Sequence[int] = ()) -> None:
        """Begin; `work` may also use the descriptors `keep`, and what it raises is the answer."""
        self.channel, theirs = socket.socketpair()
        with theirs:
            self._pid = os.fork()
            if self._pid == 0:
                _work_aside(work, theirs, keep)

    def answer(self, deadline: float) -> str | None:
        """Return what it has raised, empty if nothing: it has ended.

        None: it was killed at the deadline (of the monotonic clock), with all of its session.
        """
        text = b""
        try:
            while self._is_ready(deadline):
                if not (data := self.channel.recv(_CHUNK)):
                    return os.fsdecode(text)
                text += data
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            return None
        finally:
            self.channel.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # which does nothing to one that has ended
            os.waitpid(self._pid, 0)

    def _is_ready(self, deadline: float) -> bool:
        left = max(0.0, deadline - time.monotonic())
        return bool(select.select([self.channel], [], [], left)[0])


def _work_aside(
    work: Callable[[socket.socket], None], channel: socket.socket, keep: Sequence[int]
) -> None:
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(2, 1)
        _close_all_but(channel.fileno(), *keep)
        work(channel)
    except BaseException as error:  # noqa: BLE001 - the parent learns of it
        with contextlib.suppress(OSError):  # unless it is gone
            channel.sendall(os.fsencode(complaint(error).partition("\0")[0]))
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    lowest = 3
    for descriptor in sorted(kept):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
