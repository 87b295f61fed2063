"""The sweep of every file system, without what freezing needs."""

from __future__ import annotations

from holdstill.errors import HoldstillError
from holdstill.linux import mountinfo
from holdstill.snapshots.staging import sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdstill.snapshots.model import Leftover
    from holdstill.snapshots.turn import Turn


def sweep_all(on_dead: Callable[[Leftover], None], *, remove: bool, turn: Turn) -> tuple[str, ...]:
    """Sweep every btrfs file system that is mounted; return what was left alone, in words."""
    devices = {
        mount.device: mount.source
        for mount in mountinfo.read()
        # A read-only one has nothing to sweep, and asking for a writable mount might make it so.
        if mount.fs_type == "btrfs" and not mount.read_only_file_system
    }
    problems: list[str] = []
    for device in devices.values():
        try:
            problems += sweep(device, on_dead, remove=remove, turn=turn)
        except HoldstillError as error:  # the other file systems still want sweeping
            problems.append("; ".join(filter(None, (error.message, error.remedy))))
    return tuple(problems)
