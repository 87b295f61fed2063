"""Detaches all mounts below a directory when standard input ends: when its parent has, somehow.

Where the parent died without a word, all that it has left running dies, too: whoever can see the
directory's mounts lives in the tests' own mount namespace, or in a view that was made of it.

Run as a program it outlives tests that are killed. It imports nothing of holdstill, which may be
what is broken.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_TRIES = 1000
FAREWELL = b"done"
"""What a parent says that ends in order."""


def mount_points() -> list[bytes]:
    """Return where this namespace's mounts are, parents first."""
    rows = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [re.sub(rb"\\([0-7]{3})", _character, row.split(b" ")[4]) for row in rows]


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])


def mounts_below(base: str) -> list[str]:
    """Return the mount points at and below a directory, in the order of their mounting."""
    name = os.fsencode(base)
    found = [p for p in mount_points() if p == name or p.startswith(name + b"/")]
    return [os.fsdecode(path) for path in found]


def unmount(path: str) -> None:
    """Detach the mount at a path, busy or not."""
    if _LIBC.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def unmount_below(base: str) -> None:
    """Detach all mounts at and below a directory."""
    while found := mounts_below(base):
        unmount(found[-1])


def onlookers(base: str) -> list[int]:
    """Return the other processes that see a mount at a directory."""
    others = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in others if process != os.getpid() and _sees(process, base)]


def _sees(process: int, base: str) -> bool:
    mark = b" " + os.fsencode(base) + b" "
    try:
        return mark in Path(f"/proc/{process}/mountinfo").read_bytes()
    except OSError:  # it has ended
        return False


def end_onlookers(base: str) -> None:
    """Kill them; nobody in the machine's own namespace, should the tests ever live there."""
    if _sees(1, base):
        return
    for _ in range(_TRIES):
        found = onlookers(base)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)


if __name__ == "__main__":
    # Not its pid: a dying process closes its pipes before it stops being anybody's parent.
    if sys.stdin.buffer.read() != FAREWELL:
        end_onlookers(sys.argv[1])
    unmount_below(sys.argv[1])
