"""Every name that a disk can hold works, through backup, retention and restore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import NEWEST, RESTICS, Site, make_site, only

if TYPE_CHECKING:
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

OLDEST = next(iter(RESTICS.values()))
NAMES = {
    "spaces": " two  spaces ",
    "quotes": 'it\'s "quoted"',
    "newline": "new\nline\ttab",
    "backslash": "back\\slash \\040",
    "pattern": "st*r [a-z]? !x",
    "option": "--option=x",
    "dollar": "$HOME `id` ;#",
    "unicode": "žluťoučký 🐎",
    "bytes": os.fsdecode(b"not \xff\xfe utf-8"),
}


def _is_utf_8(name: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in name)


@pytest.mark.parametrize("restic_path", dict.fromkeys([OLDEST, NEWEST]), ids=["oldest", "newest"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_source_of_any_name(
    tmp_path: Path, disk: Disk, name: str, restic_path: str, template_repository: str
) -> None:
    """Two backups and a retention that keeps one: the second has a parent, the file comes back."""
    source = disk.source(at=disk.arena.unique() + name)
    site = make_site(tmp_path, source, restic_path, template_repository)
    site.add_repository("main")
    site.write(f"in{name}/{name}")
    site.write(".exclude", "excluded\n")
    site.write("excluded")
    site.job.update({"keep": {"last": 1}, "exclude-files": [f"{source}/.exclude"]})
    site.succeed()
    result = only(site.succeed())
    read_again = result["files_new"]  # restic finds no parent by a path that is not UTF-8
    assert (read_again, result["files_unmodified"]) == ((0, 3) if _is_utf_8(name) else (3, 0))
    assert (result["retention"]["kept"], result["retention"]["removed"]) == (1, 1)
    restored = Path(site.restored())
    assert sorted(os.listdir(restored)) == sorted([".exclude", "file", f"in{name}"])
    assert (restored / f"in{name}" / name).read_text(encoding="utf-8") == "content\n"


def test_an_error_about_an_odd_name_is_one_line(site: Site) -> None:
    """No name on a disk can forge a line of output, or break its encoding."""
    path = os.fsdecode(b"/nowhere/evil\nholdstill: error: forged \xff\x1b[31m")
    site.job["paths"] = [path]
    done = site.run("backup")
    assert done.returncode == 1
    assert "\nholdstill: error: forged" not in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.isascii()


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_any_locale_will_do(site: Site, disk: Disk, locale: str) -> None:
    """A timer's environment has no language; names that are not ASCII work in it."""
    site.source = disk.source(at=disk.arena.unique("žluťoučký"))
    site.job["paths"] = [site.source]
    site.environment["LC_ALL"] = locale
    os.mkdir(f"{site.source}/kůň")
    disk.arena.mount_tmpfs(f"{site.source}/kůň")
    record = site.succeed()
    assert record["left_out"][0]["path"] == f"{site.source}/kůň"
