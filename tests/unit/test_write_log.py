"""The disk that the tests of power loss cut off keeps what was flushed, and nothing for certain."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest

from tests.power.write_log import ATOM, Loss, lose_power

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
FLUSH = b""
OLD, NEW = b"o" * ATOM, b"n" * ATOM


def _cut(tmp_path: Path, entries: list[bytes], seed: int = 0) -> tuple[list[bytes], Loss]:
    """Log writes of whole blocks, one behind the other, and flushes; return the blocks left."""
    offset = 0
    log = struct.pack("<QQQI", 0x6A736677736872, 1, 0, SECTOR).ljust(SECTOR, b"\0")
    for data in entries:
        flags = 0 if data else 1
        numbers = (offset // SECTOR, len(data) // SECTOR, flags, 0)
        log += struct.pack("<QQQQ", *numbers).ljust(SECTOR, b"\0") + data
        offset += len(data)
    (tmp_path / "log").write_bytes(log)
    (tmp_path / "disk").write_bytes(OLD * (offset // ATOM))
    loss = lose_power(str(tmp_path / "disk"), str(tmp_path / "log"), random.Random(seed))  # noqa: S311
    assert loss is not None
    left = (tmp_path / "disk").read_bytes()
    return [left[at : at + ATOM] for at in range(0, len(left), ATOM)], loss


@pytest.mark.parametrize("seed", range(20))
def test_what_was_flushed_is_kept(tmp_path: Path, seed: int) -> None:
    """Whatever becomes of what came later."""
    left, _ = _cut(tmp_path, [NEW, NEW * 2, FLUSH, NEW, NEW], seed)
    assert left[:3] == [NEW] * 3


def test_what_was_not_flushed_can_be_kept_lost_or_torn(tmp_path: Path) -> None:
    """All of it happens, each in some cut, and a block is never half written."""
    losses = []
    for seed in range(50):
        left, loss = _cut(tmp_path, [FLUSH, *[NEW * 4] * 10], seed)
        assert set(left) <= {OLD, NEW}
        assert loss.kept + loss.lost + loss.torn == 10
        losses.append(loss)
    assert any(loss.lost == 10 for loss in losses)
    assert any(loss.kept > loss.lost > 0 for loss in losses)
    assert any(loss.torn for loss in losses)


def test_a_log_that_ends_in_the_middle_of_an_entry(tmp_path: Path) -> None:
    """The emulator was killed while it appended: the entry was not written."""
    _, whole = _cut(tmp_path, [NEW, FLUSH, NEW])
    content = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(content[:-1])
    cut_short = lose_power(str(tmp_path / "disk"), str(tmp_path / "log"), random.Random(0))  # noqa: S311
    assert sum(whole) == 1
    assert cut_short is not None
    assert sum(cut_short) == 0


def test_a_log_with_a_gap_before_a_flush(tmp_path: Path) -> None:
    """What came after the gap, and was safe, cannot be known: the disk is left alone."""
    _cut(tmp_path, [NEW, FLUSH])
    content = bytearray((tmp_path / "log").read_bytes())
    content[16:24] = struct.pack("<Q", 3)
    (tmp_path / "log").write_bytes(content)
    (tmp_path / "disk").write_bytes(OLD)
    assert lose_power(str(tmp_path / "disk"), str(tmp_path / "log"), random.Random(0)) is None  # noqa: S311
    assert (tmp_path / "disk").read_bytes() == OLD
