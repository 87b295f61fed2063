"""How simultaneous snapshots of several subvolumes are: holdstill's, and one after another.

A writer puts a counter into each subvolume in turn, fsync after each. At any one instant, no
subvolume is ahead of the one before it, nor more than one behind the last.

    python -m bench.instants [INSTANTS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from holdstill.freeze import plan
from holdstill.linux import loop, mounts
from holdstill.snapshots.model import Proof
from holdstill.snapshots.staging import new_run, staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SIZES = (2, 4, 8)
_WRITER = """
import os, sys
files = [os.open(f"{d}/counter", os.O_RDWR | os.O_CREAT) for d in sys.argv[1:]]
for number in range(1, 1 << 40):
    for file in files:
        os.pwrite(file, b"%020d" % number, 0)
        os.fsync(file)
    if number == 1:
        print("writing", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One set of snapshots."""

    proof: str
    attempts: int
    hold_ms: float
    in_order: bool


def in_order(counters: Sequence[int]) -> bool:
    """Whether one instant can have shown these."""
    return all(a >= b for a, b in pairwise(counters)) and counters[0] - counters[-1] <= 1


def _counters(directories: Sequence[str]) -> list[int]:
    numbers = []
    for directory in directories:
        with open(f"{directory}/counter", "rb") as file:
            numbers.append(int(file.read() or b"0"))
    return numbers


def _held(top: str, names: Sequence[str]) -> Seen:
    decided = plan([f"{top}/{name}" for name in names])
    (device,) = decided.devices.values()
    wanted = [one for one in decided.subvolumes if one.path]
    run = new_run()
    with staging(device, run) as own:
        taken = own.take(wanted)
        by_path = {snapshot.subvolume.path: snapshot for snapshot in taken.snapshots}
        paths = [_where(top, run, by_path[name].subvolume.uuid) for name in names]
        seen = in_order(_counters(paths))
    return Seen(taken.proof, taken.attempts, (taken.ended - taken.began) * 1000, seen)


def _where(top: str, run: str, uuid: str) -> str:
    base = f"{top}/.holdstill/{run}"
    for number in os.listdir(base):
        path = f"{base}/{number}/{uuid}"
        if os.path.isdir(path):
            return path
    raise FileNotFoundError(uuid)


def _in_turn(top: str, names: Sequence[str]) -> Seen:
    snapshots = [f"{top}/in-turn-{name}" for name in names]
    began = time.monotonic()
    for name, snapshot in zip(names, snapshots, strict=True):
        _btrfs("subvolume", "snapshot", "-r", f"{top}/{name}", snapshot)
    hold_ms = (time.monotonic() - began) * 1000
    seen = in_order(_counters(snapshots))
    _btrfs("subvolume", "delete", *snapshots)
    return Seen("", 1, hold_ms, seen)


def _btrfs(*arguments: str) -> None:
    subprocess.run(["btrfs", *arguments], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _disk() -> Iterator[str]:
    """Mount a temporary btrfs disk that only this process and its children see."""
    mounts.enter_private_namespace()
    with tempfile.TemporaryDirectory() as top:
        with tempfile.TemporaryFile(dir="/var/tmp") as image:
            image.truncate(2 << 30)
            device, path = loop.attach(image.fileno())
        subprocess.run(["mkfs.btrfs", "-q", path], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-t", "btrfs", path, top], check=True)
        os.close(device)  # the mount keeps it
        try:
            yield top
        finally:
            subprocess.run(["umount", top], check=True)


@contextmanager
def writing(directories: Sequence[str]) -> Iterator[None]:
    """Write to directories in their order, as fast as that goes, from before the body begins."""
    command = [sys.executable, "-ISc", _WRITER, *directories]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            if writer.stdout is None or writer.stdout.readline() != b"writing\n":
                raise RuntimeError("the writer does not write")
            yield
        finally:
            writer.kill()


def _row(size: int, label: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    simultaneous = [one for one in seen if one.proof and one.proof != Proof.SKEWED]
    claimed = any(one.proof for one in seen)  # `btrfs subvolume snapshot` claims nothing
    return (
        str(size),
        label,
        f"{len(simultaneous)} of {len(seen)}" if claimed else "-",
        str(sum(one.attempts == 1 for one in simultaneous)) if claimed else "-",
        str(sum(not one.in_order for one in simultaneous)) if claimed else "-",
        str(sum(not one.in_order for one in seen)),
        f"{median(one.hold_ms for one in seen):.1f}",
    )


_HEAD = (
    "subvolumes",
    "taken by",
    "simultaneous",
    "at the first try",
    "of them violated",
    "violated in all",
    "hold ms (median)",
)


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        cells[1] = row[1].ljust(widths[1])
        print("  ".join(cells).rstrip())


def main(count: int) -> None:
    """Measure, and print a table."""
    ways: tuple[tuple[str, Callable[[str, Sequence[str]], Seen]], ...] = (
        ("holdstill", _held),
        ("btrfs subvolume snapshot -r", _in_turn),
    )
    rows: list[tuple[str, ...]] = [_HEAD]
    with _disk() as top:
        for size in _SIZES:
            names = [f"s{size}-{index}" for index in range(size)]
            for name in names:
                _btrfs("subvolume", "create", f"{top}/{name}")
            with writing([f"{top}/{name}" for name in names]):
                for label, way in ways:
                    rows.append(_row(size, label, [way(top, names) for _ in range(count)]))
    _print(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
