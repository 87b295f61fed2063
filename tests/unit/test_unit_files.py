"""Unit files on the disk: ours, edited, and others'."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from holdstill.errors import HoldstillError
from holdstill.systemd.unit_files import (
    Action,
    Deed,
    Found,
    State,
    execute,
    marked,
    observe,
    read,
    timer_of,
    to_install,
    to_remove,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TEXT = "[Timer]\nOnCalendar=daily\n"


def deeds(actions: Iterable[Action]) -> dict[str, Deed]:
    """Return what is done about each file."""
    return {action.path: action.deed for action in actions}


def test_a_file_says_whether_it_was_edited() -> None:
    """By the checksum in its first line; without that line it is somebody else's."""
    content = marked(TEXT)
    assert content.startswith("# Written by holdstill, checksum ")
    assert content.endswith(f"\n{TEXT}")
    assert read(content) == Found(State.OURS, TEXT)
    assert read(content + "# mine\n").state is State.EDITED
    assert read(TEXT) == Found(State.FOREIGN, TEXT)
    assert read("").state is State.FOREIGN


def test_only_names_of_ours_are_looked_at(tmp_path: Path) -> None:
    """Drop-ins of others, and units that merely sound alike, are nobody's business."""
    ours = [
        "holdstill@.service",
        "holdstill@a@b.timer",
        "holdstill-prune@x.timer",
        "holdstill@x.service.d/holdstill.conf",
    ]
    others = [
        "holdstill@x.service.d/override.conf",
        "holdstill@y.service.d/override.conf",
        "holdstill.service",
        "myholdstill@x.timer",
        "holdstill@x.timer.d/override.conf",
    ]
    for path in (*ours, *others):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(marked(TEXT))
    assert sorted(observe(str(tmp_path))) == sorted(ours)
    assert observe(f"{tmp_path}/nowhere") == {}


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    """`systemctl mask` makes links to /dev/null: those are read, and are not ours."""
    os.symlink("/dev/null", tmp_path / "holdstill@x.timer")
    assert observe(str(tmp_path))["holdstill@x.timer"].state is State.FOREIGN
    os.mkdir(tmp_path / "holdstill@y.timer")
    with pytest.raises(HoldstillError, match=r"holdstill@y\.timer cannot be read"):
        observe(str(tmp_path))


def test_installing_writes_what_differs_and_keeps_what_is_not_ours() -> None:
    """Each file for itself."""
    wanted = dict.fromkeys(("new", "same", "old", "edited", "foreign"), TEXT)
    found = {
        "same": Found(State.OURS, TEXT),
        "old": Found(State.OURS, "[Timer]\n"),
        "edited": Found(State.EDITED, TEXT),
        "foreign": Found(State.FOREIGN, TEXT),
    }
    assert deeds(to_install(wanted, found)) == {
        "new": Deed.WRITE,
        "same": Deed.UNCHANGED,
        "old": Deed.WRITE,
        "edited": Deed.KEEP,
        "foreign": Deed.KEEP,
    }


def test_removing_takes_ours_alone() -> None:
    """An edited file is kept and named; a foreign one is not even mentioned."""
    found = {str(state): Found(state, TEXT) for state in State}
    assert deeds(to_remove(found)) == {"ours": Deed.REMOVE, "edited": Deed.KEEP}


def test_files_are_written_and_removed_with_their_directory(tmp_path: Path) -> None:
    """Everybody can read them; a directory in which others have something stays."""
    path = "holdstill@x.service.d/holdstill.conf"
    execute(Action(Deed.WRITE, path, TEXT), str(tmp_path))
    assert observe(str(tmp_path)) == {path: Found(State.OURS, TEXT)}
    assert (tmp_path / path).stat().st_mode & 0o777 == 0o644
    execute(Action(Deed.REMOVE, path), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    execute(Action(Deed.WRITE, path, TEXT), str(tmp_path))
    (tmp_path / path).with_name("override.conf").touch()
    execute(Action(Deed.REMOVE, path), str(tmp_path))
    assert [entry.name for entry in tmp_path.rglob("*.conf")] == ["override.conf"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """And no other file beside it."""
    os.mkdir(tmp_path / "holdstill@x.timer")
    with pytest.raises(HoldstillError, match="cannot be written: Is a directory"):
        execute(Action(Deed.WRITE, "holdstill@x.timer", TEXT), str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["holdstill@x.timer"]


def test_a_drop_in_belongs_to_a_timer() -> None:
    """A template belongs to all."""
    assert timer_of("holdstill@x.service.d/holdstill.conf") == "holdstill@x.timer"
    assert timer_of("holdstill@x.timer") == "holdstill@x.timer"
    assert timer_of("holdstill@.service") == ""
