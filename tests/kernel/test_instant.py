"""One instant for several subvolumes: what is recorded as simultaneous keeps the writers' order.

A writer puts a counter into each subvolume in turn, fsync after each. At any one instant no
subvolume is ahead of the one before it, nor is the first more than one ahead of the last.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.instants import in_order, writing
from holdstill import freeze
from holdstill.linux import btrfs
from holdstill.snapshots import instant
from holdstill.snapshots.model import Proof
from holdstill.snapshots.staging import new_run, staging
from tests.kernel.disks import STAGING, sh, swapping
from tests.kernel.program import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdstill.snapshots.model import SnapshotSet, Subvolume
    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

INSTANTS = 40
SIMULTANEOUS = {Proof.ONE_TRANSACTION, Proof.UNWRITTEN}


@dataclass(frozen=True)
class Taken:
    """A set of snapshots, and whether the writer's order is kept in it."""

    set: SnapshotSet
    in_order: bool


@dataclass(frozen=True)
class Bench:
    """Subvolumes that a writer writes to in this order."""

    disk: Disk
    subvolumes: tuple[Subvolume, ...]

    def take(self) -> Taken:
        """Take one set, look into it, and remove it."""
        run = new_run()
        with staging(self.disk.device, run) as own:
            taken = own.take(self.subvolumes)
            found = {snapshot.subvolume.uuid: snapshot for snapshot in taken.snapshots}
            assert len(self.disk.snapshots()) == len(self.subvolumes) == len(found)
            counters = [self._counter(run, one) for one in self.subvolumes]
        return Taken(taken, in_order(counters))

    def _counter(self, run: str, subvolume: Subvolume) -> int:
        (path,) = Path(self.disk.top, STAGING, run).glob(f"*/{subvolume.uuid}/counter")
        return int(path.read_bytes() or b"0")


@contextmanager
def written(disk: Disk, count: int) -> Iterator[Bench]:
    """Write to new subvolumes all the time."""
    names = [disk.arena.unique("s") for _ in range(count)]
    paths = [disk.create(name) for name in names]
    found = {one.path: one for one in freeze.plan(paths).subvolumes}
    with writing(paths):
        yield Bench(disk, tuple(found[name] for name in names))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_what_is_called_simultaneous_keeps_the_order_of_writes(disk: Disk, count: int) -> None:
    """And all of it is simultaneous, with a retry now and then."""
    with written(disk, count) as bench:
        taken = [bench.take() for _ in range(INSTANTS)]
    simultaneous = [one for one in taken if one.set.proof in SIMULTANEOUS]
    assert [one for one in simultaneous if not one.in_order] == []
    assert len(simultaneous) == INSTANTS
    first = [one for one in taken if one.set.attempts == 1]
    assert len(first) >= INSTANTS * 0.8, "the kick is what makes the first try good"


@pytest.mark.parametrize("count", [2, 4])
def test_without_the_kick_the_proofs_still_hold(
    disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on kernels before 6.6: more retries, and never a false claim."""
    monkeypatch.setattr(instant, "kickable", lambda _: False)
    with written(disk, count) as bench:
        taken = [bench.take() for _ in range(INSTANTS)]
    simultaneous = [one for one in taken if one.set.proof in SIMULTANEOUS]
    assert [one for one in simultaneous if not one.in_order] == []
    assert len(simultaneous) >= INSTANTS // 10


def test_snapshots_in_turn_break_the_order(disk: Disk) -> None:
    """What the measurement above can see: without it, no violation would prove nothing."""
    broken = 0
    with written(disk, 8) as bench:
        for _ in range(INSTANTS):
            counters = []
            for one in bench.subvolumes:
                copy = f"{disk.top}/{disk.arena.unique('copy')}"
                sh("btrfs", "subvolume", "snapshot", "-r", f"{disk.top}/{one.path}", copy)
                counters.append(int(Path(copy, "counter").read_bytes()))
                sh("btrfs", "subvolume", "delete", copy)
            broken += not in_order(counters)
    assert broken > INSTANTS // 4


def test_a_single_subvolume_needs_no_proof(disk: Disk) -> None:
    """It is what it is; nothing is tried twice, nothing kicked."""
    with written(disk, 1) as bench:
        taken = bench.take().set
    assert (taken.proof, taken.attempts) == (Proof.SINGLE, 1)


def test_equal_transactions_are_what_the_record_says(site: Site) -> None:
    """The ids in the record are those that the kernel gave."""
    for name in ("a", "b", "c"):
        sh("btrfs", "subvolume", "create", f"{site.source}/{name}")
    record = site.succeed()
    ids = {one["transaction"] for one in record["snapshots"]}
    (file_system,) = record["file_systems"]
    assert record["instant"] == file_system["instant"]
    assert (len(ids) == 1) is (record["instant"] == "one-transaction")
    assert file_system["attempts"] >= 1
    assert 0 < file_system["hold_ms"] <= record["hold_ms"] + 0.001


def test_subvolumes_that_nobody_writes_to_are_unwritten_at_worst(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken one after the other, in transactions of their own: the second proof is enough."""
    _ask_in_turn(monkeypatch)
    paths = [disk.create(disk.arena.unique("s")) for _ in range(3)]
    os.sync()
    with staging(disk.device, new_run()) as own:
        taken = own.take([one for one in freeze.plan(paths).subvolumes if one.path])
    assert len({one.transaction for one in taken.snapshots}) == 3
    assert (taken.proof, taken.attempts) == (Proof.UNWRITTEN, 1)


def _ask_in_turn(
    monkeypatch: pytest.MonkeyPatch, between: Callable[[], object] = lambda: None
) -> None:
    """Take snapshots one after the other, which the kernel would not do by itself."""

    def in_turn(requests: Sequence[Callable[[], None]], _: object) -> instant.Asked:
        began = time.monotonic()
        for request in requests:
            request()
            between()
        return instant.Asked(began, time.monotonic(), (None,) * len(requests))

    monkeypatch.setattr(instant, "ask_together", in_turn)


def test_a_set_that_stays_skewed_is_taken_a_few_times_and_says_so(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every set before the last is deleted; the last one is what there is."""
    paths = [disk.create(disk.arena.unique("s")) for _ in range(4)]

    def write() -> None:
        Path(paths[0], "file").write_bytes(os.urandom(8))
        sh("sync", f"{paths[0]}/file")

    _ask_in_turn(monkeypatch, write)
    seen: list[int] = []
    prove = instant.prove

    def counted(evidence: Sequence[instant.Evidence]) -> Proof:
        seen.append(len(disk.snapshots()))
        return prove(evidence)

    monkeypatch.setattr(instant, "prove", counted)
    with staging(disk.device, new_run()) as own:
        taken = own.take([one for one in freeze.plan(paths).subvolumes if one.path])
    assert taken.proof is Proof.SKEWED
    assert taken.attempts == instant.ATTEMPTS == len(seen)
    assert set(seen) == {4}
    assert disk.runs() == []


def test_a_retry_that_succeeds_counts(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first set that is called skewed is deleted, the second one stays, alone."""
    answers = [Proof.SKEWED, Proof.SKEWED]
    prove = instant.prove
    monkeypatch.setattr(instant, "prove", lambda e: answers.pop() if answers else prove(e))
    with written(disk, 2) as bench:
        taken = bench.take().set
    assert taken.attempts >= 3
    assert taken.proof in SIMULTANEOUS


@pytest.mark.parametrize("failing", [OSError(5, "no"), None], ids=["refused", "stalled"])
def test_a_kick_that_fails_is_no_failure(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, failing: OSError | None
) -> None:
    """It is a help, no step of the proof; a stalled one is not waited for."""

    def start_sync(_: int) -> None:
        if failing is not None:
            raise failing
        time.sleep(3)

    monkeypatch.setattr(btrfs, "start_sync", start_sync)
    paths = [disk.create(disk.arena.unique("s")) for _ in range(3)]
    began = time.monotonic()
    with staging(disk.device, new_run()) as own:
        # Without the top level: taking snapshots writes to it.
        wanted = [one for one in freeze.plan(paths).subvolumes if one.path]
        assert own.take(wanted).proof is not Proof.SKEWED
    assert time.monotonic() - began < 2.5


def test_one_instant_can_be_required(site: Site, arena: Arena) -> None:
    """Two file systems never have one: the run fails before restic starts."""
    other = arena.disk(256).source()
    site.job.update({"paths": [site.source, other], "require-one-instant": True})
    record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert "not frozen at one instant" in record["failure"]["message"]
    assert "require-one-instant" in record["failure"]["message"]
    assert site.calls("backup") == []
    assert record["instant"] == "skewed"


def test_one_instant_that_is_required_and_there_is_no_trouble(site: Site) -> None:
    """Several subvolumes of one file system."""
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    site.job["require-one-instant"] = True
    assert site.succeed()["instant"] in {"one-transaction", "unwritten"}


def test_several_file_systems_each_have_their_instant(site: Site, arena: Arena) -> None:
    """The hold covers all of them: what lies between the first and the last is the skew."""
    other = arena.disk(256).source()
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    site.job["paths"] = [site.source, other]
    record = site.succeed()
    assert record["instant"] == "skewed"
    proofs = {one["file_system"]: one["instant"] for one in record["file_systems"]}
    assert len(proofs) == 2
    assert set(proofs.values()) in ({"single", "one-transaction"}, {"single", "unwritten"})
    assert {one["file_system"] for one in record["snapshots"]} == proofs.keys()
    assert record["hold_ms"] >= sum(one["hold_ms"] for one in record["file_systems"])
    assert len(site.snapshots()) == 1


def test_several_file_systems_are_all_let_go(site: Site, arena: Arena) -> None:
    """If the second one cannot be frozen, nothing of the first one stays."""
    second = arena.disk(256)
    other = second.source()
    with swapping(f"{other}/swap"):
        done = execute([site.source, other], "echo", "started")
        assert (done.returncode, done.stdout) == (125, "")
    assert arena.left_behind() == []
