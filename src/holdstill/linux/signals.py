"""Signals as things to be read, so that none can interrupt a clean-up half-way.

While a `Signals` is open the terminating signals are blocked and queue up in a signalfd(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import contextmanager

from holdstill.linux import libc
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
USERS = (signal.SIGUSR1, signal.SIGUSR2)
"""What they mean is the command's own; a program that does not know them dies of them."""

# <linux/signalfd.h>: 128 bytes; ssi_signo, ssi_errno and ssi_code come first.
_RECORD_SIZE = 128
# <asm-generic/siginfo.h>: sent by the kernel, as the terminal driver does for Ctrl-C; timers, too.
_SI_KERNEL = 0x80


class Received(NamedTuple):
    """A signal that arrived; from the terminal, the whole foreground group has it already."""

    number: signal.Signals
    from_terminal: bool


class Signals:
    """Blocks the terminating signals, and others that are named, for as long as it is open.

    `read` takes what has arrived.

    A signal that was ignored when the program started (nohup, a shell's background job) stays
    ignored: it is not blocked, since a blocked signal is queued even if it is ignored.
    """

    def __init__(
        self, *others: signal.Signals, pulse: Callable[[], float | None] = lambda: None
    ) -> None:
        """Prepare; nothing is blocked before the context is entered.

        Whoever waits for signals calls `pulse`, and again after the seconds that it returns.
        """
        self._wanted = (*TERMINATING, *others)
        self.pulse = pulse
        self.last: signal.Signals | None = None
        self.expired = False
        self._descriptor = -1
        self._previous: set[signal.Signals | int] = set()

    def __enter__(self) -> Self:
        """Block the signals and open the descriptor."""
        wanted = [s for s in self._wanted if signal.getsignal(s) is not signal.SIG_IGN]
        self._previous = set(signal.pthread_sigmask(signal.SIG_BLOCK, wanted))
        mask = (ctypes.c_ulong * 16)()  # sigset_t has 1024 bits in glibc and musl alike
        for number in (*wanted, signal.SIGALRM):
            mask[0] |= 1 << (number - 1)
        self._descriptor = libc.call(
            "signalfd", -1, ctypes.byref(mask), os.O_CLOEXEC | os.O_NONBLOCK, doing="signalfd"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop what is still queued, close the descriptor, and restore the mask."""
        while self.read() is not None:
            pass
        os.close(self._descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous)

    def fileno(self) -> int:
        """Return the descriptor, readable when a signal has arrived."""
        return self._descriptor

    def read(self) -> Received | None:
        """Take the next signal, or None; `last` remembers the newest one taken.

        The end of a `limit` arrives as SIGALRM, which `expired` remembers instead.
        """
        try:
            record = os.read(self._descriptor, _RECORD_SIZE)
        except BlockingIOError:
            return None
        number = signal.Signals(int.from_bytes(record[0:4], "little"))
        code = int.from_bytes(record[8:12], "little", signed=True)
        if number == signal.SIGALRM:
            self.expired = True
            return Received(number, from_terminal=False)
        self.last = number
        return Received(number, from_terminal=code == _SI_KERNEL)

    def newest(self) -> signal.Signals | None:
        """Return the last one that was taken, having taken what has just arrived."""
        self.read()
        return self.last

    def have_come(self) -> bool:
        """Whether one has come or the time is up, also where nothing has reacted to it yet."""
        return self.newest() is not None or self.expired

    @contextmanager
    def limit(self, seconds: float | None) -> Iterator[None]:
        """Let SIGALRM arrive like a terminating signal if the body takes longer; None: never."""
        self.expired = False
        if seconds is None:
            yield
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        before = signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *before)
            signal.sigtimedwait([signal.SIGALRM], 0)  # it came too late to matter
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])

    def restore_in_child(self) -> None:
        """Give a forked child the signal mask of before; a mask survives exec."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous)
