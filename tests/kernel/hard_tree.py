"""A tree of everything that is hard to bring back."""

from __future__ import annotations

import os
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.disks import sh

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 10_000
SPARSE_BYTES = 16 << 20
HOLES = (b"content/sparse", b"content/hole")
SOCKET = b"special/socket"
LINKED_SYMLINKS = (b"links/symlink", b"links/symlink again")
LINKED_FIFOS = (b"links/fifo", b"links/fifo again")
LINKED_SPECIALS = LINKED_SYMLINKS + LINKED_FIFOS
ODDLY_ATTRIBUTED = b"xattrs/odd"
"""It has an attribute whose name is not UTF-8."""
ATTRIBUTED_SYMLINK = b"xattrs/symlink"
NOT_UTF8_TARGET = b"symlinks/not UTF-8"

NAMES = (
    b"new\nline", b"caf\xe9\xff", b"\xc3\x28", b" ", b" padded ", b"-rf", b"--", b"back\\slash",
    b"\\040", b"'", b'"', b"it's \"so\"", b"*", b"?", b"[a-z]", b"{a,b}", b"!", b"#x#", b"~",
    b"$(x)`y`", b"%s%n", b"a\tb", b"\x01\x1b[2J\x7f", "žluťoučký 🐎".encode(), "a\u0308".encode(),
    b"x" * 255, b"\xff" * 255, b"...", b".hidden", b"CON", b"a:b", b"latest",
)  # fmt: skip
"""Of files and directories."""

_TIMES = {
    "nanoseconds": 1_234_567_890_123_456_789,
    "epoch": 0,
    "before": -1_000_000_000_000_000_001,
    "far": (1 << 33) * 10**9 + 1,
}
_MODES = (0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1644)
_DIRECTORY_MODES = (0o000, 0o500, 0o700, 0o1777, 0o2775, 0o7777)
_OWNERS = ((1234, 4321), (65534, 65534), (2_000_000_000, 1), (0, 12))
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
"""security.capability, revision 2: cap_net_raw+ep."""


def fill(top: str, many: int = MANY) -> None:
    """Make the whole tree in a directory; one of its directories has many entries."""
    root = os.fsencode(top)
    for make in (_content, _links, _xattrs, _owners, _names, _special, _symlinks):
        directory = os.path.join(root, make.__name__.strip("_").encode())
        os.mkdir(directory)
        make(directory)
    _many(root + b"/many", many)
    _times(root)


def _write(path: bytes, data: bytes = b"content\n") -> bytes:
    with open(path, "xb") as file:
        file.write(data)
    return path


def _content(at: bytes) -> None:
    for size in (0, 1, 100, 4096, 3_000_001):
        _write(b"%s/%d" % (at, size), os.urandom(size))
    with open(at + b"/sparse", "xb") as file:
        for position in (0, SPARSE_BYTES // 2, SPARSE_BYTES - 5):
            file.seek(position)
            file.write(b"data\n")
    with open(at + b"/hole", "xb") as file:
        file.truncate(SPARSE_BYTES)
    with open(at + b"/reserved", "xb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
    sh("chattr", "+C", os.fsdecode(_write(at + b"/nocow", b"")))
    Path(os.fsdecode(at), "nocow").write_bytes(os.urandom(5000))
    for name in (b"empty", b"empty/in", b"empty/in/empty"):
        os.mkdir(os.path.join(at, name))


def _links(at: bytes) -> None:
    for name in (b"a", b"b", b"b/deep"):
        os.mkdir(os.path.join(at, name))
    for name in (b"one", b"two"):
        first = _write(b"%s/a/%s" % (at, name), b"linked " + name)
        for other in (b"a/%s again", b"b/%s", b"b/deep/%s", b"%s"):
            os.link(first, os.path.join(at, other % name))
    _write(at + b"/like one", b"linked one")
    os.symlink(b"dangling", at + b"/symlink")
    os.mkfifo(at + b"/fifo")
    for name in (b"symlink", b"fifo"):
        path = os.path.join(at, name)
        os.link(path, path + b" again", follow_symlinks=False)


def _xattrs(at: bytes) -> None:
    file, directory, bare = (os.path.join(at, name) for name in (b"file", b"directory", b"bare"))
    _write(file)
    os.mkdir(directory)
    for path in (at, file, directory):
        os.setxattr(path, "user.note", b"\xff\x00\n")
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.new\nline", b"x")
        os.setxattr(path, "user.long", os.urandom(2000))
        os.setxattr(path, "security.note", b"\x00secure")
    os.setxattr(_write(at + b"/odd"), b"user.\xff", b"x")
    os.setxattr(file, "security.selinux", b"system_u:object_r:etc_t:s0\x00")
    os.symlink(b"file", at + b"/symlink")
    os.mkfifo(at + b"/fifo")
    for name in (b"symlink", b"fifo"):
        os.setxattr(os.path.join(at, name), "security.note", b"x", follow_symlinks=False)
    _write(bare)
    with suppress(OSError):  # not on every file system
        os.setxattr(bare, "btrfs.compression", b"zstd")
    _write(at + b"/capable")
    os.setxattr(at + b"/capable", "security.capability", _CAPABILITY)
    acl = "u:1234:rw,g:4321:r,m::rw"
    sh("setfacl", "-m", acl, os.fsdecode(_write(at + b"/acl")))
    os.mkdir(at + b"/default acl")
    _write(at + b"/default acl/older file")
    os.mkdir(at + b"/default acl/older directory")
    sh("setfacl", "-d", "-m", acl, os.fsdecode(at + b"/default acl"))
    _write(at + b"/default acl/file")
    os.mkdir(at + b"/default acl/directory")


def _owners(at: bytes) -> None:
    for number, (uid, gid) in enumerate(_OWNERS):
        path = b"%s/%d" % (at, number)
        os.chown(_write(path), uid, gid)
        os.mkdir(path + b".d")
        os.chown(_write(path + b".d/file"), uid, gid)
        os.symlink(b"x", path + b".link")
        os.mkfifo(path + b".fifo")
        for suffix in (b".d", b".link", b".fifo"):
            os.chown(path + suffix, uid, gid, follow_symlinks=False)
    for mode in _MODES:
        path = _write(b"%s/mode %o" % (at, mode))
        os.chown(path, 1234, 4321)
        os.chmod(path, mode)
    for mode in _DIRECTORY_MODES:
        path = b"%s/mode %o.d" % (at, mode)
        os.mkdir(path)
        _write(path + b"/inside")
        os.chown(path, 1234, 4321)
        os.chmod(path, mode)


def _names(at: bytes) -> None:
    for name in NAMES:
        _write(os.path.join(at, name), name)
    inner = at + b"/directories"
    os.mkdir(inner)
    for name in NAMES:
        os.mkdir(os.path.join(inner, name))
        _write(os.path.join(inner, name, name), name)


def _special(at: bytes) -> None:
    os.mkfifo(at + b"/fifo", 0o620)
    os.mknod(at + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(at + b"/whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(at + b"/large", stat.S_IFCHR | 0o600, os.makedev(4000, 70_000))
    os.mknod(at + b"/disk", stat.S_IFBLK | 0o660, os.makedev(7, 250))
    with socket.socket(socket.AF_UNIX) as listening:
        directory = os.open(at, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    for name in (b"immutable", b"append-only"):
        os.mkdir(b"%s/%s" % (at, name))
        _write(b"%s/%s/file" % (at, name), name)
        _write(b"%s/%s file" % (at, name), name)


def _symlinks(at: bytes) -> None:
    targets = {
        b"dangling": b"nowhere", b"absolute": b"/nonexistent", b"up": b"../../..", b"loop": b"loop",
        b"long": b"y" * 3000, b"odd": b"new\nline \\ ' \"", b"not UTF-8": b"caf\xe9\xff",
    }  # fmt: skip
    for name, target in targets.items():
        os.symlink(target, os.path.join(at, name))
    os.mkdir(at + b"/directory")
    os.symlink(b"directory", at + b"/to directory")


def _many(at: bytes, count: int) -> None:
    os.mkdir(at)
    for number in range(count):
        os.close(os.open(b"%s/%05d" % (at, number), os.O_CREAT | os.O_WRONLY, 0o600))
    _write(at + b"/\xfelast", b"one with content")


def _times(root: bytes) -> None:
    """Give times to files and directories, last of all: whatever is made in them moves theirs."""
    os.mkdir(root + b"/times")
    for name, mtime in _TIMES.items():
        path = os.path.join(root, b"times", name.encode())
        os.mkfifo(path + b".fifo")
        os.symlink(b"x", path + b".link")
        os.mkdir(path + b".d")
        _write(path + b".d/inside")
        for place in (_write(path), path + b".fifo", path + b".link", path + b".d"):
            os.utime(place, ns=(mtime, mtime), follow_symlinks=False)
    os.utime(root, ns=(10**18, 10**18 + 7))


@contextmanager
def flagged(top: str) -> Iterator[None]:
    """Make some of it immutable and append-only for the body: nothing could be cleaned up else."""
    places = [f"{top}/special/immutable", f"{top}/special/append-only"]
    sh("chattr", "-R", "+i", places[0], places[0] + " file")
    sh("chattr", "-R", "+a", places[1], places[1] + " file")
    try:
        yield
    finally:
        sh("chattr", "-R", "-i", "-a", *places, *(place + " file" for place in places))
