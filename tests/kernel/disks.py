"""Real disks for tests: loop devices over unlinked files, which vanish when nobody mounts them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from holdstill.linux import loop, mountinfo
from tests.kernel import guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdstill.linux.mountinfo import Mount

STAGING = ".holdstill"

MARK = "HOLDSTILL_TEST_ARENA"
"""The variable that everything has in its environment that tests start."""
_PATIENCE_SECONDS = 10.0


def sh(*argv: str) -> str:
    """Run a program of the machine; return what it printed, raise what it complained of."""
    done = subprocess.run(
        argv, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
    )
    if done.returncode:
        message = f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}"
        raise OSError(message)
    return done.stdout


@contextmanager
def swapping(path: str) -> Iterator[str]:
    """Swap to a file as long as the body runs."""
    Path(path).touch(mode=0o600)
    sh("chattr", "+C", path)
    sh("fallocate", "-l", "8m", path)
    sh("mkswap", "--quiet", path)
    sh("swapon", path)
    try:
        yield path
    finally:
        sh("swapoff", path)


@contextmanager
def locking(path: str) -> Iterator[Callable[[], None]]:
    """Lock a directory, until what this yields is called or the body ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@dataclass
class Disk:
    """A btrfs file system of its own, its top level mounted at `top`."""

    device: str
    arena: Arena
    top: str

    def create(self, name: str) -> str:
        """Create a subvolume by its path from the top level; return where it lies there."""
        path = f"{self.top}/{name}"
        sh("btrfs", "subvolume", "create", "--", path)
        return path

    def mount(self, subvolume: str, at: str | None = None, options: str = "") -> str:
        """Mount a subvolume, in a directory of its own unless named; return the mount point."""
        target = self.arena.directory(at)
        chosen = ",".join(filter(None, [f"subvol=/{subvolume}", options]))
        sh("mount", "-t", "btrfs", "-o", chosen, self.device, target)
        return target

    def source(self, name: str | None = None, at: str | None = None) -> str:
        """Create a subvolume with a file in it and mount it; return the mount point."""
        name = name or self.arena.unique("@")
        self.create(name)
        target = self.mount(name, at)
        Path(target, "file").write_text("before\n", encoding="utf-8")
        return target

    def runs(self) -> list[str]:
        """Return what lies in the staging directory."""
        staging = f"{self.top}/{STAGING}"
        return sorted(os.listdir(staging)) if os.path.isdir(staging) else []

    def staging(self) -> str:
        """Return the staging directory's path, made as holdstill makes it."""
        path = f"{self.top}/{STAGING}"
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return path

    def snapshots(self) -> list[str]:
        """Return the paths of all subvolumes in the staging directory, from the top level."""
        listed = sh("btrfs", "subvolume", "list", self.top).splitlines()
        paths = [line.partition(" path ")[2] for line in listed]
        return [path for path in paths if path.startswith(STAGING + "/")]

    def scrub(self) -> None:
        """Remove whatever lies in the staging directory."""
        for path in sorted(self.snapshots(), reverse=True):
            sh("btrfs", "subvolume", "delete", f"{self.top}/{path}")
        sh("find", f"{self.top}/{STAGING}", "-mindepth", "1", "-delete")


@dataclass
class Arena:
    """A directory in which only the tests mount, on shared propagation as systemd sets it up.

    A guardian process detaches everything below it when the tests have ended, however they do.
    """

    base: str
    devices: list[str] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)
    _count: int = 0
    _guardian: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Make it a shared mount of its own, and start the guardian."""
        self._guardian = subprocess.Popen(
            [sys.executable, "-IS", guardian.__file__, self.base],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        os.environ[MARK] = self.base
        sh("mount", "--bind", self.base, self.base)
        sh("mount", "--make-shared", self.base)

    def close(self) -> list[str]:
        """Detach everything; return what is left that should not be."""
        left = self.left_behind()
        os.environ.pop(MARK, None)
        if self._guardian is not None:
            self._guardian.communicate(guardian.FAREWELL)
        left += [f"mount at {mount.mount_point}" for mount in self.rows()]
        left += [f"loop device {device}" for device in self.devices if not self._vanished(device)]
        return left

    def left_behind(self) -> list[str]:
        """Return what is left of runs and processes; none of it is there any more then."""
        left = []
        for disk in self.disks:
            left += [f"run {run} on {disk.device}" for run in disk.runs()]
            if disk.runs():
                disk.scrub()
        for pid in self._strays():
            left.append(f"process {pid}")
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return left

    def _strays(self) -> list[str]:
        """Return the processes that tests have started and that do not end."""
        mark = f"{MARK}={self.base}".encode()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            pids = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _marked(pid, mark)]
            if not pids or time.monotonic() >= deadline:
                return pids
            time.sleep(0.02)

    def rows(self) -> list[Mount]:
        """Return this namespace's mounts that lie in the arena, or show its disks anywhere."""
        return [mount for mount in mountinfo.read() if self._is_ours(mount)]

    def _is_ours(self, mount: Mount) -> bool:
        backing = Path("/sys/block", os.path.basename(mount.source), "loop/backing_file")
        inside = f"{mount.mount_point}/".startswith(f"{self.base}/")
        return inside or (mount.source in self.devices and self.base in _text(backing))

    def _vanished(self, device: str, patience: float = _PATIENCE_SECONDS) -> bool:
        """Whether a device is free, or serves somebody else's image by now."""
        backing = Path("/sys/block", os.path.basename(device), "loop/backing_file")
        deadline = time.monotonic() + patience
        while self.base in _text(backing):
            if time.monotonic() >= deadline:
                return _is_held_elsewhere(device, self.base)
            time.sleep(0.02)
        return True

    def unique(self, prefix: str = "d") -> str:
        """Return a name that no other test has."""
        self._count += 1
        return f"{prefix}{self._count}"

    def directory(self, name: str | None = None) -> str:
        """Return a directory, made where it is missing; a relative name lies in the arena."""
        path = os.path.join(self.base, name or self.unique())
        os.makedirs(path, exist_ok=True)
        return path

    def disk(self, megabytes: int = 1024, *mkfs: str) -> Disk:
        """Make a btrfs disk and mount its top level."""
        top = self.directory(self.unique("top"))
        with self.block_device(megabytes, "mkfs.btrfs", "-q", *mkfs) as device:
            sh("mount", "-t", "btrfs", "-o", "subvolid=5", device, top)
        self.disks.append(Disk(device, self, top))
        return self.disks[-1]

    def other(self, fs_type: str, megabytes: int = 512) -> str:
        """Make a file system that is not btrfs; return where it is mounted."""
        target = self.directory()
        if fs_type == "tmpfs":
            self.mount_tmpfs(target)
        elif fs_type == "overlay":
            below = self.other("tmpfs")
            lower, upper, work = (f"{below}/{name}" for name in ("lower", "upper", "work"))
            for path in (lower, upper, work):
                os.mkdir(path)
            layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
            sh("mount", "-t", "overlay", "overlay", "-o", layers, target)
        else:
            with self.block_device(megabytes, f"mkfs.{fs_type}", "-q") as device:
                sh("mount", "-t", fs_type, device, target)
        return target

    def mount_tmpfs(self, target: str) -> None:
        """Mount a tmpfs at an existing directory."""
        sh("mount", "-t", "tmpfs", "tmpfs", target)

    @contextmanager
    def block_device(self, megabytes: int, *mkfs: str) -> Iterator[str]:
        """Make a loop device with a file system on it; it is there as long as it is mounted."""
        # Beside the arena, whose own mount goes first; btrfs-progs tell loop devices by this name.
        path = f"{self.base}-{self.unique('image')}"
        image = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        os.truncate(image, megabytes << 20)
        opened, device = loop.attach(image)
        os.close(image)
        try:
            sh(*mkfs, device)
            self.devices.append(device)
            yield device
        finally:
            os.close(opened)


def _is_held_elsewhere(device: str, base: str) -> bool:
    """Whether a namespace that somebody else made meanwhile has copied a mount of ours.

    Of several devices of a file system mountinfo names only one: its place tells as much.
    """
    texts = (_text(Path("/proc", pid, "mountinfo")) for pid in os.listdir("/proc"))
    return any(f" {device} " in text or f" {base}/" in text for text in texts)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _marked(pid: str, mark: bytes) -> bool:
    try:
        environment = Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return False
    return mark in environment.split(b"\0") and int(pid) != os.getpid()
