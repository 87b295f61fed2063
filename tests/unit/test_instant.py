"""What transaction ids prove, and how requests are made at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.snapshots.instant import Evidence, ask_together, kickable, prove
from holdstill.snapshots.model import Instant, Proof, SnapshotSet

ids = st.integers(1, 6)
evidence = st.lists(st.builds(Evidence, ids, ids), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([(7, 9)], Proof.SINGLE),
        ([(7, 9), (7, 7)], Proof.ONE_TRANSACTION),
        ([(7, 7), (8, 8)], Proof.UNWRITTEN),
        ([(7, 6), (8, 8), (9, 2)], Proof.UNWRITTEN),
        ([(7, 8), (8, 8)], Proof.SKEWED),
        ([(7, 7), (8, 9)], Proof.SKEWED),
    ],
)
def test_what_the_ids_prove(taken: list[tuple[int, int]], expected: Proof) -> None:
    """Transaction of the snapshot, and last one that wrote to its source."""
    assert prove([Evidence(*one) for one in taken]) is expected


@given(evidence)
def test_a_source_that_was_written_between_two_snapshots_is_never_simultaneous(
    taken: list[Evidence],
) -> None:
    """A write after its own snapshot may be in a later one's past."""
    transactions = {one.created for one in taken}
    if len(transactions) > 1 and any(one.written > one.created for one in taken):
        assert prove(taken) is Proof.SKEWED


@given(evidence, st.integers(1, 9))
def test_a_later_write_never_makes_a_proof_better(taken: list[Evidence], more: int) -> None:
    """Only worse, or no different."""
    later = [Evidence(one.created, one.written + more) for one in taken]
    order = list(Proof)
    assert order.index(prove(later)) >= order.index(prove(taken))


@given(evidence, st.randoms())
def test_the_order_of_the_subvolumes_does_not_matter(
    taken: list[Evidence],
    random: object,
) -> None:
    """It is a statement about the set."""
    shuffled = list(taken)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert prove(shuffled) is prove(taken)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("5.15.0-91-generic", False),
        ("6.1.0-18-amd64", False),
        ("6.5.13", False),
        ("6.6", True),
        ("6.6.0-rc1", True),
        ("6.18.44-fc-v595", True),
        ("6.10+", True),
        ("7.0.0", True),
        ("10.0", True),
    ],
)
def test_the_kick_is_for_kernels_on_which_it_helps(release: str, expected: bool) -> None:
    """Before 6.6 it could stall; versions are numbers."""
    assert kickable(release) is expected


def test_requests_are_under_way_at_once() -> None:
    """Each waits for all others: one after the other they would never end."""
    barrier = threading.Barrier(8, timeout=20)
    done: list[int] = []

    def request() -> None:
        barrier.wait()
        done.append(1)

    asked = ask_together([request] * 8, lambda: done.append(0))
    assert done == [0] + [1] * 8
    assert asked.failures == (None,) * 8
    assert asked.began <= asked.ended


def test_what_failed_is_known_by_its_request() -> None:
    """The others are answered all the same."""
    error = OSError(28, "full")

    def fail() -> None:
        raise error

    assert ask_together([lambda: None, fail], lambda: None).failures == (None, error)


def test_nothing_is_asked_if_not_all_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of threads, which cannot be set for root here, is put in their place."""
    asked: list[int] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if threading.active_count() > before + 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        ask_together([lambda: asked.append(1)] * 5, lambda: None)
    assert asked == []
    assert threading.active_count() == before


NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def test_two_file_systems_never_share_an_instant() -> None:
    """However simultaneous each one's snapshots are; the hold covers both."""
    first = SnapshotSet("a", (), Proof.ONE_TRANSACTION, NOW, 10.0, 10.25)
    second = SnapshotSet("b", (), Proof.SINGLE, NOW, 10.5, 10.75)
    assert Instant((first,)).proof is Proof.ONE_TRANSACTION
    both = Instant((first, second))
    assert (both.proof, both.hold_ms) == (Proof.SKEWED, 750)
