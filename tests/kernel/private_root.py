"""A machine whose root is on btrfs: a small system of its own, entered by pivot_root.

    python private_root.py ROOT MOUNTS -- COMMAND...

MOUNTS is JSON: command lines that are run in a namespace of their own before ROOT becomes its root.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kernel.disks import Disk

Finished = subprocess.CompletedProcess[str]

CHECKOUT = str(Path(__file__).parents[2])
PROGRAMS = ("sh", "cat", "ls", "stat", "find", "mv", "date", "touch", "grep", "readlink", "mount",
            "umount", "head", "sleep", "mkdir")  # fmt: skip
_MOUNT_POINTS = ("proc", "sys", "dev", "run", "tmp", "home", "srv", "etc", "var", "root")
_CLONE_NEWNS = 0x20000
_MNT_DETACH = 2


@dataclass(frozen=True)
class Root:
    """Subvolumes `@` and `@home` of a disk as `/` and `/home`; `srv/nested` is nested in `@`."""

    disk: Disk
    mounts: tuple[tuple[str, ...], ...]

    def inside(self, path: str) -> str:
        """Return where a path of the machine lies outside of it."""
        name = "@home" + path.removeprefix("/home") if path.startswith("/home") else f"@{path}"
        return f"{self.disk.top}/{name}"

    def argv(self, *command: str) -> tuple[str, ...]:
        """Return the command line that runs a command on this machine."""
        target = self.mounts[0][-1]
        return (sys.executable, "-IS", __file__, target, json.dumps(self.mounts), "--", *command)

    def run(self, *command: str, environment: dict[str, str] | None = None) -> Finished:
        """Run a command on this machine."""
        return subprocess.run(
            self.argv(*command),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )


def build(disk: Disk, restic: str, *binds: str) -> Root:
    """Install a small system; Python, the checkout and `binds` are mounts in it."""
    top = disk.create("@")
    disk.create("@home")
    for name in _MOUNT_POINTS:
        os.mkdir(f"{top}/{name}")
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{top}/{name}")
    for path in (*_with_libraries(), "/etc/passwd", "/etc/group"):
        _install(path, top)
    _install(restic, top, "/usr/bin/restic")
    for path in ("/srv/file", "/etc/file", "/home/file", "/var/file"):
        place = f"{disk.top}/@home/file" if path == "/home/file" else f"{top}{path}"
        Path(place).write_text("before\n", encoding="utf-8")
    disk.create("@/srv/nested")
    Path(top, "srv/nested/file").write_text("before\n", encoding="utf-8")
    for name in ("/run", "/tmp"):  # what the mounts cover
        Path(f"{top}{name}/covered").touch()
    return Root(disk, tuple(_mounts(disk, binds)))


def _mounts(disk: Disk, binds: tuple[str, ...]) -> list[tuple[str, ...]]:
    new = disk.arena.directory()
    btrfs = ("mount", "-t", "btrfs", "-o")
    found: list[tuple[str, ...]] = [(*btrfs, "subvol=@", disk.device, new)]
    found += [(*btrfs, "subvol=@home", disk.device, f"{new}/home")]
    found += [("mount", "--rbind", f"/{name}", f"{new}/{name}") for name in ("proc", "sys", "dev")]
    found += [("mount", "-t", "tmpfs", "tmpfs", f"{new}/{name}") for name in ("run", "tmp")]
    for path in (sys.base_prefix, sys.prefix, CHECKOUT, *binds):
        found += [("mkdir", "-p", new + path), ("mount", "--rbind", path, new + path)]
    return found


@cache
def _with_libraries() -> tuple[str, ...]:
    """Return the programs, and all libraries that they and Python need."""
    programs = [path for path in map(shutil.which, PROGRAMS) if path]
    modules = [
        str(path) for top in (sys.base_prefix, sys.prefix) for path in Path(top).rglob("*.so*")
        if ".cpython-" in path.name or path.name.startswith("libpython")
    ]  # fmt: skip
    listed = subprocess.run(
        ["ldd", *programs, os.path.realpath(sys.executable), *modules],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    words = {word for line in listed.splitlines() for word in line.split() if word[0] == "/"}
    own = (sys.base_prefix, sys.prefix)
    libraries = {word for word in words if not word.endswith(":") and not word.startswith(own)}
    return (*programs, *libraries)


def _install(path: str, top: str, name: str = "") -> None:
    directory = top + os.path.realpath(os.path.dirname(name or path))
    os.makedirs(directory, exist_ok=True)
    shutil.copy2(path, f"{directory}/{os.path.basename(name or path)}")


def _enter(root: str, mounts: list[list[str]]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for argv in mounts:
        subprocess.run(argv, check=True)
    os.chdir(root)
    _check(libc.pivot_root(b".", b"."))
    _check(libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")


def _check(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    _enter(sys.argv[1], json.loads(sys.argv[2]))
    os.execvp(sys.argv[4], sys.argv[4:])  # noqa: S606 - what the caller names
