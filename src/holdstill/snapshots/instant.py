"""One instant for several subvolumes of a file system: how it is made, and how it is proven.

btrfs creates every snapshot that is pending in a transaction while that transaction commits, when
no writer can join it any more (fs/btrfs/transaction.c: create_pending_snapshots). So:

    Snapshots with the same `otransid` show the same instant.

To get N of them into one transaction, N threads ask at once (`ask_together`). The kernel holds a
directory's lock from an ioctl's start to the end of its commit, so each snapshot goes into a
directory of its own; ctypes lets go of the GIL. On Linux 6.6 and later a commit is started just
before (`kick`): the threads find it under way, wait together, and join the next one.

If they landed in different transactions all the same, the set can still be consistent:

    Nothing was written to a subvolume between its snapshot and the end of the last ioctl if its
    `generation`, read after that end, is not above the `otransid` of its snapshot.

A set of which neither is true is deleted and taken anew. What a snapshot promises is the order of
fsync: what was synced before is in whatever contains what came after.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress

from holdstill.linux import btrfs
from holdstill.snapshots.model import Proof
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ATTEMPTS = 8
"""Sets that are taken before one is left skewed."""
_KICKABLE_SINCE = (6, 6)
"""Before, a kick did not help, and one START_SYNC was seen to stall for half a minute (6.1)."""
_KICK_PATIENCE_SECONDS = 0.5


class Evidence(NamedTuple):
    """A snapshot, and how its source stood after the last of its set had been taken."""

    created: int
    """`otransid` of the snapshot."""
    written: int
    """`generation` of the source."""


def prove(taken: Sequence[Evidence]) -> Proof:
    """Return what the transaction ids of a set show."""
    if len(taken) == 1:
        return Proof.SINGLE
    if len({one.created for one in taken}) == 1:
        return Proof.ONE_TRANSACTION
    if all(one.written <= one.created for one in taken):
        return Proof.UNWRITTEN
    return Proof.SKEWED


def kickable(release: str) -> bool:
    """Whether a kick helps on the kernel of this release (`uname -r`)."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _KICKABLE_SINCE


def kick(directory: int) -> None:
    """Start a commit, and do not wait for its end; the file system is made dirty first.

    It is not waited for for long, and may fail: it is a help, no step of the proof.
    """

    def start() -> None:
        with suppress(OSError):
            os.utime(directory)
            btrfs.start_sync(directory)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(_KICK_PATIENCE_SECONDS)


class Asked(NamedTuple):
    """When the requests of a set were made and answered (time.monotonic), and what failed."""

    began: float
    ended: float
    failures: tuple[OSError | None, ...]
    """One for each request, in their order."""


def ask_together(requests: Sequence[Callable[[], None]], before: Callable[[], None]) -> Asked:
    """Make all requests at once, each from a thread of its own, right after `before`.

    The threads exist and wait before that: they wait for the end of a pipe, which wakes all of them
    with a single system call. Raises RuntimeError, and makes no request, if they cannot be started.
    """
    failures: list[OSError | None] = [None] * len(requests)
    began = [0.0] * len(requests)
    gate, starter = os.pipe()

    called_off = False

    def ask(index: int) -> None:
        os.read(gate, 1)
        if called_off:
            return
        began[index] = time.monotonic()
        try:
            requests[index]()
        except OSError as error:
            failures[index] = error

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        before()
    except BaseException:
        called_off = True
        raise
    finally:
        os.close(starter)
        for thread in started:
            thread.join()
        os.close(gate)
    return Asked(min(began), time.monotonic(), tuple(failures))
