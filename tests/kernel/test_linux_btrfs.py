"""The btrfs ioctls, against real subvolumes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from holdstill.linux import btrfs, btrfs_tree
from holdstill.snapshots.btrfs import opened
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from tests.kernel.disks import Disk

LIST = ("subvolume", "list", "-pu")


def test_the_requests_are_the_kernels() -> None:
    """As measured: the number holds the size of its structure, so a wrong size shows here, too."""
    assert btrfs._SNAP_CREATE_V2 == 0x50009417
    assert btrfs._SNAP_DESTROY_V2 == 0x5000943F
    assert btrfs._GET_SUBVOL_INFO == 0x81F8943C
    assert btrfs._FS_INFO == 0x8400941F
    assert btrfs._INO_LOOKUP == 0xD0009412
    assert btrfs._START_SYNC == 0x80089418
    assert btrfs._SUBVOL_SETFLAGS == 0x4008941A
    assert btrfs_tree._TREE_SEARCH_V2 == 0xC0709411
    assert btrfs._SUBVOLUME_READ_ONLY == 2
    assert btrfs._BY_ID == 0x10


def test_the_structures_have_the_kernels_sizes() -> None:
    """Those of <linux/btrfs.h> and <linux/btrfs_tree.h>."""
    sizes = {
        btrfs._SnapshotArguments: 4096,
        btrfs._DestroyArguments: 4096,
        btrfs._SubvolumeArguments: 504,
        btrfs._FileSystemArguments: 1024,
        btrfs._LookupArguments: 4096,
        btrfs_tree._SearchKey: 104,
        btrfs_tree._Search: 112,
        btrfs_tree._Header: 32,
        btrfs_tree._RootReference: 18,
    }
    assert {kind: ctypes.sizeof(kind) for kind in sizes} == sizes


def test_a_structure_of_a_wrong_size_is_refused() -> None:
    """At import, not at the first backup."""
    with pytest.raises(AssertionError, match="has 32 bytes, the kernel's 33"):
        btrfs.request(1, btrfs_tree._Header, 33, 1)


def test_a_subvolume_is_described_as_btrfs_progs_describe_it(disk: Disk, source: str) -> None:
    """Id, uuid, parent, flags and generations."""
    copy = f"{disk.top}/{disk.arena.unique('copy')}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, copy)
    with opened(source) as original, opened(copy) as descriptor:
        own, found = btrfs.subvolume_info(original), btrfs.subvolume_info(descriptor)
    shown = sh("btrfs", "subvolume", "show", copy)
    facts = dict(line.strip().split(":", 1) for line in shown.splitlines() if ":" in line)
    assert found.id == int(facts["Subvolume ID"])
    assert found.uuid == facts["UUID"].strip()
    assert found.parent_uuid == facts["Parent UUID"].strip() == own.uuid
    assert found.otransid == int(facts["Gen at creation"])
    assert (found.read_only, own.read_only, own.parent_uuid) == (True, False, "")


def test_the_file_system_has_one_uuid(disk: Disk, source: str) -> None:
    """From whichever of its subvolumes it is asked."""
    with opened(source) as descriptor, opened(disk.top) as top:
        assert btrfs.file_system_uuid(descriptor) == btrfs.file_system_uuid(top)
        assert btrfs.file_system_uuid(top) in sh("btrfs", "filesystem", "show", disk.top)


def test_a_snapshot_is_taken_read_only_and_deleted_by_its_id(disk: Disk, source: str) -> None:
    """The whole life of one."""
    name = disk.arena.unique("snap")
    with opened(source) as descriptor, opened(disk.top) as top:
        btrfs.create_snapshot(descriptor, top, name)
        with opened(name, top) as snapshot:
            info = btrfs.subvolume_info(snapshot)
            assert os.listdir(snapshot) == ["file"]
        assert info.read_only
        btrfs.delete_subvolume(top, info.id)
    assert not os.path.exists(f"{disk.top}/{name}")


def test_errors_say_what_was_being_done(disk: Disk, source: str) -> None:
    """An errno alone helps nobody."""
    with opened(source) as descriptor, opened(disk.top) as top:
        with pytest.raises(FileExistsError, match="while taking a snapshot"):
            btrfs.create_snapshot(descriptor, top, ".")
        with pytest.raises(OSError, match="while deleting subvolume 999999"):
            btrfs.delete_subvolume(top, 999_999)
        with pytest.raises(OSError, match="while looking up inode 999999"):
            btrfs.path_of_inode(top, btrfs.TOP_LEVEL, 999_999)
    with (
        opened("/proc") as elsewhere,
        pytest.raises(OSError, match="reading subvolume information"),
    ):
        btrfs.subvolume_info(elsewhere)


def test_all_subvolumes_are_listed_as_btrfs_progs_list_them(disk: Disk, source: str) -> None:
    """Id, place, parent, whose snapshot it is: of the whole file system, from any of its files."""
    os.makedirs(f"{source}/dir/plain")
    for path in ("one", "dir/two", "one/inner"):
        sh("btrfs", "subvolume", "create", f"{source}/{path}")
    sh("btrfs", "subvolume", "snapshot", "-r", source, f"{source}/dir/copy")
    with opened(f"{source}/dir/plain") as descriptor:
        found = btrfs_tree.subvolumes(descriptor)
    listed = [line.split() for line in sh("btrfs", *LIST, disk.top).splitlines()]
    ids = {int(w[1]): (int(w[5]), w[10]) for w in listed if w[:1] == ["ID"]}
    assert {n: (entry.inside, entry.uuid) for n, entry in found.items() if n != 5} == ids
    own = next(n for n, entry in found.items() if entry.path == _name_of(source))
    inside = {entry.path: entry for entry in found.values() if entry.inside == own}
    assert inside.keys() == {"one", "dir/two", "dir/copy"}
    assert (inside["one"].read_only, inside["one"].parent_uuid) == (False, "")
    copy = inside["dir/copy"]
    assert (copy.read_only, copy.parent_uuid) == (True, found[own].uuid)


def test_a_deleted_subvolume_is_not_listed(disk: Disk, source: str) -> None:
    """Although it is still open, and its tree still there."""
    path = f"{source}/nested"
    sh("btrfs", "subvolume", "create", path)
    with opened(path) as descriptor:
        number = btrfs.subvolume_info(descriptor).id
        sh("btrfs", "subvolume", "delete", path)
        assert number not in btrfs_tree.subvolumes(descriptor)
    assert disk.runs() == []


def test_subvolumes_are_listed_while_others_come_and_go(disk: Disk, source: str) -> None:
    """What another run removes meanwhile, with its directories, is no error."""
    script = (
        'while :; do mkdir -p "$0/x/y"; btrfs subvolume create "$0/x/y/z"; '
        'btrfs subvolume delete "$0/x/y/z"; rm -r "$0/x"; done'
    )
    command = ["sh", "-c", script, f"{disk.top}/{_name_of(source)}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as busy:
        try:
            with opened(source) as descriptor:
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline:
                    assert btrfs.TOP_LEVEL in btrfs_tree.subvolumes(descriptor)
        finally:
            busy.kill()


def _name_of(source: str) -> str:
    return sh("findmnt", "-n", "-o", "FSROOT", source).strip().lstrip("/")


def test_a_directorys_path_is_found_by_its_inode(source: str) -> None:
    """From the root of its subvolume, whatever its names are."""
    path = os.fsdecode(b"a b/new\nline/\xff")
    os.makedirs(f"{source}/{path}")
    with opened(source) as descriptor:
        own = btrfs.subvolume_info(descriptor).id
        inode = os.stat(f"{source}/{path}").st_ino
        assert btrfs.path_of_inode(descriptor, own, inode) == path
        assert btrfs.path_of_inode(descriptor, own, btrfs.ROOT_INODE) == ""
