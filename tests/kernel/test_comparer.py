"""The tool that says whether two trees are equal sees each kind of difference, and no other."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.kernel.comparer import Difference, differences, listing
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.disks import Disk

_TIME = 1_234_567_890_123_456_789


@pytest.fixture
def trees(disk: Disk) -> tuple[str, str]:
    """Make two equal trees with something of every kind."""
    one, other = (disk.create(disk.arena.unique("@")) for _ in range(2))
    for top in (one, other):
        _fill(os.fsencode(top))
    return one, other


def _fill(top: bytes) -> None:
    os.mkdir(top + b"/d")
    for name in (b"file", b"d/caf\xe9\n", b"spare"):
        with open(os.path.join(top, name), "wb") as file:
            file.write(b"content")
    os.link(top + b"/file", top + b"/d/link")
    os.symlink(b"target", top + b"/symlink")
    os.mkfifo(top + b"/fifo")
    os.mknod(top + b"/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(top + b"/socket"))
    os.setxattr(top + b"/file", "user.note", b"x")
    for name in (b"file", b"d/caf\xe9\n", b"spare", b"symlink", b"fifo", b"device", b"socket"):
        os.utime(os.path.join(top, name), ns=(_TIME, _TIME), follow_symlinks=False)
    for name in (b"d", b""):
        os.utime(os.path.join(top, name), ns=(_TIME, _TIME))


def _changed(path: bytes) -> bytes:
    with open(path, "r+b") as file:
        file.write(b"CONTENT")
    return path


def _acl(path: str) -> None:
    sh("setfacl", "-m", "u:1234:r", path)
    os.chmod(path, os.stat(path).st_mode)


def _replaced(path: bytes, make: Callable[[bytes], object]) -> None:
    os.unlink(path)
    make(path)


def _broken_link(path: bytes) -> None:
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(b"content")
    os.setxattr(path, "user.note", b"x")


def _moved_link(top: bytes) -> None:
    """Leave as many links as there were."""
    os.unlink(top + b"/spare")
    os.link(top + b"/file", top + b"/spare")


CHANGES: dict[str, tuple[Callable[[bytes], object], set[tuple[bytes, str]]]] = {
    "missing": (lambda top: os.unlink(top + b"/fifo"), {(b"fifo", "missing")}),
    "added": (lambda top: os.mkdir(top + b"/new"), {(b"new", "added")}),
    "renamed by a byte": (
        lambda top: os.rename(top + b"/d/caf\xe9\n", top + b"/d/caf\xc3\xa9\n"),
        {(b"d/caf\xe9\n", "missing"), (b"d/caf\xc3\xa9\n", "added")},
    ),
    "content": (lambda top: _changed(top + b"/spare"), {(b"spare", "content")}),
    "content of an odd name": (
        lambda top: _changed(top + b"/d/caf\xe9\n"), {(b"d/caf\xe9\n", "content")},
    ),
    "size": (
        lambda top: os.truncate(top + b"/spare", 1 << 20),
        {(b"spare", "content"), (b"spare", "size")},
    ),
    "kind": (
        lambda top: _replaced(top + b"/fifo", lambda path: os.mkdir(path, 0o644)),
        {(b"fifo", "kind")},
    ),
    "socket": (
        lambda top: _replaced(top + b"/socket", lambda path: os.mkfifo(path, 0o755)),
        {(b"socket", "kind")},
    ),
    "mode": (lambda top: os.chmod(top + b"/spare", 0o640), {(b"spare", "mode")}),
    "set-uid": (lambda top: os.chmod(top + b"/spare", 0o4644), {(b"spare", "mode")}),
    "sticky": (lambda top: os.chmod(top + b"/d", 0o1700), {(b"d", "mode")}),
    "owner": (lambda top: os.chown(top + b"/spare", 1, -1), {(b"spare", "uid")}),
    "group": (lambda top: os.chown(top + b"/spare", -1, 1), {(b"spare", "gid")}),
    "owner of a symlink": (
        lambda top: os.chown(top + b"/symlink", 1, -1, follow_symlinks=False),
        {(b"symlink", "uid")},
    ),
    "a nanosecond": (
        lambda top: os.utime(top + b"/spare", ns=(0, _TIME + 1)), {(b"spare", "mtime_ns")},
    ),
    "a directory's time": (lambda top: os.utime(top + b"/d", ns=(0, 1)), {(b"d", "mtime_ns")}),
    "a symlink's time": (
        lambda top: os.utime(top + b"/symlink", ns=(0, 1), follow_symlinks=False),
        {(b"symlink", "mtime_ns")},
    ),
    "the top": (lambda top: os.chmod(top, 0o700), {(b"", "mode")}),
    "target": (
        lambda top: _replaced(top + b"/symlink", lambda path: os.symlink(b"taRget", path)),
        {(b"symlink", "target")},
    ),
    "device": (
        lambda top: _replaced(
            top + b"/device", lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        ),
        {(b"device", "rdev")},
    ),
    "a link that is a copy": (
        lambda top: _broken_link(top + b"/d/link"), {(b"d/link", "linked"), (b"file", "linked")},
    ),
    "a copy that is a link": (
        _moved_link,
        {(b"spare", "linked"), (b"spare", "xattrs"), (b"d/link", "linked"), (b"file", "linked")},
    ),
    "xattr": (
        lambda top: os.setxattr(top + b"/spare", "user.new", b""), {(b"spare", "xattrs")},
    ),
    "xattr's value": (
        lambda top: os.setxattr(top + b"/file", "user.note", b"y"),
        {(b"file", "xattrs"), (b"d/link", "xattrs")},
    ),
    "trusted": (
        lambda top: os.setxattr(top + b"/fifo", "trusted.x", b"y"), {(b"fifo", "xattrs")},
    ),
    "a symlink's xattr": (
        lambda top: os.setxattr(top + b"/symlink", "security.x", b"y", follow_symlinks=False),
        {(b"symlink", "xattrs")},
    ),
    "ACL": (lambda top: _acl(os.fsdecode(top + b"/spare")), {(b"spare", "xattrs")}),
    "default ACL": (
        lambda top: sh("setfacl", "-d", "-m", "u:1234:r", os.fsdecode(top + b"/d")),
        {(b"d", "xattrs")},
    ),
}  # fmt: skip


def test_equal_trees_have_no_difference(trees: tuple[str, str]) -> None:
    """Inode numbers and change times are never the same."""
    assert differences(*trees) == []
    assert len(listing(trees[0])) == 10


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_difference_is_seen(trees: tuple[str, str], name: str) -> None:
    """In both directions, at its path, and nothing else is."""
    change, expected = CHANGES[name]
    change(os.fsencode(trees[1]))
    found = {(one.path, one.what) for one in differences(*trees)}
    others = {one for one in found - expected if one[1] != "mtime_ns"}  # which most changes move
    assert (expected - found, others) == (set(), set())
    swapped = {"missing": "added", "added": "missing"}
    back = {(one.path, swapped.get(one.what, one.what)) for one in differences(trees[1], trees[0])}
    assert back == found


def test_a_difference_holds_both_sides(trees: tuple[str, str]) -> None:
    """So that a failure can be read."""
    os.chmod(f"{trees[1]}/spare", 0o600)
    assert differences(*trees) == [Difference(b"spare", "mode", 0o644, 0o600)]


def test_what_is_left_out_hides_what_lies_below(trees: tuple[str, str]) -> None:
    """And nothing beside it."""
    os.unlink(f"{trees[1]}/d/link")
    os.unlink(f"{trees[1]}/fifo")
    found = {(one.path, one.what) for one in differences(*trees, leaving_out={b"d"})}
    assert found == {(b"fifo", "missing"), (b"", "mtime_ns")}
