"""From what happened to an outcome and an exit status."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from holdstill.jobs.verdict import (
    exit_status,
    exit_status_of_all,
    of_repository,
    of_run,
    shrinkage,
)
from holdstill.records.record import (
    Outcome,
    RepositoryResult,
    RetentionResult,
    RunRecord,
    Size,
    worst,
)

OK = RepositoryResult("nas", Outcome.OK)
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def _run(outcome: Outcome, status: int) -> RunRecord:
    return RunRecord("home", "run", outcome, status, NOW, NOW)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Outcome.OK),
        ([Outcome.OK, Outcome.OK], Outcome.OK),
        ([Outcome.OK, Outcome.PARTIAL], Outcome.PARTIAL),
        ([Outcome.FAILED, Outcome.PARTIAL, Outcome.SKIPPED], Outcome.FAILED),
        ([Outcome.INTERRUPTED, Outcome.FAILED], Outcome.INTERRUPTED),
    ],
)
def test_the_worst_outcome_counts(outcomes: list[Outcome], expected: Outcome) -> None:
    """In any order."""
    assert worst(outcomes) is worst(outcomes[::-1]) is expected


def test_a_retention_that_failed_is_no_success() -> None:
    """The backup is good, and somebody has to look."""
    failed = OK._replace(retention=RetentionResult(Outcome.FAILED))
    assert of_repository(failed) is Outcome.FAILED
    assert of_repository(OK._replace(retention=RetentionResult(Outcome.OK))) is Outcome.OK


def test_a_repository_that_was_not_reached_is_a_failure() -> None:
    """Of two that were planned, one good result is not enough; none at all neither."""
    assert of_run([OK, OK], planned=2, interrupted=False) is Outcome.OK
    assert of_run([OK], planned=2, interrupted=False) is Outcome.FAILED
    assert of_run([], planned=0, interrupted=False) is Outcome.FAILED


def test_an_interruption_outweighs_everything() -> None:
    """Whatever was done before the signal."""
    assert of_run([OK], planned=1, interrupted=True) is Outcome.INTERRUPTED


@pytest.mark.parametrize(
    ("outcome", "signal", "status"),
    [
        (Outcome.OK, None, 0),
        (Outcome.FAILED, None, 1),
        (Outcome.PARTIAL, None, 3),
        (Outcome.SKIPPED, None, 75),
        (Outcome.INTERRUPTED, 15, 143),
        (Outcome.INTERRUPTED, None, 130),
    ],
)
def test_every_outcome_has_an_exit_status(
    outcome: Outcome, signal: int | None, status: int
) -> None:
    """As the help text says."""
    assert exit_status(outcome, signal) == status


def test_several_runs_end_with_the_status_of_the_worst() -> None:
    """Worse is not greater: a failure (1) is worse than a partial backup (3) or a skipped one."""
    runs = [
        _run(Outcome.SKIPPED, 75),
        _run(Outcome.FAILED, 1),
        _run(Outcome.OK, 0),
        _run(Outcome.PARTIAL, 3),
    ]
    assert exit_status_of_all(runs) == 1
    assert exit_status_of_all([runs[0], runs[2]]) == 75


@pytest.mark.parametrize(
    ("now", "before", "percent", "words"),
    [
        (Size(5, 50), Size(10, 100), 50, ""),
        (Size(4, 50), Size(10, 100), 50, "4 files where the last one had 10"),
        (Size(5, 49), Size(10, 100), 50, "49 bytes where the last one had 100"),
        (Size(1, 1), Size(1000, 0), 50, "1 files where the last one had 1,000"),
        (Size(0, 0), None, 50, ""),
        (Size(0, 0), Size(0, 0), 100, ""),
        (Size(0, 0), Size(9, 9), 0, ""),
        (Size(99, 100), Size(100, 100), 100, "99 files where the last one had 100"),
    ],
)
def test_a_backup_that_lost_much_is_suspicious(
    now: Size, before: Size | None, percent: int, words: str
) -> None:
    """In files or in bytes, against the last one, where there was one."""
    result = OK._replace(total_files=now.files, total_bytes=now.bytes)
    assert shrinkage(result, before, percent) == words


@given(some.integers(0, 1 << 62), some.integers(0, 1 << 62), some.integers(0, 100))
def test_a_backup_that_has_not_shrunk_is_no_suspect(files: int, size: int, percent: int) -> None:
    """Whatever is asked for."""
    result = OK._replace(total_files=files, total_bytes=size)
    assert shrinkage(result, Size(files, size), percent) == ""
