"""A view from outside: start commands in it, and check that it stayed whole."""

from __future__ import annotations

import os
import socket

from holdstill import process
from holdstill.errors import ViewError, shown
from holdstill.linux import inotify, mountinfo, namespaces, privileges
from holdstill.tuples import NamedTuple
from holdstill.view.enter import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from signal import Signals as Number

    from holdstill.linux.mountinfo import Mount
    from holdstill.linux.signals import Signals
    from holdstill.view.layout import FrozenMount, Layout

_LARGEST_MESSAGE = 1 << 16
_PATIENCE_SECONDS = 5.0
_UNTRUSTED = "what was read cannot be trusted"


class View(NamedTuple):
    """Runs commands that see the frozen paths; each gets a namespace of its own.

    This process never enters: when the last process of a view has ended, its mounts are gone.
    """

    layout: Layout
    locks: tuple[int, ...] = ()
    """Descriptors that the commands inherit, so that the run lives as long as they do."""
    signals: Signals | None = None
    ask_with: Number | None = None
    """What tells a command to end, whatever signal arrived; None: the same signal."""
    grace: float | None = None
    """Seconds that a command gets to end after a signal; None: as long as it likes.

    With it, nothing that a command leaves running outlives it: a restic whose wrapper was stopped
    would go on to read a snapshot that is being deleted, and call the rest a backup.
    """

    give_up: privileges.GiveUp = privileges.give_up
    """Takes from a command the powers that it is not to have."""

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_stdout: process.OnLine | None = None,
        on_stderr: process.OnLine | None = None,
    ) -> process.Ended:
        """Run a command to its end; what it did counts only if this returns.

        Raises ViewError if the view could not be built, or lost a mount while the command ran;
        CommandNotFoundError and CommandNotExecutableError.
        """
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        with ours, theirs:
            ended = process.run(
                argv,
                process.Child(
                    environment=environment,
                    on_stdout=on_stdout,
                    on_stderr=on_stderr,
                    before_exec=lambda: enter(
                        self.layout, theirs, parent, self.ask_with, self.give_up
                    ),
                    keep_open=self.locks,
                    signals=self.signals,
                    ask_with=self.ask_with,
                    grace=self.grace,
                ),
            )
            _check_whole(self.layout, ours, end_others=self.grace is not None)
        return ended


def _check_whole(layout: Layout, evidence: socket.socket, *, end_others: bool) -> None:
    """Raise ViewError unless all mounts are in place, after the end of all who could see them."""
    evidence.setblocking(False)
    try:
        text, descriptors, _, _ = socket.recv_fds(evidence, _LARGEST_MESSAGE, 2)
    except BlockingIOError:
        message = "the process that was to become the command was killed while it built the view"
        raise ViewError(message) from None
    rows, watch = descriptors
    try:
        namespace, *ids = map(int, text.decode().split(","))
        if end_others and (left := namespaces.end_members(namespace, _PATIENCE_SECONDS)):
            message = f"processes that the command started cannot be ended: {left}"
            raise ViewError(message, remedy="they wait for a device or a server; see ps")
        mounts = mountinfo.read_from(rows)
        was_moved = inotify.has_seen(watch)
    finally:
        os.close(rows)
        inotify.end(watch)
    if was_moved:
        raise _moved(layout)
    at: dict[str, list[Mount]] = {}
    for mount in mounts:
        at.setdefault(mount.mount_point, []).append(mount)
    for expected, number in zip(layout.frozen, ids, strict=True):
        if not _is_in_place(expected, number, at.get(expected.target, ())):
            raise _lost(expected.target)


def _is_in_place(expected: FrozenMount, number: int, here: Sequence[Mount]) -> bool:
    """Whether a snapshot's mount is the topmost of those at its place."""
    covered = any(mount.parent_id == number for mount in here)
    return not covered and any(m.id == number and _shows(expected, m) for m in here)


def _shows(expected: FrozenMount, mount: Mount) -> bool:
    """Whether it is the snapshot: the kernel gives the id of a mount that is gone to the next."""
    snapshot = f"subvolid={expected.subvolume_id}"
    return snapshot in mount.super_options and not mount.root.endswith(mountinfo.DELETED)


def _moved(layout: Layout) -> ViewError:
    paths = ", ".join(map(shown, layout.paths))
    message = f"a directory above the view's snapshots was renamed while the command ran ({paths})"
    return ViewError(message, remedy=_UNTRUSTED)


def _lost(target: str) -> ViewError:
    message = f"the view lost its snapshot at {shown(target)} while the command ran"
    remedy = f"{_UNTRUSTED}; was the snapshot deleted, or the view entered?"
    return ViewError(message, remedy=remedy)
