"""Metrics: what Prometheus' own parser reads in them is what is known of a job."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from holdstill.records import metrics, textfile
from holdstill.records.metrics import METRICS, Known
from holdstill.records.past import PastRun, of_dead_run
from holdstill.records.record import (
    LeftOutRecord,
    Outcome,
    Phase,
    PhaseRecord,
    RepositoryResult,
    RetentionResult,
    RunRecord,
    SnapshotRecord,
    plain,
)

if TYPE_CHECKING:
    from pathlib import Path

STARTED = datetime(2026, 11, 22, 3, tzinfo=UTC)
FINISHED = STARTED + timedelta(seconds=12.5)
RESULT = RepositoryResult(
    "nas",
    Outcome.OK,
    "a" * 64,
    data_added=2000,
    data_added_packed=1000,
    files_new=1,
    files_changed=2,
    files_unmodified=3,
    total_files=6,
    total_bytes=6000,
    seconds=9.5,
    retention=RetentionResult(Outcome.OK, kept=7, removed=1),
)
RECORD = RunRecord(
    "home",
    "20261122T030000Z-1",
    Outcome.PARTIAL,
    3,
    STARTED,
    FINISHED,
    phases=(
        PhaseRecord(Phase.PLANNING, "", STARTED, 0.25),
        PhaseRecord(Phase.BACKING_UP, "nas", STARTED, 9.75),
    ),
    hold_ms=7.25,
    instant="skewed",
    snapshots=(SnapshotRecord("u", 1, 2, 3),),
    repositories=(RESULT, RepositoryResult("usb", Outcome.PARTIAL, error_count=4, suspicious=True)),
    left_out=(LeftOutRecord("/x", "why", ""),),
    warnings=("one", "two"),
)

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def run_of(record: RunRecord) -> PastRun:
    """Return a run that is on record."""
    return PastRun(record.run_id, record.job, record.started, record.outcome, plain(record))


WHOLE = Known(
    active_since=FINISHED,
    last=run_of(RECORD),
    last_ok=STARTED,
    good_backups={"nas": FINISHED},
    leftovers=2,
)


def read(text: str) -> Values:
    """Return every value in a text, by name and labels, as Prometheus' parser reads it."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, family.documentation) == ("gauge", METRICS[family.name])
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(values: Values, name: str, **labels: str) -> float:
    """Return one value of the job `home`."""
    return values[f"holdstill_{name}", frozenset({"job_name": "home", **labels}.items())]


def test_everything_that_is_known_can_be_read() -> None:
    """Every metric is there, with the values of the record."""
    values = read(metrics.text("home", WHOLE))
    assert {name for name, _ in values} == METRICS.keys()
    assert value(values, "run_active") == 1
    assert value(values, "run_active_start_timestamp_seconds") == FINISHED.timestamp()
    assert value(values, "last_success_timestamp_seconds") == STARTED.timestamp()
    assert value(values, "run_duration_seconds") == 12.5
    assert value(values, "run_exit_status") == 3
    assert value(values, "run_hold_seconds") == 0.00725
    assert value(values, "run_skewed") == 1
    assert value(values, "run_warnings") == 2
    assert value(values, "leftover_snapshots") == 2
    assert value(values, "phase_duration_seconds", phase="backing-up", repository="nas") == 9.75
    assert value(values, "backup_size_bytes", repository="nas") == 6000
    assert value(values, "backup_files", repository="nas", change="unmodified") == 3
    assert value(values, "backup_errors", repository="usb") == 4
    assert value(values, "backup_suspicious", repository="usb") == 1
    assert value(values, "retention_kept_snapshots", repository="nas") == 7
    good = "backup_last_success_timestamp_seconds"
    assert value(values, good, repository="nas") == FINISHED.timestamp()


def test_one_outcome_is_one_and_the_others_are_zero() -> None:
    """So that an alert on a failure ends by itself."""
    values = read(metrics.text("home", WHOLE))
    ended = [one for one in Outcome if one is not Outcome.SKIPPED]
    found = {one: value(values, "run_outcome", outcome=one) for one in ended}
    assert found == {one: float(one is Outcome.PARTIAL) for one in ended}
    assert value(values, "backup_outcome", repository="nas", outcome="ok") == 1
    assert value(values, "backup_outcome", repository="usb", outcome="ok") == 0


def test_nothing_is_said_that_is_not_known() -> None:
    """Of a run that has died, not even how many warnings it had; of no run at all, nothing."""
    phases = '[{"name": "freezing", "repository": "", "started": "x", "seconds": null}]'
    died = PastRun(
        "1", "home", STARTED, Outcome.INTERRUPTED, of_dead_run("home", "1", STARTED, phases)
    )
    values = read(metrics.text("home", Known(last=died)))
    assert {name.removeprefix("holdstill_") for name, _ in values} == {
        "run_active",
        "run_outcome",
        "run_start_timestamp_seconds",
    }
    assert value(values, "run_outcome", outcome="interrupted") == 1
    assert {name for name, _ in read(metrics.text("home", Known()))} == {"holdstill_run_active"}


@given(job=st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
def test_whatever_a_label_holds_is_read_back(job: str) -> None:
    """Quotes, backslashes and line feeds are escaped."""
    (key,) = read(metrics.text(job, Known()))
    assert dict(key[1]) == {"job_name": job}


def test_names_follow_prometheus_conventions() -> None:
    """Base units at the end, and nothing that looks like a counter or a histogram."""
    for name in METRICS:
        assert re.fullmatch(r"holdstill_[a-z_]+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_ms", "_mb"))
        assert ("timestamp" in name) == name.endswith("_timestamp_seconds")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Readable for all, with nothing beside it; what a crash has left is in nobody's way."""
    (tmp_path / "x.prom").write_text("old")
    (tmp_path / "x.prom.tmp").symlink_to("victim")
    before = (tmp_path / "x.prom").stat().st_ino
    textfile.publish(str(tmp_path), "x.prom", "new\n")
    found = (tmp_path / "x.prom").stat()
    assert (found.st_mode & 0o7777, found.st_ino == before) == (0o644, False)
    assert (tmp_path / "x.prom").read_text() == "new\n"
    assert os.listdir(tmp_path) == ["x.prom"]


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """The directory may be another user's."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "x.prom").symlink_to("victim")
    textfile.publish(str(tmp_path), "x.prom", "new\n")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "x.prom").is_symlink()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing beside it; a full disk, played by an fsync that fails."""
    textfile.publish(str(tmp_path), "x.prom", "old\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        textfile.publish(str(tmp_path), "x.prom", "new\n")
    assert (os.listdir(tmp_path), (tmp_path / "x.prom").read_text()) == (["x.prom"], "old\n")
