"""Locks that the kernel drops when the last process that inherited them has ended (flock(2))."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

from holdstill.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS = 0.01


def take(descriptor: int) -> bool:
    """Lock an open file for this process and those that inherit the descriptor; False if held."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(descriptor: int, seconds: float) -> bool:
    """Try for `seconds` to lock an open file; False if it is still held then."""
    deadline = time.monotonic() + seconds
    while not take(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def holders(path: str) -> tuple[int, ...]:
    """Return the processes that keep the lock on a file, as far as this one may look.

    Not from /proc/locks: it names the process that took the lock, and nothing once that is dead,
    though one that inherited the descriptor still holds it. fdinfo (proc(5)) speaks of the open
    file itself: who only waits for the lock is not among them.
    """
    wanted = os.stat(path)
    processes = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return tuple(process for process in processes if any(_locks(process, wanted)))


def named_holders(path: str) -> str:
    """Name the processes that hold a lock: a restic alone is the orphan of a dead run."""
    found = [f"{_name(process)} (process {process}{_state(process)})" for process in holders(path)]
    return ", ".join(found) or "no process that can be seen from here"


def _name(process: int) -> str:
    try:
        with open(f"/proc/{process}/comm", "rb") as file:
            return shown(os.fsdecode(file.read()).removesuffix("\n"))
    except OSError:
        return "gone meanwhile"


def _state(process: int) -> str:
    with suppress(OSError), open(f"/proc/{process}/stat", "rb") as file:
        if file.read().rpartition(b")")[2].split()[0] == b"T":
            return ", stopped"
    return ""


def _locks(process: int, wanted: os.stat_result) -> Iterator[bool]:
    try:
        for number in os.listdir(f"/proc/{process}/fd"):
            if os.path.samestat(os.stat(f"/proc/{process}/fd/{number}"), wanted):
                with open(f"/proc/{process}/fdinfo/{number}", "rb") as file:
                    yield b"FLOCK" in file.read()
    except OSError:  # it ended meanwhile, or is none of this process's business
        return
