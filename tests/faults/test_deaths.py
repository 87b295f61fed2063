"""Death of any process at any point: nothing lost, no false success, and the next run succeeds."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.records.past import past
from tests.faults.checkpoints import logged, names, recorded, spread, watched
from tests.kernel.backups import TIMEOUT_SECONDS, host_mounts, session, timestamps, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from holdstill.records.past import PastRun
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk
    from tests.soaking import Soak

pytest_plugins = ["tests.kernel.backup_fixtures"]

LONGEST_ORPHAN_SECONDS = 60.0
BARELY = "--limit-upload 4 --limit-download 1"
"""What keeps a restic alive until it is killed, in whatever it does with a repository."""
PHASES = ("planning", "freezing", "backing-up", "cleaning-up", "retention")
ROUNDS = 3
PARTS = [*(("holdstill", part, 4) for part in range(4)), ("restic", 0, 1)]
TRIES = {"holdstill": 1, "restic": 3}
"""How often a run is let come to a checkpoint: restic may just have ended by itself there."""
LEAST = {"holdstill": 0.95, "restic": 0.5}
"""The share of deaths below which the test itself is wrong."""
SAMPLE = 4
MOST_RUNS = 1_000_000
CLEAN = "; 0 lost, 0 false ok, 0 leftovers after the next run"


def _run(site: Site, victim: str, checkpoint: str, count: int) -> list[str]:
    """Back up with a process that dies; return what the log says when all of them have ended."""
    with watched(site, victim, checkpoint, count) as process:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    _wait_for_the_end(process)
    said = logged(site)
    assert "Traceback" not in err, err
    if any(line.startswith("killed") for line in said):
        _assert_no_success(process, out, victim)
    return said


def _assert_no_success(process: subprocess.Popen[str], out: str, victim: str) -> None:
    if victim == "holdstill" and process.returncode == -signal.SIGKILL:
        assert out == ""
        return
    record = json.loads(out)
    assert process.returncode == record["exit_status"] != 0
    assert record["outcome"] != "ok"


def _history(site: Site) -> list[PastRun]:
    """Return every run on record; one that is open has no outcome."""
    with past(site.path("state")) as history:
        return history.last("data", MOST_RUNS)


def _assert_nothing_lost(site: Site, before: dict[str, object], known: Sequence[PastRun]) -> None:
    assert _state(site) == before
    now = _history(site)
    assert now[: len(known)] == known
    assert all(run.outcome != "ok" for run in now[len(known) :])


def _assert_the_next_run_succeeds(site: Site, disk: Disk) -> None:
    record = site.succeed()
    assert (disk.runs(), disk.snapshots()) == ([], [])
    assert _newest(site, record["repositories"][0]["snapshot_id"]) > {"nested/note", "large"}
    *others, last = _history(site)
    assert (last.run_id, last.outcome) == (record["run_id"], "ok")
    assert all(run.outcome for run in others), "a run stayed open"
    site.restic("check")


def _newest(site: Site, expected: str) -> set[str]:
    """Return the paths of the source in the newest backup, which must be the one expected."""
    head, *nodes = map(json.loads, site.restic("ls", "--json", "latest").splitlines())
    assert head["id"].startswith(expected)
    return {str(node["path"]).removeprefix(f"{site.source}/") for node in nodes}


def _state(site: Site) -> dict[str, object]:
    files = sorted(path for path in Path(site.source).rglob("*") if path.is_file())
    return {
        "times": timestamps(site.source),
        "contents": [path.read_bytes() for path in files],
        "mounts": host_mounts(),
    }


def _die(site: Site, disk: Disk, victim: str, checkpoint: str, count: int = 1) -> bool:
    """Let a process die at a checkpoint; return whether there was one."""
    before, known = _state(site), _history(site)
    said = _run(site, victim, checkpoint, count)
    died = any(line.startswith("killed") for line in said)
    if died:
        _assert_nothing_lost(site, before, known)
        _assert_the_next_run_succeeds(site, disk)
    return died


@pytest.mark.parametrize("phase", PHASES)
def test_holdstill_dies_as_a_phase_begins(at_risk: Site, disk: Disk, phase: str) -> None:
    """Each phase is a checkpoint; the record stays open until the next run calls it interrupted."""
    known = len(_history(at_risk))
    assert _die(at_risk, disk, "holdstill", f"phase {phase}")
    assert [run.outcome for run in _history(at_risk)[known:]] == ["interrupted", "ok"]


def test_a_views_first_process_dies(at_risk: Site, disk: Disk) -> None:
    """At each step on its way from holdstill to restic."""
    steps = [name for name in names(at_risk) if name.startswith("view.enter:")]
    assert len(steps) > 10
    for step in spread(sorted(steps), 5):
        assert _die(at_risk, disk, "holdstill", step), step


@pytest.mark.parametrize("moment", ["begins", "opens", "writes", "forgets"])
def test_restic_dies(at_risk: Site, disk: Disk, moment: str) -> None:
    """As it begins, with the repository locked, with data written, and in the retention."""
    at_risk.write("more", os.urandom(8 << 20))
    at_risk.job["keep"] = {"last": 1}
    before, known = _state(at_risk), _history(at_risk)
    command = "forget" if moment == "forgets" else "backup"
    repository = str(at_risk.repositories["main"]["url"])
    packs = len(list(Path(repository, "data").rglob("*")))
    with at_risk.paused("backup", "--json", at=command, options=BARELY) as process:
        victim = os.pidfd_open(at_risk.calls(command)[-1].pid)
        at_risk.let_go()
        if moment != "begins":
            wait_until(at_risk.writing)
        if moment == "writes":
            wait_until(lambda: len(list(Path(repository, "data").rglob("*"))) > packs)
        signal.pidfd_send_signal(victim, signal.SIGKILL)
        os.close(victim)
        out, err = process.communicate()
    at_risk.install_restic()
    record = json.loads(out)
    assert "Traceback" not in err
    assert record["outcome"] == "failed"
    _assert_nothing_lost(at_risk, before, known)
    _assert_the_next_run_succeeds(at_risk, disk)


def test_holdstill_dies_at_checkpoints_of_a_whole_run(at_risk: Site, disk: Disk) -> None:
    """Some of them, evenly over the run; all of them in the long version."""
    found = names(at_risk)
    assert len(found) > 100
    for name in spread(found, SAMPLE):
        assert _die(at_risk, disk, "holdstill", name), name


@pytest.mark.soak
@pytest.mark.parametrize(("victim", "part", "parts"), PARTS)
def test_every_checkpoint(  # noqa: PLR0913, PLR0917 - fixtures
    at_risk: Site, disk: Disk, soak: Soak, victim: str, part: int, parts: int
) -> None:
    """All of them, the first, the second and the third time that they are reached.

    In parts, for as many processors: a checkpoint belongs to one of them, whatever a run reaches.
    """
    reached = [one for one in recorded(at_risk, victim) if one[1] <= ROUNDS]
    ours = [one for one in reached if zlib.crc32(one[0].encode()) % parts == part]
    chosen = spread(ours, soak.count(len(ours)))
    deaths = sum(
        any(_die(at_risk, disk, victim, *one) for _ in range(TRIES[victim])) for one in chosen
    )
    assert deaths >= LEAST[victim] * len(chosen)
    soak.note(
        f"{victim} dies at checkpoints, part {part + 1} of {parts}: {len(dict(chosen))} of them, "
        f"each up to {ROUNDS} times, {deaths} deaths of {len(chosen)}{CLEAN}"
    )


def test_some_random_moments(at_risk: Site, disk: Disk) -> None:
    """A few kills of holdstill and all that it has started, restic alone, or itself alone."""
    _die_at_random(at_risk, disk, 5)


@pytest.mark.soak
def test_random_moments(at_risk: Site, disk: Disk, soak: Soak) -> None:
    """Two hundred of them."""
    kills = soak.count(200)
    completed = _die_at_random(at_risk, disk, kills)
    soak.note(f"kills at random moments: {kills}, {completed} of them when all was done{CLEAN}")


def _die_at_random(site: Site, disk: Disk, kills: int) -> int:
    """Let so many runs die; return how many of them were complete, and on record as that."""
    moments = random.Random(1)  # noqa: S311 - the same moments in each run
    began = time.monotonic()
    site.succeed()
    usual, done, completed = time.monotonic() - began, 0, 0
    while done < kills:
        before, known = _state(site), _history(site)
        with site.started("backup", "--json") as process:
            time.sleep(moments.uniform(0.0, usual))
            hit = _kill_some(process, moments)
            out, err = process.communicate()
        assert "Traceback" not in err, err
        _wait_for_the_end(process)
        if process.returncode > 0:
            assert json.loads(out)["outcome"] != "ok"
        assert _state(site) == before
        whole = _assert_no_false_success(site, disk, known)
        done, completed = done + hit, completed + (hit and whole)
        _assert_the_next_run_succeeds(site, disk)
    return completed


def _wait_for_the_end(process: subprocess.Popen[str]) -> None:
    wait_until(lambda: not session(process.pid, unburied=True), LONGEST_ORPHAN_SECONDS)


def _assert_no_false_success(site: Site, disk: Disk, known: Sequence[object]) -> bool:
    """Return whether a run is on record as ok: then nothing of it may be missing, and none left."""
    good = [run for run in _history(site)[len(known) :] if run.outcome == "ok"]
    for run in good:
        assert {"nested/note", "large"} < _newest(
            site, run.record["repositories"][0]["snapshot_id"]
        )
        assert disk.runs() == []
    return bool(good)


def _kill_some(process: subprocess.Popen[str], moments: random.Random) -> bool:
    """Kill processes of a run; return whether one of them was there to be killed."""
    everybody = session(process.pid)
    which = moments.choice(("all", "holdstill", "children"))
    chosen = {
        "all": everybody,
        "holdstill": [process.pid],
        "children": [pid for pid in everybody if pid != process.pid],
    }[which]
    return sum(_killed(pid, process.pid) for pid in chosen) > 0


def _killed(pid: int, leader: int) -> bool:
    """Kill a process unless it has ended, and another may have its number."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        is_ours = pid in session(leader)
        if is_ours:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return is_ours
