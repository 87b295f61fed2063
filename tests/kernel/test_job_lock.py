"""One run of a job at a time, whoever starts it, wherever its lock can lie, whatever died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import timestamps, wait_until
from tests.kernel.disks import sh
from tests.kernel.promptness import within

if TYPE_CHECKING:
    import subprocess
    from typing import Any

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

KINDS = ("runtime", "state", "cache")
STUCK = """\
#!/bin/sh
[ "$1" != version ] || { echo restic 0.19.1; exit; }
trap "" INT
touch %s
while :; do sleep 0.05; done
"""
"""A program in restic's place that neither ends nor listens."""


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert "Traceback" not in err, err
    record: dict[str, Any] = json.loads(out)
    return record


def _assert_refused(site: Site, *names: str) -> None:
    """Expect a start to end with 75 at once, having named who is in the way and touched nothing."""
    calls, times = len(site.calls()), timestamps(site.source)
    with within(5):
        record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("skipped", 75)
    assert record["failure"]["message"].startswith("another run of job data is active: ")
    assert [name for name in names if name not in record["failure"]["message"]] == []
    assert "--wait" in record["failure"]["remedy"]
    assert record["snapshots"] == record["repositories"] == []
    assert (len(site.calls()), timestamps(site.source)) == (calls, times)


def test_a_second_start_ends_at_once_and_names_the_first(site: Site) -> None:
    """Its process and that of its restic: both keep the lock."""
    with site.paused("backup", "--json") as first:
        (restic,) = site.calls("backup")
        _assert_refused(site, f"(process {first.pid})", f"restic (process {restic.pid})")
        site.let_go()
        assert _read(first)["outcome"] == "ok"


def test_an_orphaned_restic_is_named(site: Site) -> None:
    """The run is dead, and restic alone is what a second start waits for."""
    site.install(STUCK % site.path("ready"))
    with site.started("backup") as process:
        wait_until(lambda: os.path.exists(site.path("ready")))
        process.kill()
        process.wait()
        message = site.back_up()["failure"]["message"]
        assert "restic (process " in message
        assert f"process {process.pid})" not in message
        site.install_restic()
    wait_until(lambda: site.run("backup").returncode == 0)


def test_a_second_start_waits(site: Site, disk: Disk) -> None:
    """It says for whom, begins when the first run has ended, and both are whole."""
    site.write("other")
    with (
        site.paused("backup", "--json") as first,
        site.started("backup", "--json", "--wait", "1m") as second,
    ):
        assert second.stderr is not None
        said = second.stderr.readline()
        assert "waiting for another run to end" in said
        assert f"(process {first.pid})" in said
        assert len(disk.runs()) == 1
        site.let_go()
        records = [_read(first), _read(second)]
    assert [record["outcome"] for record in records] == ["ok", "ok"]
    assert records[1]["frozen_at"] > records[0]["finished"]
    assert [one["repositories"][0]["total_files"] for one in records] == [2, 2]


def test_a_wait_that_was_too_short(site: Site) -> None:
    """75, after the time that was given."""
    with site.paused("backup") as first:
        began = time.monotonic()
        done = site.run("backup", "--wait", "1s")
        assert time.monotonic() - began >= 1
        assert done.returncode == 75
        site.let_go()
        assert first.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_at_once(site: Site, number: signal.Signals) -> None:
    """128+N, with a record; the run that goes on is left alone."""
    with site.paused("backup", "--json") as first:
        with site.started("backup", "--json", "--wait", "10m") as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            with within(2):
                second.send_signal(number)
                record = _read(second)
        assert second.returncode == record["exit_status"] == 128 + number
        assert record["outcome"] == "interrupted"
        site.let_go()
        assert _read(first)["outcome"] == "ok"


@pytest.mark.parametrize("wrong", ["10", "soon", "-1s", ""])
def test_a_duration_that_is_none(site: Site, wrong: str) -> None:
    """2, with an example."""
    done = site.run("backup", f"--wait={wrong}")
    assert done.returncode == 2
    assert "like 90s, 10m or 1h30m" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["file", "nowhere"])
def test_one_directory_that_cannot_be_used(site: Site, kind: str, how: str) -> None:
    """The backup is made, says where its lock is not, and still nobody else runs beside it."""
    if how == "file":
        Path(site.path(kind)).write_text("in the way", encoding="utf-8")
    else:
        site.directories[f"{kind}-directory"] = "/proc/holdstill"
    with site.paused("backup", "--json") as first:
        _assert_refused(site)
        site.let_go()
        record = _read(first)
    assert record["outcome"] == "ok"
    (warning,) = [text for text in record["warnings"] if "cannot be locked" in text]
    assert f"{site.directories[f'{kind}-directory']}/data.lock" in warning


def test_two_directories_that_cannot_be_used(site: Site, disk: Disk) -> None:
    """Two runs could lock one each and never meet: nothing begins, and the error names the keys."""
    for kind in ("runtime", "state"):
        site.directories[f"{kind}-directory"] = f"/proc/{kind}"
    record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert "cannot be locked against a second run" in record["failure"]["message"]
    assert "'runtime-directory', 'state-directory'" in record["failure"]["remedy"]
    assert (site.calls(), disk.runs()) == ([], [])


def test_directories_that_changed_between_two_starts(site: Site) -> None:
    """The first run could not use one, the second cannot use another: they still meet."""
    usable = dict(site.directories)
    site.directories["runtime-directory"] = "/proc/holdstill"
    with site.paused("backup") as first:
        site.directories = {**usable, "state-directory": "/proc/holdstill"}
        _assert_refused(site)
        site.let_go()
        assert first.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_that_is_removed_during_a_run(site: Site, kind: str) -> None:
    """As systemd does with the runtime directory of a unit that ends, and people with caches."""
    with site.paused("backup") as first:
        shutil.rmtree(site.path(kind))
        _assert_refused(site)
        site.let_go()
        assert first.wait() == 0


def test_directories_that_became_read_only(site: Site, disk: Disk) -> None:
    """The files of earlier runs can still be locked: one run at a time, and nothing to warn of."""
    site.succeed()
    top = disk.arena.other("tmpfs")
    for kind in ("runtime", "state"):
        shutil.copytree(site.path(kind), f"{top}/{kind}")
        site.directories[f"{kind}-directory"] = f"{top}/{kind}"
    sh("mount", "-o", "remount,ro", top)
    with site.paused("backup", "--json") as first:
        _assert_refused(site)
        site.let_go()
        assert [text for text in _read(first)["warnings"] if "lock" in text] == []


def test_one_directory_for_everything(site: Site) -> None:
    """A run does not meet itself there, nor through a symlink."""
    os.mkdir(site.path("all"))
    os.symlink(site.path("all"), site.path("link"))
    site.directories = {
        "runtime-directory": site.path("all"),
        "state-directory": site.path("link"),
        "cache-directory": site.path("all"),
    }
    site.succeed()


def test_a_lock_that_another_user_put_there(site: Site) -> None:
    """It is not trusted: it could be held for ever, or be a way to another file."""
    os.mkdir(site.path("runtime"))
    Path(site.path("runtime"), "data.lock").touch()
    os.chown(site.path("runtime/data.lock"), 65534, 65534)
    os.mkdir(site.path("state"))
    (warning,) = site.succeed()["warnings"]
    assert "data.lock cannot be locked: it is not a file of this user" in warning
    os.unlink(site.path("runtime/data.lock"))
    Path(site.path("victim")).touch()
    os.symlink(site.path("victim"), site.path("runtime/data.lock"))
    (warning,) = site.succeed()["warnings"]
    assert "data.lock cannot be locked: Too many levels of symbolic links" in warning


def test_different_jobs_run_side_by_side(site: Site) -> None:
    """On one file system, of one source."""
    site.jobs["second"] = {**site.job, "tags": ["second"]}
    with site.paused("backup", "data") as first:
        site.install_restic()
        site.succeed("second")
        site.let_go()
        assert first.wait() == 0
