"""mountinfo: names are bytes that others chose, and each must come through as itself."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.linux.mountinfo import Mount, above, is_below, parse, read, unescaped, visible_below

# From a real machine: an optional field, several, none; a deleted root; a source with a `#`.
REAL = rb"""
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
98 28 0:45 /@data /srv/my\040disk rw,relatime shared:51 master:2 - btrfs /dev/sdb1 rw,space_cache
99 28 0:45 /gone//deleted /mnt/x ro,noatime - btrfs /dev/sdb1 rw,subvolid=256,subvol=/gone
100 28 0:46 / /mnt/\134\012\011 rw - tmpfs \043none rw,size=1k
"""

ESCAPED = b" \t\n\\"
"""What fs/proc_namespace.c escapes in paths; in a source `#` as well."""


def escaped(name: bytes, also: bytes = b"") -> bytes:
    """Write a name as the kernel does: octal, three digits, byte for byte."""
    return b"".join(b"\\%03o" % c if c in ESCAPED + also else bytes([c]) for c in name)


names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
options = st.lists(
    st.text("abcxyz0123456789=/_-", min_size=1, max_size=12), min_size=1, max_size=4
).map(tuple)
tags = st.lists(st.sampled_from([b"shared:1", b"master:22", b"propagate_from:3", b"unbindable"]))

mounts = st.builds(
    Mount,
    id=st.integers(1, 1 << 31),
    parent_id=st.integers(0, 1 << 31),
    device=st.builds("{}:{}".format, st.integers(0, 4095), st.integers(0, 1 << 20)),
    root=names.map(lambda name: os.fsdecode(b"/" + name)),
    mount_point=names.map(lambda name: os.fsdecode(b"/" + name)),
    options=options,
    fs_type=st.sampled_from(["btrfs", "ext4", "fuse.sshfs"]),
    source=names.map(os.fsdecode),
    super_options=options,
)


def written(mount: Mount, optional: list[bytes]) -> bytes:
    """Write a row as show_mountinfo in fs/proc_namespace.c does."""
    fields = [
        b"%d %d %s" % (mount.id, mount.parent_id, mount.device.encode()),
        escaped(os.fsencode(mount.root)),
        escaped(os.fsencode(mount.mount_point)),
        ",".join(mount.options).encode(),
        *optional,
        b"-",
        mount.fs_type.encode(),
        escaped(os.fsencode(mount.source), b"#"),
        ",".join(mount.super_options).encode(),
    ]
    return b" ".join(fields) + b"\n"


@given(st.lists(st.tuples(mounts, tags)))
def test_every_row_comes_back_as_it_was_written(rows: list[tuple[Mount, list[bytes]]]) -> None:
    """Whatever bytes its names are made of, and however many optional fields stand in between."""
    text = b"".join(written(mount, optional) for mount, optional in rows)
    assert parse(text) == tuple(mount for mount, _ in rows)


@given(st.one_of(st.binary(), st.text("0123456789 -:/abc\\\n").map(str.encode)))
def test_any_bytes_are_parsed_or_refused(text: bytes) -> None:
    """Never misread into a crash of another kind."""
    try:
        found = parse(text)
    except ValueError as error:
        assert "not a line of mountinfo" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert len(found) == len([line for line in text.split(b"\n") if line])


@given(mounts, tags, st.data())
def test_a_row_that_is_cut_short_is_refused(
    mount: Mount, optional: list[bytes], data: st.DataObject
) -> None:
    """Half a row is no row."""
    fields = written(mount, optional).rstrip(b"\n").split(b" ")
    kept = data.draw(st.integers(1, len(fields) - 1))
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        parse(b" ".join(fields[:kept]))


def test_rows_of_a_real_machine() -> None:
    """Each field where it belongs."""
    proc, data, gone, odd = parse(REAL)
    assert (proc.id, proc.parent_id, proc.device, proc.fs_type) == (22, 28, "0:21", "proc")
    assert proc.options == ("rw", "nosuid", "nodev", "noexec", "relatime")
    assert (data.root, data.mount_point, data.source) == ("/@data", "/srv/my disk", "/dev/sdb1")
    assert data.super_options == ("rw", "space_cache")
    assert gone.root.endswith("//deleted")
    assert (odd.mount_point, odd.source) == ("/mnt/\\\n\t", "#none")


def test_a_read_only_mount_is_not_a_read_only_file_system() -> None:
    """The mount's own options come first, the file system's last."""
    own, whole = parse(b"1 0 0:1 / /a ro - btrfs d rw\n2 0 0:1 / /b rw - btrfs d ro,x\n")
    assert (own.read_only_file_system, whole.read_only_file_system) == (False, True)


def test_an_escape_is_undone_once() -> None:
    """A backslash that stands for itself is not the beginning of another escape."""
    assert unescaped(rb"\134040") == "\\040"
    assert unescaped(rb"a\134134b") == "a\\134b"
    assert unescaped(rb"\9\04") == r"\9\04"


def test_this_machines_own_mounts_are_read() -> None:
    """Its root is there, and no two mounts share an id."""
    found = read()
    assert "/" in {mount.mount_point for mount in found}
    assert len({mount.id for mount in found}) == len(found)


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("/a/b", "/a", True),
        ("/a/b/c", "/a", True),
        ("/a", "/a", False),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
        ("/", "/", False),
    ],
)
def test_below_means_inside(path: str, directory: str, *, expected: bool) -> None:
    """A common beginning of names is not enough, and nothing is inside itself."""
    assert is_below(path, directory) is expected


@given(names.map(os.fsdecode), names.map(os.fsdecode))
def test_whatever_is_joined_is_below(directory: str, name: str) -> None:
    """With any bytes in the names."""
    assert is_below(f"/{directory}/{name}", f"/{directory}")


def _row(number: int, parent: int, mount_point: str) -> Mount:
    return Mount(number, parent, "0:40", "/", mount_point, ("rw",), "tmpfs", "none", ("rw",))


def _seen(top: Mount, *others: Mount) -> list[int]:
    return [mount.id for mount in visible_below(top, (top, *others))]


def test_mounts_below_a_mount_are_found_through_their_parents() -> None:
    """To any depth; not those of a mount beside it, whatever their paths say."""
    top = _row(1, 0, "/m")
    inner = (_row(2, 1, "/m/a"), _row(3, 2, "/m/a/b/c"), _row(4, 1, "/m/ab"))
    assert _seen(top, *inner, _row(5, 9, "/m/x")) == [2, 3, 4]


def test_of_mounts_on_one_place_the_last_is_seen() -> None:
    """With what is mounted in it, and nothing of what is below."""
    top = _row(1, 0, "/m")
    stack = (_row(2, 1, "/m/a"), _row(3, 2, "/m/a"), _row(4, 2, "/m/a/old"), _row(5, 3, "/m/a/new"))
    assert _seen(top, *stack) == [3, 5]


def test_a_mount_on_a_directory_above_hides_those_below() -> None:
    """They are listed, and no path leads to them."""
    top = _row(1, 0, "/m")
    assert _seen(top, _row(2, 1, "/m/a/b"), _row(3, 1, "/m/a"), _row(4, 2, "/m/a/b/c")) == [3]


def test_the_root_has_itself_for_a_parent() -> None:
    """Or one that is not listed; both end."""
    assert _seen(_row(1, 1, "/"), _row(2, 1, "/proc"), _row(3, 2, "/proc/x")) == [2, 3]


@given(st.lists(st.sampled_from(["a", "b", ".."]), max_size=5))
def test_what_lies_above_a_path_is_what_it_is_below_of(parts: list[str]) -> None:
    """The nearest first, the root last; nothing lies above that."""
    path = "/" + "/".join(parts)
    found = list(above(path))
    assert len(found) == len(parts)
    assert all(is_below(inner, outer) for inner, outer in zip([path, *found], found, strict=False))
