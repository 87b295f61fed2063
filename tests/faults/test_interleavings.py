"""Two runs at once: one stops anywhere, and the other is whole, or refused if it is of that job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.checkpoints import logged, names, spread, watched
from tests.kernel.backups import TIMEOUT_SECONDS, only, session, wait_until
from tests.kernel.promptness import within

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk
    from tests.soaking import Soak

pytest_plugins = ["tests.kernel.backup_fixtures"]

PATIENCE_SECONDS = 5.0
"""How long the other job gets before the first goes on, which may be what it waits for."""
LONGEST_END_SECONDS = 5.0
NOT_YET_LOCKED = ("snapshots.staging:_needing_space begins", 2)
"""A run's directory and its lock's file are there, and nobody has the lock yet."""


FROM_FIRST_TO_LAST = (
    "snapshots.staging:staging begins",
    "phase backing-up",
    "snapshots.staging:_remove returns",
    "records.history:History.close begins",
)


def test_a_job_is_locked_until_its_last_snapshot_is_gone(at_risk: Site, disk: Disk) -> None:
    """From before the first; and until the run is on record."""
    for checkpoint in FROM_FIRST_TO_LAST:
        with watched(at_risk, "stopped", checkpoint, 1) as first:
            wait_until(lambda: _stopped(at_risk))
            left, record = disk.snapshots(), at_risk.back_up()
            assert (record["outcome"], record["exit_status"]) == ("skipped", 75), checkpoint
            assert disk.snapshots() == left
            _go_on(at_risk)
            _assert_whole(at_risk, first)


@pytest.fixture
def two(at_risk: Site) -> Site:
    """Add a job `other` of the same source, with a repository of its own."""
    at_risk.add_repository("second")
    at_risk.jobs["other"] = {**at_risk.job, "repositories": ["second"], "tags": ["other"]}
    return at_risk


def test_a_run_is_not_swept_before_it_has_its_lock(two: Site, disk: Disk) -> None:
    """Another job sweeps the file system in just that moment."""
    assert _interleave(two, disk, *NOT_YET_LOCKED)


def test_a_job_runs_while_another_stands_still(two: Site, disk: Disk) -> None:
    """At some of its checkpoints; at all of them in the long version."""
    for name in spread(names(two), 4):
        assert _interleave(two, disk, name), name


@pytest.mark.soak
def test_a_job_runs_wherever_another_stands_still(two: Site, disk: Disk, soak: Soak) -> None:
    """The first time that each checkpoint is reached."""
    found = names(two)
    chosen = spread(found, soak.count(len(found)))
    assert all([_interleave(two, disk, name) for name in chosen])  # noqa: C419 - each of them
    soak.note(f"checkpoints at which a job stood while another ran: {len(chosen)}; all runs whole")


WAITING = {
    "backup": ("backup", "--json", "other"),
    "exec": ("exec", "{source}", "--", "true"),
}


@pytest.mark.parametrize("command", WAITING)
def test_a_wait_for_one_that_stands_still_is_seen_and_ended(
    two: Site, disk: Disk, command: str
) -> None:
    """It keeps others from making snapshots just then: it is named, and a signal is enough."""
    words = [word.format(source=two.source) for word in WAITING[command]]
    with watched(two, "stopped", "snapshots.staging:_begin begins", 1) as first:
        wait_until(lambda: _stopped(two))
        with two.started(*words) as second:
            assert second.stderr is not None
            assert f"(process {first.pid}, stopped)" in second.stderr.readline()
            time.sleep(PATIENCE_SECONDS)
            with within(LONGEST_END_SECONDS):
                second.send_signal(signal.SIGTERM)
                out, err = second.communicate()
        assert (second.returncode, err) == (128 + signal.SIGTERM, "")
        assert command == "exec" or json.loads(out)["outcome"] == "interrupted"
        _go_on(two)
        _assert_whole(two, first)
    assert (disk.runs(), disk.snapshots()) == ([], [])


IN_THE_WAY = (
    "snapshots.turn:Turn.wait_for returns",
    "snapshots.staging:_opened_lock begins",
    "snapshots.staging:_is_dead begins",
)
"""A sweep has locked the staging directory, and looks at another run."""


@pytest.mark.parametrize("checkpoint", IN_THE_WAY)
def test_a_run_ends_in_time_while_a_sweep_stands_still(
    two: Site, disk: Disk, checkpoint: str
) -> None:
    """Nothing of it stays, and the sweep finds nothing to say of it."""
    with two.paused("backup", "--json", "other") as second:
        (run,) = disk.runs()
        with watched(two, "stopped", checkpoint, 1) as first:
            wait_until(lambda: _stopped(two))
            with within(LONGEST_END_SECONDS):
                second.send_signal(signal.SIGTERM)
                out, err = second.communicate()
            record = json.loads(out)
            assert (record["outcome"], record["warnings"]) == ("interrupted", []), err
            assert run not in disk.runs()
            two.let_go()
            _go_on(two)
            _assert_whole(two, first)
    assert (disk.runs(), disk.snapshots()) == ([], [])


def _interleave(site: Site, disk: Disk, checkpoint: str, count: int = 1) -> bool:
    """Stop a job there and run another one; return whether the first has come there."""
    with watched(site, "stopped", checkpoint, count) as first:
        wait_until(lambda: _stopped(site) or first.poll() is not None)
        stopped = _stopped(site)
        with site.started("backup", "--json", "other") as second:
            try:
                second.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                assert second.returncode is None
            _go_on(site)
            for run in (second, first):
                _assert_whole(site, run)
    wait_until(lambda: not session(first.pid))
    assert (disk.runs(), disk.snapshots()) == ([], [])
    return bool(stopped)


def _go_on(site: Site) -> None:
    for process in _stopped(site):
        os.kill(process, signal.SIGCONT)


def _stopped(site: Site) -> list[int]:
    words = [line.split() for line in logged(site)]
    return [int(number) for word, number in words if word == "stopped"]


def _assert_whole(site: Site, run: subprocess.Popen[str]) -> None:
    out, err = run.communicate(timeout=TIMEOUT_SECONDS)
    assert "Traceback" not in err, err
    record: dict[str, Any] = json.loads(out)
    assert record["outcome"] == "ok", record
    mistaken = ("dead run", "left alone")
    assert [text for text in record["warnings"] if any(word in text for word in mistaken)] == []
    result = only(record)
    nodes = site.nodes(result["snapshot_id"], result["name"])
    paths = {str(node["path"]).removeprefix(f"{site.source}/") for node in nodes}
    assert {"file", "large", "nested/note"} < paths
