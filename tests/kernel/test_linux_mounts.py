"""Mounts, locks and loop devices at the kernel's edge."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.linux import btrfs as kernel
from holdstill.linux import locks, loop, mountinfo, mounts
from holdstill.snapshots import btrfs

if TYPE_CHECKING:
    from tests.kernel.disks import Arena, Disk

NOTHING = mounts.Attributes(0)


def test_a_detached_mount_is_nowhere_and_serves_all_the_same(arena: Arena, disk: Disk) -> None:
    """Its descriptor reaches the top level, and mountinfo lists nothing new."""
    before = arena.rows()
    with btrfs.mounted(disk.device, kernel.TOP_LEVEL) as top:
        assert sorted(os.listdir(top)) == sorted(os.listdir(disk.top))
        assert kernel.subvolume_info(top).id == kernel.TOP_LEVEL
        assert arena.rows() == before


def test_without_the_new_calls_a_child_mounts_for_us(
    arena: Arena, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor outlives the child's namespace. The refusal is played, the rest is real."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "played")

    monkeypatch.setattr(mounts, "detached_subvolume", refuse)
    before = arena.rows()
    with btrfs.mounted(disk.device, kernel.TOP_LEVEL) as top:
        assert sorted(os.listdir(top)) == sorted(os.listdir(disk.top))
        assert arena.rows() == before


def test_reading_through_our_mounts_moves_no_access_time(disk: Disk) -> None:
    """The staging directory is listed in every run."""
    path = disk.staging()
    os.utime(path, (1_000_000_000, 1_100_000_000))
    with (
        btrfs.mounted(disk.device, kernel.TOP_LEVEL) as top,
        btrfs.opened(".holdstill", top) as own,
    ):
        os.listdir(own)
    assert os.stat(path).st_atime == 1_000_000_000


def test_a_mount_that_the_kernel_refuses_names_the_operation_and_the_device(disk: Disk) -> None:
    """Subvolume 999999 does not exist."""
    with pytest.raises(FileNotFoundError, match="while mounting subvolume 999999") as caught:
        mounts.detached_subvolume(disk.device, 999_999, NOTHING)
    assert caught.value.filename == disk.device


def test_no_descriptor_leaks_when_a_mount_fails(disk: Disk) -> None:
    """A run may meet many errors."""
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            mounts.detached_subvolume(disk.device, 999_999, NOTHING)
    assert os.listdir("/proc/self/fd") == before


def test_a_mounts_id_is_the_one_that_mountinfo_lists(disk: Disk, source: str) -> None:
    """Also for a file in a directory in it, and not that of the mount next to it."""
    os.mkdir(f"{source}/dir")
    by_id = {mount.id: mount for mount in mountinfo.read()}
    with btrfs.opened(f"{source}/dir") as descriptor:
        assert by_id[mountinfo.mount_id(descriptor)].mount_point == source
    with btrfs.opened(disk.top) as descriptor:
        assert by_id[mountinfo.mount_id(descriptor)].mount_point == disk.top


@pytest.mark.parametrize(
    ("attributes", "flags"),
    [
        (mounts.Attributes.READ_ONLY, 1),
        (mounts.Attributes.NO_SET_UID | mounts.Attributes.NO_DEVICES, 2 | 4),
        (mounts.Attributes.NO_EXECUTION, 8),
        (mounts.Attributes.NO_ACCESS_TIME | mounts.Attributes.READ_ONLY, 0x400 | 1),
    ],
)
def test_attributes_are_spelled_in_both_ways(attributes: mounts.Attributes, flags: int) -> None:
    """MOUNT_ATTR_* for the new calls, MS_* for mount(2)."""
    assert attributes.flags == flags


def test_a_lock_belongs_to_the_open_file(tmp_path: Path) -> None:
    """Another open of the same file cannot take it until the first is closed."""
    path = tmp_path / "lock"
    path.touch()
    with path.open() as first, path.open() as second:
        assert locks.take(first.fileno())
        assert not locks.take(second.fileno())
        assert not locks.wait_for(second.fileno(), 0.03)
        copy = os.dup(first.fileno())
        first.close()
        assert not locks.take(second.fileno()), "an inherited descriptor holds it, too"
        os.close(copy)
        assert locks.wait_for(second.fileno(), 1)


def test_a_loop_device_vanishes_when_nobody_has_it_open(tmp_path: Path) -> None:
    """No clean-up is needed, so none can be missed."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 1 << 20)
    descriptor = os.open(image, os.O_RDWR)
    device, path = loop.attach(descriptor)
    os.close(descriptor)
    backing = Path("/sys/block", os.path.basename(path), "loop/backing_file")
    assert backing.read_text(encoding="utf-8").strip() == str(image)
    os.pwrite(device, b"through", 0)
    os.fsync(device)
    os.close(device)
    assert image.read_bytes()[:7] == b"through"
    assert not backing.exists() or backing.read_text(encoding="utf-8").strip() != str(image)


def test_a_loop_device_of_something_impossible_is_an_error() -> None:
    """A directory cannot back one; the device is named."""
    with btrfs.opened("/tmp") as directory, pytest.raises(OSError, match="attaching an image"):
        loop.attach(directory)
