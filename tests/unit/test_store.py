"""Files that hold secrets: whole or not at all, and never in another's place."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from holdstill.config.store import store
from holdstill.errors import ConfigurationError, HoldstillError

if TYPE_CHECKING:
    from pathlib import Path


def modes(directory: Path) -> dict[str, int]:
    """Return what lies in a directory, with its modes."""
    return {name: os.lstat(directory / name).st_mode & 0o7777 for name in os.listdir(directory)}


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """So is the directory that is made for it, whatever the umask."""
    before = os.umask(0)
    try:
        store(str(tmp_path / "new/file"), b"secret")
    finally:
        os.umask(before)
    assert modes(tmp_path / "new") == {"file": 0o600}
    assert modes(tmp_path) == {"new": 0o700}
    assert (tmp_path / "new/file").read_bytes() == b"secret"


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_what_is_there_stays(tmp_path: Path, kind: str) -> None:
    """A file, and a symlink, which is not followed either."""
    path, target = tmp_path / "file", tmp_path / "target"
    if kind != "dangling":
        target.write_bytes(b"before")
    if kind == "file":
        target.rename(path)
    else:
        path.symlink_to(target)
    before = modes(tmp_path)
    with pytest.raises(ConfigurationError, match="is there already"):
        store(str(path), b"after")
    assert modes(tmp_path) == before
    assert kind == "dangling" or path.read_bytes() == b"before"


def test_a_file_is_replaced_when_that_is_asked_for(tmp_path: Path) -> None:
    """The file itself: what a symlink leads to stays as it is."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    (tmp_path / "file").symlink_to(target)
    store(str(tmp_path / "file"), b"after", replace=True)
    assert (target.read_bytes(), (tmp_path / "file").read_bytes()) == (b"before", b"after")
    assert modes(tmp_path)["file"] == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_change_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put a file of theirs in the place of this one."""
    os.mkdir(tmp_path / "shared")
    os.chmod(tmp_path / "shared", mode)
    with pytest.raises(ConfigurationError, match="can be changed by others"):
        store(str(tmp_path / "shared/file"), b"secret")
    assert modes(tmp_path / "shared") == {}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, which only shows when what was written is synced: it stands in for one."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HoldstillError, match="file cannot be written: No space left"):
        store(str(tmp_path / "file"), b"secret")
    assert modes(tmp_path) == {}


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """With the reason, and no traceback."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HoldstillError, match="file/file cannot be written: "):
        store(str(tmp_path / "file/file"), b"secret")
