"""A run leaves no trace: in no source, on no mount of the host, in no backup that follows."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kernel import private_root
from tests.kernel.backups import (
    NEWEST,
    RESTICS,
    make_site,
    only,
    version_of,
)
from tests.kernel.disks import STAGING, sh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

WITHOUT_DEVICE_IDS = [path for path in RESTICS.values() if version_of(path) >= (0, 17, 0)]
# -P: with -m alone Python lists the working directory, `/` here, which moves its access time.
HOLDSTILL = (sys.executable, "-P", "-m", "holdstill")
LONG_AGO = (1_000_000_000, 1_100_000_000)
"""Accessed before it was modified: with relatime, any reading renews the access time."""

Times = dict[str, tuple[int, int, int]]


def aged(top: str) -> Times:
    """Make everything below a directory old; return the times, the change time among them."""
    for path in reversed(list(walk(top))):
        if not os.path.islink(path):
            os.utime(path, LONG_AGO)
    return times(top)


def times(top: str) -> Times:
    """Return when everything below a directory was last accessed, modified and changed."""
    return {path: of_one(path) for path in walk(top)}


def of_one(path: str) -> tuple[int, int, int]:
    """Return when something was last accessed, modified and changed."""
    found = os.lstat(path)
    return found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns


def walk(top: str) -> Iterator[str]:
    """Yield a directory and all below but our own, moving no access time."""
    yield top
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
    names = sorted(os.listdir(descriptor))
    os.close(descriptor)
    for path in (f"{top}/{name}" for name in names if name != STAGING):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            yield from walk(path)
        else:
            yield path


def added(record: dict[str, object]) -> list[int]:
    """Return what a backup has added to its repository."""
    result = only(record)
    return [result[key] for key in ("data_added", "files_new", "dirs_new", "dirs_changed")]


@pytest.fixture
def many_parts(
    tmp_path: Path, disk: Disk, quiet: str, restic_path: str, template_repository: str
) -> Site:
    """Set up a job of two sources: nested subvolumes, bound and mounted ones, another disk."""
    arena = disk.arena
    first, second = disk.source(at=f"{quiet}/one"), arena.disk(256).source(at=f"{quiet}/two")
    site = make_site(tmp_path, first, restic_path, template_repository)
    for place in ("a", "a/b", "dir/c"):
        os.makedirs(os.path.dirname(f"{first}/{place}"), exist_ok=True)
        sh("btrfs", "subvolume", "create", f"{first}/{place}")
        site.write(f"{place}/deep/file")
    for name in ("mounted", "bound", "other"):
        os.mkdir(f"{first}/{name}")
    disk.source(at=f"{first}/mounted")
    sh("mount", "--bind", f"{first}/a/deep", f"{first}/bound")
    arena.mount_tmpfs(f"{first}/other")
    site.add_repository("main")
    site.job.update({"paths": [first, second], "submounts": "include"})
    return site


@pytest.mark.parametrize("restic_path", WITHOUT_DEVICE_IDS)
def test_a_job_of_many_parts(many_parts: Site, disk: Disk) -> None:
    """No time moves, no mount shows, and the second backup adds not a byte."""
    before = {path: aged(path) for path in many_parts.job["paths"]}
    mounts = disk.arena.rows()
    with many_parts.paused("backup") as process:
        assert disk.arena.rows() == mounts
        many_parts.let_go()
        assert process.wait() == 0
    assert disk.arena.rows() == mounts
    disk.source()  # takes the device number that a snapshot had
    record = many_parts.succeed()
    assert len(record["snapshots"]) == len(("one", "a", "a/b", "dir/c", "mounted", "two"))
    assert added(record) == [0, 0, 0, 0]
    assert {path: times(path) for path in before} == before
    assert not any(STAGING in path for path in many_parts.listed())


_TWICE = """
look() { cat /proc/self/mountinfo > $BASE/$1; }
look before
"$@" > $BASE/first &
while [ ! -e $BASE/ready ]; do kill -0 $! || exit 1; sleep 0.01; done
look during
mv $BASE/gate $BASE/gone
wait $!
look after
mkdir /run/unrelated && mount -t btrfs -o subvol=unrelated $DEVICE /run/unrelated
"$@" > $BASE/second
"""
"""Runs a command twice on a machine; the first one waits to be seen."""


def test_a_job_of_the_root_and_home(tmp_path: Path, arena: Arena, template_repository: str) -> None:
    """The same, where the view has a root of its own."""
    base = os.path.realpath(tmp_path)
    root = private_root.build(arena.disk(1024), NEWEST, base)
    root.disk.create("unrelated")
    root.run("true", environment={"PATH": "/usr/bin"})  # makes the places to mount at
    places = [root.inside(path) for path in ("/srv", "/home", "/etc", "/var")]
    before = {place: aged(place) for place in places}
    os.utime(root.inside(""), LONG_AGO)
    top = of_one(root.inside(""))
    site = make_site(tmp_path, "/", "/usr/bin/restic", template_repository)
    site.add_repository("main")
    site.job["paths"] = ["/", "/home"]
    site.configure()
    os.mkdir(site.path("gate"))
    wait = f"touch {base}/ready; while [ -e {base}/gate ]; do sleep 0.01; done"
    site.install_restic(before=f'[ "$1" != backup ] || {{ {wait}; }}')
    rows = arena.rows()
    own = {"PATH": f"{base}/bin:/usr/bin:/bin", "TMPDIR": site.path("tmp"), "BASE": base}
    own |= {"HOLDSTILL_CONFIG": site.path("config.toml"), "DEVICE": root.disk.device}
    command = [*HOLDSTILL, "backup", "--json"]
    done = root.run("sh", "-c", _TWICE, "sh", *command, environment=own)
    assert done.returncode == 0, done.stderr
    seen = [(tmp_path / name).read_bytes() for name in ("before", "during", "after")]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0].count(b"\n") > len(("/", "/home", "/run", "/tmp"))
    assert arena.rows() == rows
    assert added(json.loads((tmp_path / "second").read_text())) == [0, 0, 0, 0]
    assert {place: times(place) for place in places} == before
    assert of_one(root.inside("")) == top
