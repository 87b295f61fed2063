"""What was observed of the sources, and what was frozen of them."""

from __future__ import annotations

from enum import StrEnum

from holdstill.errors import shown
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

    from holdstill.linux.mountinfo import Mount


class Subvolume(NamedTuple):
    """A subvolume, named so that no renaming can exchange it for another."""

    file_system: str
    """Uuid of the file system."""
    device: str
    """A block device of the file system, as mountinfo names it."""
    id: int
    uuid: str
    path: str
    """From the top level of the file system; empty for the top level itself."""

    @property
    def name(self) -> str:
        """Its name where the file system is known."""
        return f"subvolume {self.id} ({shown(self.path)})" if self.path else "the top level"

    @property
    def shown(self) -> str:
        """Its name for messages."""
        return f"{self.name} of {shown(self.device)}"


class Layer(NamedTuple):
    """One subvolume on the way from the root of a mount down to a source."""

    target: str
    """Where it shows: a mount point, or the root of a nested subvolume."""
    subvolume: Subvolume
    directory: str
    """What of the subvolume shows there, from its root; empty for all of it."""


class Nested(NamedTuple):
    """A subvolume inside another, whose snapshot shows an empty directory there."""

    path: str
    """Where it shows in the live tree, unless a mount covers it."""
    subvolume: Subvolume
    snapshot_of: str
    """Uuid of what it is a read-only snapshot of; empty where it is none."""


class Source(NamedTuple):
    """A path to be frozen, and how it is reached: from the mount's root inwards."""

    path: str
    mount: Mount
    layers: tuple[Layer, ...]
    nested: tuple[Nested, ...]
    """All subvolumes inside those of the layers, to any depth, also where the source does not
    reach; each after the one that it lies in."""
    submounts: tuple[Mount, ...]
    """All mounts that can be seen below the mount's root, which a snapshot over it hides."""

    @property
    def subvolume(self) -> Subvolume:
        """The subvolume that holds the source's own files."""
        return self.layers[-1].subvolume


class Snapshot(NamedTuple):
    """A read-only copy of one subvolume."""

    subvolume: Subvolume
    id: int
    uuid: str
    transaction: int
    """Id of the transaction that created it: equal ids mean the same instant."""


class Proof(StrEnum):
    """What is known of the simultaneity of snapshots, from best to worst."""

    SINGLE = "single"
    """There is only one."""
    ONE_TRANSACTION = "one-transaction"
    """All were created in the same transaction."""
    UNWRITTEN = "unwritten"
    """Each source was left unwritten from its own snapshot to the end of the last one."""
    SKEWED = "skewed"
    """Neither could be shown."""


class SnapshotSet(NamedTuple):
    """The snapshots that were taken together on one file system."""

    file_system: str
    snapshots: tuple[Snapshot, ...]
    proof: Proof
    frozen_at: datetime
    """Just before the first request: everything synced by then is in all of them."""
    began: float
    ended: float
    """First request and last answer of the kernel, on the monotonic clock."""
    attempts: int = 1


class Instant(NamedTuple):
    """All snapshots that a run took together, and how simultaneous they are."""

    sets: tuple[SnapshotSet, ...]
    """One for each file system."""

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The snapshots of all file systems."""
        return tuple(snapshot for one in self.sets for snapshot in one.snapshots)

    @property
    def frozen_at(self) -> datetime:
        """Everything synced by then is in all snapshots."""
        return min(one.frozen_at for one in self.sets)

    @property
    def hold_ms(self) -> float:
        """Milliseconds from the first request to the last answer of the kernel."""
        ended = max(one.ended for one in self.sets)
        return round((ended - min(one.began for one in self.sets)) * 1000, 3)

    @property
    def proof(self) -> Proof:
        """Of all snapshots together: no two file systems have an instant in common."""
        return self.sets[0].proof if len(self.sets) == 1 else Proof.SKEWED


class Leftover(NamedTuple):
    """What a dead run left on a file system."""

    run: str
    device: str
    snapshots: tuple[str, ...]
    """Below the staging directory; empty where only directories were left."""
