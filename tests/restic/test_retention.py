"""What `forget` keeps and removes, with every restic."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from holdstill.restic.commands import Backup, Retention
from holdstill.restic.outcome import Outcome
from tests.restic.asking import restic, snapshots

if TYPE_CHECKING:
    from holdstill.restic.client import Client, ForgetResult
    from holdstill.restic.commands import Target

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def back_up(client: Client, target: Target, request: Backup) -> None:
    """Make a snapshot."""
    result = client.backup(target, request, lambda _: None, lambda _: None)
    assert result.outcome is Outcome.OK, result.message


def forget(client: Client, target: Target, retention: Retention) -> ForgetResult:
    """Apply a retention that nobody watches."""
    return client.forget(target, retention, lambda _: None)


def test_retention_removes_what_no_rule_keeps(client: Client, target: Target, source: Path) -> None:
    """Counted, and pruned: the repository is whole afterwards, and the data gone."""
    for day in range(3):
        (source / "file").write_bytes(os.urandom(1 << 20))
        request = Backup((str(source),), "box", START + timedelta(days=day), tags=("t",))
        back_up(client, target, request)
    retention = Retention(
        (str(source),), "box", ("t",), ("paths", "tags"), keep_daily=1, prune=True, max_unused="0"
    )
    result = forget(client, target, retention)
    assert (result.outcome, result.message) == (Outcome.OK, "")
    assert (result.kept, result.removed, result.warnings) == (1, 2, ())
    (left,) = snapshots(client, target)
    assert datetime.fromisoformat(left["time"]) == START + timedelta(days=2)
    assert b"no errors were found" in restic(client, target, "check")
    packs = [path for path in (Path(target.url) / "data").rglob("*") if path.is_file()]
    assert 1 << 20 < sum(path.stat().st_size for path in packs) < 2 << 20


def test_retention_leaves_others_alone(client: Client, target: Target, source: Path) -> None:
    """Another host, another tag, no tag, other paths: all in one repository."""
    (source / "other").mkdir()
    own = Backup((str(source),), "box", START, tags=("own", "job"))
    others = [
        own._replace(host="other"),
        own._replace(tags=("own",)),
        own._replace(tags=()),
        own._replace(paths=(f"{source}/other",)),
    ]
    for request in [*others, own, own._replace(frozen_at=START + timedelta(days=1))]:
        back_up(client, target, request)
        assert request.frozen_at is not None
    retention = Retention(own.paths, "box", own.tags, (), keep_last=1)
    result = forget(client, target, retention)
    assert (result.kept, result.removed) == (1, 1)
    assert len(snapshots(client, target)) == len(others) + 1


def test_retention_of_a_job_without_tags_is_for_snapshots_without_tags(
    client: Client, target: Target, source: Path
) -> None:
    """Those of other jobs on the same paths stay."""
    own = Backup((str(source),), "box", START)
    for request in (own, own, own._replace(tags=("theirs",))):
        back_up(client, target, request)
    result = forget(client, target, Retention(own.paths, "box", keep_last=1))
    assert (result.kept, result.removed) == (1, 1)
    assert len(snapshots(client, target)) == 2


def test_retention_finds_paths_that_are_not_utf_8(
    client: Client, target: Target, source: Path
) -> None:
    """A snapshot records them with replacement characters, and compares with those."""
    path = os.path.join(str(source), os.fsdecode(b"\xff\xe2\x82 *?[\n"))
    os.mkdir(path)
    for second in range(2):
        back_up(client, target, Backup((path,), "box", START + timedelta(seconds=second)))
    result = forget(client, target, Retention((path,), "box", keep_last=1))
    assert (result.kept, result.removed) == (1, 1)


def test_retention_that_matches_nothing_is_no_success(
    client: Client, target: Target, source: Path
) -> None:
    """After a backup there is one snapshot at least: something is wrong with the filter."""
    result = forget(client, target, Retention((str(source),), "box", keep_last=1, prune=True))
    assert (result.outcome, result.kept, result.removed) == (Outcome.PARTIAL, 0, 0)
    assert "matched no snapshot" in result.message
    assert "-- snapshots" in result.remedy


def test_newest_snapshots_within_a_time_stay(client: Client, target: Target, source: Path) -> None:
    """--keep-within counts from the newest snapshot."""
    for day in (0, 9, 10):
        back_up(client, target, Backup((str(source),), "box", START + timedelta(days=day)))
    result = forget(client, target, Retention((str(source),), "box", keep_within="2d"))
    assert (result.kept, result.removed) == (2, 1)


def test_retention_without_a_repository_is_a_failure(
    client: Client, target: Target, source: Path
) -> None:
    """As for a backup."""
    retention = Retention((str(source),), "box", keep_last=1)
    result = forget(client, target._replace(url="/nonexistent/repository"), retention)
    assert result.outcome is Outcome.FAILED
    assert "there is no repository" in result.message
    assert (result.kept, result.removed) == (None, None)
