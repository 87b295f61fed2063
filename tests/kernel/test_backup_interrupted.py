"""Whatever ends a run early leaves nothing behind, and the next run succeeds."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import (
    each_restic,
    host_mounts,
    only,
    session,
    timestamps,
    wait_until,
)
from tests.kernel.disks import locking
from tests.kernel.promptness import within

if TYPE_CHECKING:
    import subprocess
    from typing import Any

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

LONGEST_END_SECONDS = 5.0
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def _end(process: subprocess.Popen[str], number: int) -> dict[str, Any]:
    """Send a signal and return the record; it must not take long."""
    with within(LONGEST_END_SECONDS):
        process.send_signal(number)
        out, err = process.communicate()
    assert "Traceback" not in err, err
    record: dict[str, Any] = json.loads(out)
    return record


def _assert_clean_and_usable(site: Site, disk: Disk) -> None:
    assert (disk.runs(), disk.snapshots()) == ([], [])
    site.install_restic()
    site.job.update(keep={"last": 1}, prune={})
    record = site.succeed()
    assert [text for text in record["warnings"] if "was locked" not in text] == []
    site.restic("check")


@each_restic
@pytest.mark.parametrize("number", SIGNALS[:2])
def test_a_signal_in_the_middle_of_a_backup(site: Site, disk: Disk, number: signal.Signals) -> None:
    """The run ends with 128+N, says that it was interrupted, and forgets nothing."""
    site.job.update(keep={"last": 1}, prune={})
    site.slow_down()
    mounts, times = host_mounts(), timestamps(site.source)
    with site.started("backup", "--json") as process:
        wait_until(site.writing)
        record = _end(process, number)
    assert process.returncode == record["exit_status"] == 128 + number
    assert (record["outcome"], only(record)["outcome"]) == ("interrupted", "interrupted")
    assert only(record)["retention"] is None
    assert os.listdir(site.path("main/locks")) == [], "restic was not asked, but killed"
    assert site.commands() == ["version", "backup"]
    assert (host_mounts(), timestamps(site.source)) == (mounts, times)
    _assert_clean_and_usable(site, disk)


def test_what_a_stopped_wait_could_not_remove_is_on_record(site: Site, disk: Disk) -> None:
    """On one file system something was made already, while the other's was still waited for."""
    other = disk.arena.disk()
    site.job["paths"] = [site.source, other.source(at=disk.arena.unique("last"))]
    with locking(disk.staging()), site.started("backup", "--json") as process:
        wait_until(other.runs)
        (name,) = other.runs()
        foreign = Path(other.staging(), name, "foreign")
        foreign.touch()
        record = _end(process, signal.SIGTERM)
    assert record["outcome"] == "interrupted"
    assert f"cannot remove .holdstill/{name} on {other.device}" in record["warnings"][-1]
    foreign.unlink()
    foreign.parent.rmdir()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_moment(site: Site, disk: Disk, number: signal.Signals) -> None:
    """Before, during or after the freeze: 128+N in time, or the run was over already."""
    site.job.update(keep={"last": 1}, prune={})
    site.write("large", os.urandom(8 << 20))
    site.succeed()
    moments = random.Random(number)  # noqa: S311 - the same moments in each run
    for _ in range(3):
        with site.started("backup", "--json") as process:
            time.sleep(moments.uniform(0.0, 0.6))
            with within(LONGEST_END_SECONDS):
                process.send_signal(number)
                out, err = process.communicate()
        # Python itself, not yet holdstill, answers an early Ctrl-C with 1.
        too_early = number == signal.SIGINT and not out and err.endswith("KeyboardInterrupt\n")
        assert too_early or process.returncode in {128 + number, -number, 0}, err
        if process.returncode >= 0 and not too_early:
            expected = "interrupted" if process.returncode else "ok"
            assert json.loads(out)["outcome"] == expected
        assert disk.runs() == []
    _assert_clean_and_usable(site, disk)


def test_a_broken_pipe_is_no_reason_to_end(site: Site, disk: Disk) -> None:
    """Whoever read the output has gone, and the backup is wanted all the same."""
    with site.paused("backup", "--json") as process:
        process.send_signal(signal.SIGPIPE)
        site.let_go()
        out, _ = process.communicate()
    assert (process.returncode, json.loads(out)["outcome"]) == (0, "ok")
    assert disk.runs() == []


def test_the_jobs_that_follow_are_not_begun(site: Site) -> None:
    """An interrupted run is the last one."""
    site.slow_down()
    site.jobs["second"] = dict(site.job)
    with site.started("backup", "--json") as process:
        wait_until(site.writing)
        assert _end(process, signal.SIGTERM)["job"] == "data"
    assert len(site.calls("backup")) == 1


def test_an_interrupted_backup_leaves_the_next_repository_alone(site: Site) -> None:
    """The repositories that were not reached are not in the record, and not written."""
    site.slow_down()
    site.add_repository("second")
    site.job["repositories"] = ["main", "second"]
    with site.started("backup", "--json") as process:
        wait_until(site.writing)
        record = _end(process, signal.SIGINT)
    assert [result["name"] for result in record["repositories"]] == ["main"]
    assert record["outcome"] == "interrupted"
    assert site.snapshots("second") == []


def test_a_signal_during_the_retention(site: Site, disk: Disk) -> None:
    """The backup is made, and the run is interrupted all the same."""
    site.job["keep"] = {"last": 1}
    with site.paused("backup", "--json", at="forget") as process:
        assert disk.runs() == []
        record = _end(process, signal.SIGTERM)
        site.let_go()
    assert process.returncode == 128 + signal.SIGTERM
    assert (record["outcome"], only(record)["outcome"]) == ("interrupted", "ok")
    assert only(record)["retention"]["outcome"] == "interrupted"
    assert len(site.snapshots()) == 1


def test_a_restic_that_does_not_end_is_killed(site: Site, disk: Disk) -> None:
    """It gets some seconds, and then no more: a program in its place that ignores signals."""
    script = '#!/bin/sh\ntrap "" INT INT\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\n'
    site.install(f"{script}touch {site.path('ready')}\nwhile :; do sleep 0.1; done\n")
    with site.started("backup", "--json") as process:
        wait_until(lambda: os.path.exists(site.path("ready")))
        record = _end(process, signal.SIGTERM)
    assert (process.returncode, record["outcome"]) == (128 + signal.SIGTERM, "interrupted")
    _assert_clean_and_usable(site, disk)


@each_restic
def test_a_restic_that_was_killed_fails_the_run(site: Site, disk: Disk) -> None:
    """Whoever killed it: this is no success, nothing is forgotten, and nothing stays."""
    site.job["keep"] = {"last": 1}
    site.slow_down()
    with site.started("backup", "--json") as process:
        wait_until(site.writing)
        os.kill(site.calls("backup")[0].pid, signal.SIGKILL)
        out, _ = process.communicate()
    record = json.loads(out)
    assert (process.returncode, record["outcome"]) == (1, "failed")
    assert "killed by SIGKILL" in only(record)["failure"]["message"]
    assert only(record)["retention"] is None
    _assert_clean_and_usable(site, disk)


@each_restic
def test_after_holdstill_was_killed_the_next_run_cleans_up(site: Site, disk: Disk) -> None:
    """Restic ends with it; its snapshot and its lock are removed by the next run, with warnings.

    It has removed its lock itself, unless it died of having nobody to talk to any more.
    """
    site.job.update(keep={"last": 1}, prune={})
    site.slow_down()
    mounts = host_mounts()
    with site.started("backup", "--json") as process:
        wait_until(site.writing)
        process.kill()
        out, _ = process.communicate()
        assert (out, len(disk.snapshots())) == ("", 1)
        wait_until(lambda: not os.path.exists(f"/proc/{site.calls('backup')[0].pid}"))
    assert host_mounts() == mounts
    locks = os.listdir(f"{site.repositories['main']['url']}/locks")
    site.install_restic()
    record = site.succeed()
    swept, *unlocked = record["warnings"]
    assert "dead run" in swept
    assert disk.device in swept
    assert ["removed the locks of dead restics" in text for text in unlocked] == [True] * len(locks)
    assert only(record)["retention"]["outcome"] == "ok"
    assert (disk.runs(), disk.snapshots()) == ([], [])
    site.restic("check")


def test_holdstill_killed_at_any_moment(site: Site, disk: Disk) -> None:
    """No moment leaves a state that the next run cannot clean up."""
    site.succeed()
    moments = random.Random(1)  # noqa: S311 - the same moments in each run
    for _ in range(8):
        with site.started("backup", "--json") as process:
            time.sleep(moments.uniform(0.05, 0.6))
            process.kill()
            process.communicate()
    wait_until(lambda: site.run("backup", "--json").returncode != 75)
    assert (disk.runs(), disk.snapshots()) == ([], [])
    site.succeed()


def test_an_orphaned_restic_still_counts_as_a_run(site: Site, disk: Disk) -> None:
    """A restic that outlives holdstill keeps its job's lock, and nobody sweeps its snapshot.

    A program in its place that ignores the signal that holdstill's death sends.
    """
    script = '#!/bin/sh\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\ntrap "" INT\n'
    site.install(f"{script}touch {site.path('ready')}\nwhile :; do sleep 0.05; done\n")
    with site.started("backup") as process:
        wait_until(lambda: os.path.exists(site.path("ready")))
        process.kill()
        process.wait()
        site.install_restic()
        record = site.back_up()
        assert (record["outcome"], record["exit_status"]) == ("skipped", 75)
        assert site.run("sweep").returncode == 0
        assert len(disk.snapshots()) == 1
    wait_until(lambda: site.run("backup").returncode == 0)
    assert disk.runs() == []


LOOKING_ON = """\
#!/bin/sh
if [ "$1" = backup ]; then
    setsid sh -c 'echo $$ > {log}.pid; while :; do cat {file} || echo gone; done >> {log}' &
    until [ -s {log} ]; do sleep 0.01; done
fi
{restic} "$@"
exit $?
"""


def test_what_a_restic_leaves_running_is_ended_before_its_snapshots_go(site: Site) -> None:
    """A password command may start a daemon, a wrapper may lose its restic: none outlives the view.

    It would go on to read a tree that is being deleted.
    """
    file, log = site.write("note", "frozen\n"), site.path("log")
    site.install(LOOKING_ON.format(log=log, file=file, restic=site.restic_path))
    site.succeed()
    assert set(Path(log).read_text(encoding="utf-8").split()) == {"frozen"}
    assert _has_ended(int(Path(f"{log}.pid").read_text(encoding="utf-8")))


def _has_ended(process: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


SILENT = '#!/bin/sh\ntrap "" INT TERM\ntouch {ready}\nwhile :; do sleep 0.1; done\n'
ASKING = {
    "backup": ("backup", "--json"),
    "maintain": ("maintain", "prune"),
    "doctor": ("doctor",),
    "plan": ("plan",),
    "restic": ("restic", "data", "--", "snapshots"),
}


@pytest.mark.parametrize("number", SIGNALS[:2])
@pytest.mark.parametrize("command", ASKING)
def test_a_restic_that_does_not_say_its_version(
    site: Site, disk: Disk, command: str, number: signal.Signals
) -> None:
    """A program in its place that hangs and ignores signals is waited for by nobody, nor stays."""
    site.install(SILENT.format(ready=site.path("ready")))
    with site.started(*ASKING[command]) as process:
        wait_until(lambda: os.path.exists(site.path("ready")))
        with within(LONGEST_END_SECONDS):
            process.send_signal(number)
            out, err = process.communicate()
        wait_until(lambda: not session(process.pid), LONGEST_END_SECONDS)
    assert "Traceback" not in err, err
    assert process.returncode in {128 + number, -number}
    if command == "backup":
        record = json.loads(out)
        assert (record["outcome"], record["exit_status"]) == ("interrupted", 128 + number)
        assert record["failure"] is None
        _assert_clean_and_usable(site, disk)
    assert disk.runs() == []
