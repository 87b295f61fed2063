"""Every run is on record, whatever becomes of it, and no backup fails for its record."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kernel.backups import only, wait_until
from tests.kernel.disks import sh
from tests.kernel.promptness import within

if TYPE_CHECKING:
    import subprocess

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena

pytest_plugins = ["tests.kernel.backup_fixtures"]

PHASES = ["planning", "freezing", "backing-up", "cleaning-up", "retention"]


def _history(site: Site, *arguments: str) -> list[dict[str, Any]]:
    done = site.run("history", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _status(site: Site) -> tuple[int, dict[str, Any]]:
    """Return the exit status and what is said of the job `data`."""
    done = site.run("status", "--json")
    job: dict[str, Any] = json.loads(done.stdout)["jobs"][0]
    return done.returncode, job


def _database(site: Site) -> str:
    return site.path("state/history.sqlite")


def test_a_run_is_on_record_as_it_was_printed(site: Site) -> None:
    """Field by field, in a file that is root's alone."""
    site.job["keep"] = {"last": 1}
    record = site.succeed()
    assert _history(site) == [record]
    assert [phase["name"] for phase in record["phases"]] == PHASES
    assert [phase["repository"] for phase in record["phases"]] == ["", "", "main", "", "main"]
    assert sum(phase["seconds"] for phase in record["phases"]) > 0
    assert os.stat(_database(site)).st_mode & 0o7777 == 0o600
    assert os.stat(site.path("state")).st_mode & 0o7777 == 0o700


def _kill(process: subprocess.Popen[str], site: Site) -> None:
    process.kill()
    process.wait()
    pid = site.calls("backup")[-1].pid
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    site.let_go()
    site.install_restic()


def test_a_run_that_was_killed_is_interrupted(site: Site) -> None:
    """While it lives it is running; dead, it is bad at once; the next run changes nothing of it."""
    site.succeed()
    with site.paused("backup") as process:
        code, job = _status(site)
        assert (code, job["outcome"]) == (0, "running")
        assert job["last"]["phases"][-1]["name"] == "backing-up"
        assert job["last"]["phases"][-1]["seconds"] is None
        assert "running: backing-up main" in site.run("status").stdout
        _kill(process, site)
    code, job = _status(site)
    assert (code, job["outcome"]) == (1, "interrupted")
    assert job["last_ok"] == _history(site)[0]["started"]
    assert "interrupted while backing-up main" in site.run("status").stdout
    site.succeed()
    outcomes = [one["outcome"] for one in _history(site)]
    assert outcomes == ["ok", "interrupted", "ok"]
    died = _history(site)[1]
    assert (died["finished"], died["exit_status"]) == (None, None)
    assert _status(site)[0] == 0


def test_a_skipped_run_is_on_record_and_changes_no_job(site: Site) -> None:
    """The run that it would have disturbed goes on, and is what `status` speaks of."""
    with site.paused("backup") as process:
        assert site.back_up()["outcome"] == "skipped"
        assert _status(site)[1]["outcome"] == "running"
        site.let_go()
        assert process.wait() == 0
    assert [one["outcome"] for one in _history(site)] == ["ok", "skipped"]
    assert _status(site)[1]["outcome"] == "ok"


def test_two_jobs_at_once_are_both_on_record(site: Site) -> None:
    """Neither waits for the other's record, nor loses its own."""
    site.jobs["second"] = dict(site.job)
    with site.started("backup", "data") as one, site.started("backup", "second") as other:
        assert (one.wait(), other.wait()) == (0, 0)
    assert sorted(run["job"] for run in _history(site)) == ["data", "second"]
    assert [run["job"] for run in _history(site, "second")] == ["second"]


def _assert_backed_up_with_warning(site: Site, *words: str) -> None:
    """Expect a good backup, and one warning that says what could not be recorded."""
    with within(15):
        record = site.succeed()
    (warning,) = (text for text in record["warnings"] if "cannot be locked" not in text)
    assert [word for word in ("history", *words) if word not in warning] == [], warning


def _fill(directory: str) -> None:
    """Leave no room on a disk."""
    with open(f"{directory}/filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_state_disk(site: Site, arena: Arena) -> None:
    """The backup is made and says so; what was on record stays readable, and is never a lie."""
    state = site.directories["state-directory"] = arena.directory()
    sh("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", state)
    site.succeed()
    _fill(state)
    _assert_backed_up_with_warning(site, "No space left")
    assert [one["outcome"] for one in _history(site)] == ["ok"]
    os.unlink(f"{state}/filler")
    assert site.succeed()["warnings"] == []


def test_a_state_disk_that_fills_up_during_a_run(site: Site, arena: Arena) -> None:
    """What is printed says what is not on record, where the run never ended; the next one is."""
    state = site.directories["state-directory"] = arena.directory()
    sh("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", state)
    site.job["keep"] = {"last": 1}
    with site.paused("backup", "--json", at="forget") as process:
        _fill(state)
        site.let_go()
        record = json.loads(process.communicate()[0])
    assert record["outcome"] == "ok"
    assert "No space left" in " ".join(record["warnings"])
    assert [one["outcome"] for one in _history(site)] == ["interrupted"]
    os.unlink(f"{state}/filler")
    site.succeed()
    assert [one["outcome"] for one in _history(site)] == ["interrupted", "ok"]


def test_a_read_only_state_disk(site: Site, arena: Arena) -> None:
    """Nothing can be written there, and the backup is made."""
    state = site.directories["state-directory"] = arena.directory()
    sh("mount", "-t", "tmpfs", "-o", "ro,mode=0700", "tmpfs", state)
    _assert_backed_up_with_warning(site, "Read-only file system")
    assert _history(site) == []


def test_a_disk_that_has_become_read_only(site: Site, arena: Arena) -> None:
    """What is on record can still be read."""
    state = site.directories["state-directory"] = arena.directory()
    sh("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", state)
    record = site.succeed()
    sh("mount", "-o", "remount,ro", state)
    _assert_backed_up_with_warning(site, "history")
    assert _history(site) == [record]


def test_a_state_directory_that_others_can_write_to(site: Site) -> None:
    """It is not used: what lies there could be anybody's."""
    os.mkdir(site.path("state"))
    os.chmod(site.path("state"), 0o720)
    _assert_backed_up_with_warning(site, "not safe")
    assert os.listdir(site.path("state")) == ["data.lock"]  # which is root's own file


def test_a_corrupt_history_is_set_aside(site: Site) -> None:
    """A new one begins with this run, and the old file is kept for who wants to save it."""
    os.mkdir(site.path("state"), 0o700)
    with open(_database(site), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(b"this is no database" * 100)
    _assert_backed_up_with_warning(site, "corrupt", "history.sqlite.corrupt-")
    assert len(_history(site)) == 1
    (aside,) = [name for name in os.listdir(site.path("state")) if ".corrupt-" in name]
    assert os.path.getsize(site.path(f"state/{aside}")) == 1900


def test_a_failed_check_is_seen_until_one_is_well(site: Site) -> None:
    """A unit that fails at night is seen in the morning, though the backups are ok."""
    site.succeed()
    data = [path for path in Path(site.path("main/data")).rglob("*") if path.is_file()]
    aside = site.path("aside")
    os.rename(data[0], aside)
    assert site.run("maintain", "check").returncode == 1
    code, job = _status(site)
    (failed,) = job["failed_maintenance"]
    assert (code, job["outcome"]) == (1, "ok")
    assert (failed["kind"], failed["repository"]) == ("check", "main")
    for command in ("status", "doctor"):
        said = site.run(command).stdout
        assert "check of main failed, " in said
        assert failed["failure"]["message"] in said
    assert site.run("maintain", "prune").returncode == 1
    os.rename(aside, data[0])
    assert [site.run("maintain", kind).returncode for kind in ("prune", "check")] == [0, 0]
    code, job = _status(site)
    assert (code, job["failed_maintenance"]) == (0, [])


def test_a_check_that_could_not_begin_has_failed(site: Site) -> None:
    """Its secrets cannot be read, say: what is not checked is not known to be well."""
    site.succeed()
    environment = site.path("environment")
    site.add_repository("other")
    site.job["repositories"] = ["main", "other"]
    site.repositories["other"]["environment-file"] = environment
    assert site.run("maintain", "check").returncode == 78
    _, job = _status(site)
    found = [(one["repository"], one["failure"]["message"]) for one in job["failed_maintenance"]]
    why = f"environment-file {environment} cannot be read: No such file or directory"
    assert found == [("main", why), ("other", why)]
    Path(environment).write_text("A=b\n", encoding="utf-8")
    assert site.run("maintain", "check").returncode == 0
    assert _status(site)[1]["failed_maintenance"] == []


def test_a_job_that_cannot_be_checked_is_not_in_the_way_of_the_next(site: Site) -> None:
    """Its error is told with its name, and the exit status is the worst."""
    site.succeed()
    site.jobs["beside"] = {**site.job, "run-as": "nobody-of-that-name"}
    site.jobs = {name: site.jobs[name] for name in ("beside", "data")}
    done = site.run("maintain", "check")
    assert (done.returncode, done.stdout) == (78, "data: check of main: ok\n")
    assert "error: beside: jobs.beside.run-as: there is no user nobody-of-that-name" in done.stderr


def test_a_check_that_a_run_is_in_the_way_of_is_on_no_record(site: Site) -> None:
    """It can be made when that has ended."""
    with site.paused("backup") as first:
        assert site.run("maintain", "check").returncode == 75
        assert _status(site)[1]["failed_maintenance"] == []
        site.let_go()
        first.communicate()


def test_a_backup_that_prunes_makes_good_for_a_prune_that_failed(site: Site) -> None:
    """Only where it has removed something: restic prunes nothing otherwise."""
    site.succeed()
    os.rename(site.path("password"), site.path("aside"))
    assert site.run("maintain", "prune").returncode == 1
    os.rename(site.path("aside"), site.path("password"))
    site.job.update(keep={"last": 2}, prune={})
    site.succeed()
    assert _status(site)[1]["failed_maintenance"] != []
    site.succeed()
    code, job = _status(site)
    assert (code, job["failed_maintenance"]) == (0, [])


def test_a_failed_maintenance_of_a_repository_that_is_gone(site: Site) -> None:
    """What the job does not write to any more says nothing of it."""
    site.add_repository("old")
    site.job["repositories"] = ["main", "old"]
    site.succeed()
    shutil.rmtree(site.path("old"))
    assert site.run("maintain", "check").returncode == 1
    assert _status(site)[0] == 1
    site.job["repositories"] = ["main"]
    assert _status(site)[0] == 0


def test_a_damaged_row(site: Site) -> None:
    """It is named by all who read it, and a backup that reads it for its metrics is one."""
    site.succeed()
    with closing(sqlite3.connect(_database(site), isolation_level=None)) as other:
        other.execute("UPDATE runs SET record = substr(record, 9)")
    for command in ("status", "history", "doctor"):
        done = site.run(command)
        said = done.stdout + done.stderr
        assert (done.returncode, "Traceback" in said) == (1, False), said
        assert f"cannot read the history {_database(site)}: what it says of the run" in said
        assert "move it away" in said
    site.directories["metrics-directory"] = site.path("tmp")
    _assert_backed_up_with_warning(site, _database(site), "damaged")


def test_a_history_that_somebody_has_locked(site: Site) -> None:
    """The backup does not wait for it longer than some seconds."""
    site.succeed()
    with closing(sqlite3.connect(_database(site), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        _assert_backed_up_with_warning(site, "locked")


def _without_most(site: Site) -> None:
    for name in range(1, 10):
        os.unlink(f"{site.source}/{name}")


def test_a_suspiciously_small_backup_waits_with_the_retention(site: Site) -> None:
    """With every run, until somebody accepts the size; the backup itself is ok."""
    site.job["keep"] = {"last": 1}
    for name in range(10):
        site.write(str(name), os.urandom(1000))
    site.succeed()
    _without_most(site)
    for count in (2, 3):
        record = site.succeed()
        (warning,) = (text for text in record["warnings"] if "cannot be locked" not in text)
        assert "suspiciously small, and its retention waits" in warning
        assert "2 files where the last one had 11" in warning
        assert (only(record)["suspicious"], only(record)["retention"]) == (True, None)
        assert len(site.snapshots()) == count
    record = site.succeed("--accept-size")
    assert (record["warnings"], only(record)["retention"]["removed"]) == ([], 3)
    record = site.succeed()
    assert (record["warnings"], only(record)["suspicious"]) == ([], False)


def test_a_backup_that_is_large_again_is_no_suspect(site: Site) -> None:
    """What was missing is back: nothing has to be accepted."""
    site.job["keep"] = {"last": 1}
    for name in range(10):
        site.write(str(name))
    site.succeed()
    _without_most(site)
    assert only(site.succeed())["suspicious"] is True
    for name in range(10):
        site.write(str(name))
    assert only(site.succeed())["retention"]["outcome"] == "ok"


def _leftovers(site: Site) -> set[str]:
    """Return the dead runs, also those of others who use this machine."""
    shown = json.loads(site.run("status", "--json").stdout)
    return {leftover["run"] for leftover in shown["leftovers"]}


def _timer(next_start: str, last_start: str) -> str:
    """Return what systemctl says of the job's timer."""
    return (
        f"echo NextElapseUSecRealtime={next_start}; echo LastTriggerUSec={last_start}\n"
        "echo Id=holdstill@data.timer; echo ActiveState=active"
    )


def test_status_knows_the_timer(site: Site) -> None:
    """When it starts the job next, and that nothing came of its last start."""
    site.succeed()
    site.install_systemctl(_timer("Fri 2100-01-01 03:00:00 UTC", "n/a"))
    code, job = _status(site)
    assert (code, job["next_start"]) == (0, "2100-01-01T03:00:00.000000Z")
    assert " d\n" in site.run("status").stdout.partition("in ")[2]
    site.install_systemctl(_timer("Sat 2000-01-01 03:00:00 UTC", "n/a"))
    code, job = _status(site)
    assert (code, job["overdue"]) == (1, "its timer should have started it")
    assert "data: overdue: its timer" in site.run("status").stdout


def test_leftovers_are_shown_until_they_are_swept(site: Site) -> None:
    """With the run and the device; only root sees them."""
    with site.paused("backup") as process:
        _kill(process, site)
    (died,) = _history(site)
    assert died["run_id"] in _leftovers(site)
    assert f"the dead run {died['run_id']}" in site.run("status").stdout
    powerless = site.run("status", wrapper=["setpriv", "--bounding-set=-sys_admin"])
    assert (powerless.returncode, "leftovers: ?" in powerless.stdout) == (1, True)
    assert site.run("sweep").returncode == 0
    assert died["run_id"] not in _leftovers(site)
