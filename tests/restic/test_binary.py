"""The restic in PATH is found, and asked for its version once."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from holdstill.errors import ProgramError
from holdstill.restic.binary import Binary, find
from holdstill.restic.versions import Version

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = "echo restic 0.18.0 compiled with go1.24.4 on linux/amd64"


def script(directory: Path, body: str) -> dict[str, str]:
    """Put a shell script in restic's place, which notes every call; return the environment."""
    directory.mkdir(exist_ok=True)
    path = directory / "restic"
    path.write_text(f"#!/bin/sh\necho >> {directory}/calls\n{body}\n")
    path.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


def calls(directory: Path) -> int:
    """Return how often the script ran."""
    return (directory / "calls").read_text().count("\n")


def test_real_restic_is_found_with_its_version(binary: Binary, tmp_path: Path) -> None:
    """Also where the user's RESTIC_FEATURES would make every command fail."""
    environment = {"PATH": os.path.dirname(binary.path), "RESTIC_FEATURES": "nonsense"}
    found = find(environment, tmp_path / "memory.json")
    assert (found.binary, found.warnings) == (binary, ())


def test_version_is_learnt_once_per_binary(tmp_path: Path) -> None:
    """The second run reads the memory, whose directory the first one made."""
    environment = script(tmp_path / "bin", ANSWER)
    memory = tmp_path / "cache" / "holdstill" / "versions.json"
    first = find(environment, memory)
    assert find(environment, memory) == first
    assert first.binary.version == Version(0, 18, 0)
    assert calls(tmp_path / "bin") == 1


def test_replaced_binary_is_asked_again(tmp_path: Path) -> None:
    """An upgrade puts another file in the same place."""
    memory = tmp_path / "memory.json"
    find(script(tmp_path / "bin", ANSWER), memory)
    (tmp_path / "bin" / "restic").unlink()
    upgraded = find(script(tmp_path / "bin", "echo restic 0.19.1 compiled with go1"), memory)
    assert upgraded.binary.version == Version(0, 19, 1)


def test_memory_does_not_grow_without_end(tmp_path: Path) -> None:
    """Binaries that were replaced are forgotten some day."""
    memory = tmp_path / "memory.json"
    for number in range(20):
        find(script(tmp_path / f"bin{number}", ANSWER), memory)
    assert len(json.loads(memory.read_bytes())) == 16
    find({"PATH": str(tmp_path / "bin19")}, memory)
    assert calls(tmp_path / "bin19") == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000, b""])
def test_corrupt_memory_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """It costs one question."""
    environment = script(tmp_path / "bin", ANSWER)
    memory = tmp_path / "memory.json"
    memory.write_bytes(content)
    assert find(environment, memory).binary.version == Version(0, 18, 0)
    assert find(environment, memory).warnings == ()
    assert calls(tmp_path / "bin") == 1


def test_memory_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    """A run never fails over it."""
    environment = script(tmp_path / "bin", ANSWER)
    (tmp_path / "file").touch()
    found = find(environment, tmp_path / "file" / "memory.json")
    assert found.binary.version == Version(0, 18, 0)
    assert any("cannot be written" in warning for warning in found.warnings)


def test_memory_is_never_seen_half_written(tmp_path: Path) -> None:
    """It is replaced as a whole: no draft stays beside it."""
    find(script(tmp_path / "bin", ANSWER), tmp_path / "cache" / "memory.json")
    assert os.listdir(tmp_path / "cache") == ["memory.json"]


def test_no_restic_says_what_to_install(tmp_path: Path) -> None:
    """A directory or a file without the right to run is no restic."""
    (tmp_path / "restic").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "restic").touch()
    with pytest.raises(ProgramError, match="not in PATH") as caught:
        find({"PATH": f"{tmp_path}:{tmp_path}/other:"}, tmp_path / "memory.json")
    assert "install restic 0.14.0 or newer" in caught.value.remedy


def test_old_restic_is_refused_with_its_path(tmp_path: Path) -> None:
    """The message names what there is, where, and what would do; also from memory."""
    environment = script(tmp_path / "bin", "echo restic 0.12.1 compiled with go1.16")
    for _ in range(2):
        with pytest.raises(ProgramError) as caught:
            find(environment, tmp_path / "memory.json")
        assert caught.value.message == (
            f"restic 0.12.1 ({tmp_path}/bin/restic) is too old: 0.14.0 is the oldest that works"
        )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo rubbish", "said rubbish"),
        ("head -c 100000 /dev/urandom", "is not restic"),
        (f"{ANSWER}; exit 7", "ended with 7"),
        ("echo broken >&2; exit 1", "said broken"),
        ("kill -SEGV $$", "killed by signal 11"),
    ],
)
def test_what_is_not_restic_is_refused(tmp_path: Path, body: str, message: str) -> None:
    """And not remembered: the next run asks again."""
    environment = script(tmp_path / "bin", body)
    with pytest.raises(ProgramError, match=message) as caught:
        find(environment, tmp_path / "memory.json")
    assert caught.value.message.isprintable()
    assert not (tmp_path / "memory.json").exists()
