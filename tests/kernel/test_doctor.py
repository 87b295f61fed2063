"""`holdstill doctor`: what would make a run fail is named, with its remedy, and nothing stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel import refusing
from tests.kernel.backups import RESTICS, each_restic, host_mounts, timestamps, wait_until
from tests.kernel.disks import locking, sh, swapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

USER = "nobody"
IN_VIEW = 'version ] || [ -z "$RESTIC_REPOSITORY"'
"""The restic that a dry freeze starts, in the words of a test; others know no repository then."""
MACHINE = {"clock", "leftovers", "timer"}
"""Checks whose outcome depends on the machine: its NTP, and whatever else runs on it."""


class Diagnosis:
    """What `doctor` has said."""

    def __init__(self, site: Site, *arguments: str, wrapper: tuple[str, ...] = ()) -> None:
        """Ask it."""
        done = site.run("doctor", "--json", *arguments, wrapper=wrapper)
        assert done.stderr == "", done.stderr
        said = json.loads(done.stdout)
        self.status = done.returncode
        assert said["exit_status"] == self.status
        self.findings: list[dict[str, Any]] = said["findings"]

    def of(self, check: str, subject: str | None = None) -> list[dict[str, Any]]:
        """Return the findings of one check."""
        found = [one for one in self.findings if one["check"] == check]
        return [one for one in found if subject is None or one["subject"] == subject]

    def only(self, check: str, subject: str | None = None) -> tuple[str, str, str]:
        """Return level, text and remedy of a check that has one finding."""
        (found,) = self.of(check, subject)
        return found["level"], found["text"], found["remedy"]

    def bad(self) -> list[tuple[str, str]]:
        """Return level and check of what is not ok, and that no machine is to blame for."""
        return [
            (one["level"], one["check"])
            for one in self.findings
            if one["level"] != "ok" and one["check"] not in MACHINE
        ]


def _contents(top: str) -> dict[str, str]:
    """Return a digest of each file below a directory."""
    paths = [os.path.join(d, name) for d, _, names in os.walk(top) for name in names]
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def test_all_is_well(site: Site, disk: Disk) -> None:
    """A line for each check, all ok; nothing of it stays on any disk or in any record."""
    site.succeed()
    mounts, times = host_mounts(), timestamps(site.source)
    before = {name: _contents(site.path(name)) for name in ("main", "state", "cache", "runtime")}
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (0, [])
    subjects = [f"{one['check']} {one['subject']}".strip() for one in found.findings]
    assert list(dict.fromkeys(subjects)) == [
        "configuration",
        "privileges",
        "kernel",
        "clock",
        "directories",
        "restic",
        "secrets main",
        "repository main",
        "leftovers",
        "records data",
        "timer data",
        f"space {site.source}",
        "job data",
    ]
    assert (host_mounts(), timestamps(site.source)) == (mounts, times)
    assert {name: _contents(site.path(name)) for name in before} == before
    assert (disk.runs(), disk.snapshots()) == ([], [])


def test_a_machine_that_never_ran_a_job(site: Site, disk: Disk) -> None:
    """Nothing is made for the sake of looking, but the note of restic's version."""
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (0, [])
    assert found.only("records", "data")[1] == "no run yet"
    assert not os.path.exists(site.path("state"))
    assert not os.path.exists(site.path("runtime"))
    assert os.listdir(site.path("cache")) == ["restic-versions.json"]
    assert disk.runs() == []


def test_lines_for_people(site: Site) -> None:
    """The level first, the remedy on a line of its own below, no colour where nobody looks."""
    site.repositories["main"]["url"] = site.path("nowhere")
    done = site.run("doctor")
    lines = done.stdout.splitlines()
    (row,) = (i for i, line in enumerate(lines) if line.startswith("error "))
    assert lines[row].startswith("error    repository main       there is no repository: ")
    assert lines[row + 1].startswith("           create it: holdstill restic data -- init")
    assert lines[0].startswith(f"ok       configuration         {site.path('config.toml')}: ")
    assert (done.returncode, done.stderr, "\x1b" in done.stdout) == (1, "", False)


@each_restic
def test_a_wrong_password(site: Site) -> None:
    """Said by restic's own words, whatever its version."""
    Path(site.path("password")).write_text("wrong", encoding="utf-8")
    found = Diagnosis(site)
    assert found.status == 1
    level, text, remedy = found.only("repository", "main")
    assert (level, text) == ("error", "wrong password")
    assert "password-file" in remedy
    assert found.only("job", "data")[0] == "ok"


@each_restic
def test_a_repository_that_is_not_there(site: Site) -> None:
    """The remedy makes it."""
    site.repositories["main"]["url"] = site.path("nowhere")
    found = Diagnosis(site)
    assert found.status == 1
    level, text, remedy = found.only("repository", "main")
    assert (level, text.startswith("there is no repository")) == ("error", True)
    assert remedy.startswith("create it: holdstill restic data -- init")
    assert not os.path.exists(site.path("nowhere"))


def test_a_repository_that_cannot_be_reached(site: Site) -> None:
    """No host answers: an error that says so, and the job is looked at all the same."""
    site.repositories["main"]["url"] = "rest:http://127.0.0.1:9/"
    found = Diagnosis(site, "--timeout", "5s")
    assert found.status == 1
    level, text, remedy = found.only("repository", "main")
    assert level == "error"
    assert text.startswith(("cannot be reached", "no answer in time"))
    assert "cat config" in remedy
    assert found.only("job", "data")[0] == "ok"


def test_repositories_are_asked_once(site: Site) -> None:
    """However many jobs share them; restic takes no lock."""
    site.add_repository("second")
    site.jobs["more"] = {**site.job, "repositories": ["main", "second"]}
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (0, [])
    assert [one["subject"] for one in found.of("repository")] == ["main", "second"]
    asked = [call for call in site.calls() if "cat" in call.argv]
    assert [call.environment["RESTIC_REPOSITORY"] for call in asked] == [
        site.path("main"),
        site.path("second"),
    ]
    for call in site.calls():
        assert {"--no-lock", "--no-cache"} <= {*call.argv} or call.argv == ("version",)


def test_only_the_jobs_that_are_named(site: Site) -> None:
    """Nothing is said of another one, nor of its repositories."""
    site.repositories["other"] = {**site.repositories["main"], "url": site.path("nowhere")}
    site.jobs["other"] = {**site.job, "repositories": ["other"]}
    assert Diagnosis(site, "data").bad() == []
    assert Diagnosis(site).status == 1
    assert site.run("doctor", "none").returncode == 2


def test_a_repository_that_hangs(site: Site) -> None:
    """Given up in time, and named; nothing that it has started goes on."""
    site.install_restic(before='case "$*" in *cat*) sleep 1000 & sleep 1000; esac')
    began = time.monotonic()
    found = Diagnosis(site, "--timeout", "3s")
    assert time.monotonic() - began < 55
    assert found.status == 1
    assert found.only("repository", "main")[:2] == ("error", "no answer in time")


def test_another_holdstill_in_the_staging_directory(site: Site, disk: Disk) -> None:
    """One that stands still there is named by each who waits for it, with what to do."""
    run = Path(disk.staging(), "20260101T000000Z-abcdef")
    run.mkdir()
    with locking(disk.staging()):
        found = Diagnosis(site, "--timeout", "3s")
    why = f"stopped while another holdstill had locked .holdstill on {disk.device}: "
    remedy = "let it go on (kill -CONT), or end it"
    (left,) = [one["text"] for one in found.of("leftovers") if why in one["text"]]
    assert left.endswith(f"(process {os.getpid()}); {remedy}")
    (failed,) = [one for one in found.of("job") if one["level"] == "error"]
    assert (failed["text"].startswith(why), failed["remedy"]) == (True, remedy)
    run.rmdir()


def test_a_lock_of_a_dead_restic(site: Site) -> None:
    """Named with its process and the way to remove it, and left there."""
    site.slow_down()
    with site.started("restic", "data", "--", "backup", site.source) as process:
        wait_until(site.writing, 60)
        os.kill(site.calls("backup")[0].pid, signal.SIGKILL)
        process.wait()
    locks = os.listdir(site.path("main/locks"))
    assert locks != []
    site.install_restic()
    found = Diagnosis(site)
    level, text, remedy = found.only("repository", "main")
    assert (found.status, level) == (0, "warning")
    assert "a lock that looks stale: of process " in text
    assert remedy == "holdstill restic data -- unlock"
    assert os.listdir(site.path("main/locks")) == locks
    assert site.run("restic", "data", "--", "unlock").returncode == 0
    assert Diagnosis(site).bad() == []


def test_a_repository_that_the_user_may_not_write(site: Site) -> None:
    """It can be read by its user, and tonight nothing could be written."""
    sh("chmod", "1777", site.path("tmp"))
    site.job["run-as"] = USER
    found = Diagnosis(site)
    level, text, remedy = found.only("repository", "main")
    assert (found.status, level) == (1, "error")
    assert text == f"restic may not write to {site.path('main/data')}"
    assert "run-as" in remedy
    sh("chown", "-R", USER, site.path("main"))
    assert Diagnosis(site).bad() == []


def test_a_password_that_only_the_unit_has(site: Site) -> None:
    """Not an error: it is said what was not looked at, and how it would be."""
    site.repositories["main"] = {"url": site.path("main"), "password-credential": "nas"}
    found = Diagnosis(site)
    assert found.status == 0
    for check, subject in (("repository", "main"), ("job", "data")):
        level, text, remedy = found.only(check, subject)
        assert (level, "credential" in text) == ("warning", True)
        assert "LoadCredential=nas:" in remedy


def test_secrets_that_others_can_read_or_change(site: Site) -> None:
    """To read is a warning; to change, an error; the remedies are commands."""
    password = site.path("password")
    os.chmod(password, 0o644)
    found = Diagnosis(site)
    text = f"{password} can be read by every user"
    assert found.only("secrets", "main") == ("warning", text, f"chmod o= {password}")
    os.chmod(password, 0o620)
    found = Diagnosis(site)
    level, text, remedy = found.only("secrets", "main")
    assert (found.status, level, remedy) == (
        1,
        "error",
        f"chown root {password}; chmod go-w {password}",
    )
    assert "can be changed by others" in text
    sh("sh", "-c", remedy)
    assert Diagnosis(site).bad() == []


def test_an_environment_file_of_somebody_else(site: Site) -> None:
    """Whoever owns it could let root run anything."""
    file = Path(site.path("variables"))
    file.write_text("A=b\n", encoding="utf-8")
    file.chmod(0o600)
    os.chown(file, 12345, 0)
    site.repositories["main"]["environment-file"] = str(file)
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (1, [("error", "secrets")])
    assert "owner 12345" in found.only("secrets")[1]


def test_a_password_file_that_is_missing_or_empty(site: Site) -> None:
    """Named once as what it is; what cannot be tried for it says so."""
    password = site.path("password")
    Path(password).write_bytes(b"")
    found = Diagnosis(site)
    assert found.only("secrets")[:2] == ("error", f"{password} is empty")
    os.unlink(password)
    found = Diagnosis(site)
    assert found.status == 78
    assert found.only("secrets")[:2] == ("error", f"{password}: No such file or directory")
    assert "password file cannot be read" in found.only("job")[1]


def test_a_cache_that_cannot_be_written(site: Site, arena: Arena) -> None:
    """A warning: a run is slow for it."""
    where = arena.other("tmpfs")
    sh("mount", "-o", "remount,ro", where)
    site.directories["cache-directory"] = where
    found = Diagnosis(site)
    assert (found.status, found.bad()[0]) == (0, ("warning", "directories"))
    _, text, remedy = found.only("directories")
    assert text.startswith(f"{where} cannot be written to: Read-only file system")
    assert "cache-directory" in remedy


def test_directories_that_no_lock_can_lie_in(site: Site, arena: Arena) -> None:
    """Most of the three are needed: an error, as a run would end with one."""
    where = arena.other("tmpfs")
    site.directories |= {
        "cache-directory": f"{where}/cache",
        "state-directory": f"{where}/state",
    }
    sh("mount", "-o", "remount,ro", where)
    found = Diagnosis(site)
    assert found.status == 1
    assert "jobs cannot be locked" in found.of("directories")[0]["text"]
    assert "cannot be locked" in site.back_up()["failure"]["message"]


def test_no_room_for_temporary_files(site: Site, arena: Arena) -> None:
    """A run would fail in the middle."""
    site.environment["TMPDIR"] = arena.other("tmpfs")
    sh("mount", "-o", "remount,size=1m", site.environment["TMPDIR"])
    found = Diagnosis(site)
    level, text, _ = found.only("directories")
    assert (level, "restic's TMPDIR, has 1 MiB left" in text) == ("warning", True)


def test_a_source_that_is_not_on_btrfs(site: Site, arena: Arena) -> None:
    """The plan's own words."""
    where = arena.other("tmpfs")
    site.job["paths"] = [where]
    found = Diagnosis(site)
    level, text, remedy = found.only("job")
    assert (found.status, level) == (1, "error")
    assert text.startswith(f"{where} is on tmpfs")
    assert remedy == "only paths on btrfs can be frozen"


@pytest.mark.usefixtures("swap_alone")
def test_an_active_swap_file(site: Site) -> None:
    """Named, with the ways out; off, all is well."""
    path = f"{site.source}/swap"
    with swapping(path):
        found = Diagnosis(site)
    level, text, remedy = found.only("job")
    assert (found.status, level) == (1, "error")
    assert text.startswith(f"{path}: an active swap file")
    assert f"swapoff {path}" in remedy
    assert Diagnosis(site).bad() == []


def test_several_subvolumes(site: Site) -> None:
    """How simultaneous they are is said, and what is left out."""
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    sh("btrfs", "subvolume", "create", f"{site.source}/scratch")
    site.job["nested-exclude"] = [f"{site.source}/scratch"]
    level, text, _ = Diagnosis(site).only("job")
    assert level == "ok"
    assert "2 snapshots (" in text
    assert text.endswith("1 left out (holdstill plan)")


def test_file_systems_that_share_no_instant(site: Site, arena: Arena) -> None:
    """A warning; with require-one-instant, the error that a run would end with."""
    other = arena.disk(256)
    site.job["paths"] = [site.source, other.source()]
    found = Diagnosis(site)
    assert found.status == 0
    assert {one["level"] for one in found.of("job")} == {"ok", "warning"}
    assert len(found.of("space")) == 2
    site.job["require-one-instant"] = True
    found = Diagnosis(site)
    assert found.status == 1
    errors = [one["text"] for one in found.of("job") if one["level"] == "error"]
    assert errors[0].startswith("the subvolumes were not frozen at one instant")
    assert other.runs() == []


def _fill(directory: str, size: int) -> None:
    with suppress(OSError):
        for number in range(1 << 20):
            Path(directory, f"filler-{number}").write_bytes(os.urandom(size))
            if number % 1000 == 0:
                sh("sync", "-f", directory)


def test_a_file_system_that_is_full(site: Site, arena: Arena) -> None:
    """Of data: a warning, for whoever overwrites a file meanwhile."""
    disk = arena.disk(256)
    site.job["paths"] = [source := disk.source()]
    assert Diagnosis(site).bad() == []
    _fill(source, 8 << 20)
    _fill(source, 64 << 10)
    found = Diagnosis(site)
    level, text, remedy = found.only("space")
    assert (found.status, level) == (0, "warning")
    assert "while a snapshot exists" in text
    assert f"btrfs filesystem usage {source}" in remedy


def test_a_file_system_without_room_for_metadata(site: Site, arena: Arena) -> None:
    """No snapshot could be taken, though df shows free space: an error."""
    disk = arena.disk(128)
    site.job["paths"] = [source := disk.source()]
    sh("fallocate", "-l", "40M", f"{source}/room")
    _fill(source, 2000)
    os.unlink(f"{source}/room")
    found = Diagnosis(site)
    assert found.status == 1
    level, text, remedy = found.only("space")
    assert level == "error"
    assert "a snapshot needs room for metadata" in text
    assert f"btrfs balance start -dusage=10 {source}" in remedy


def test_what_a_dead_run_has_left(site: Site, disk: Disk) -> None:
    """Reported, and left to the sweep that the remedy names."""
    with site.paused("backup") as process:
        process.kill()
        process.wait()
        pid = site.calls("backup")[0].pid
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    site.let_go()
    site.install_restic()
    (run,) = disk.runs()
    found = Diagnosis(site)
    ours = [one for one in found.of("leftovers") if run in one["text"]]
    assert [(one["level"], one["remedy"]) for one in ours] == [("warning", "holdstill sweep")]
    assert f"1 snapshot of the dead run {run}" in ours[0]["text"]
    level, text, _ = found.only("records", "data")
    assert (level, text.startswith("interrupted, ")) == ("warning", True)
    assert disk.runs() == [run]
    assert site.run("sweep").returncode == 0
    assert run not in str(Diagnosis(site).of("leftovers"))


def test_a_run_that_failed(site: Site) -> None:
    """Its reason and its remedy are said again."""
    site.repositories["main"]["url"] = site.path("nowhere")
    site.back_up()
    level, text, remedy = Diagnosis(site).only("records", "data")
    assert (level, text.startswith("failed, ")) == ("warning", True)
    assert "there is no repository" in text
    assert "holdstill restic data -- init" in remedy


def _history(site: Site) -> str:
    return site.path("state/history.sqlite")


@pytest.mark.parametrize("page", [1, 5])
def test_a_history_that_is_corrupt(site: Site, page: int) -> None:
    """Also where no query looks (an index that serves to forget); the file stays as it is."""
    site.succeed()
    with open(_history(site), "r+b") as file:
        file.seek(4096 * page)
        file.write(os.urandom(4096))
    before = Path(_history(site)).read_bytes()
    found = Diagnosis(site)
    level, text, remedy = found.only("records")
    assert (found.status, level) == (1, "error")
    assert "cannot read the history" in text
    assert "begins a new one" in remedy
    assert Path(_history(site)).read_bytes() == before


def test_a_clock_that_went_back(site: Site) -> None:
    """The last run on record began in the future."""
    site.succeed()
    with closing(sqlite3.connect(_history(site))) as database:
        database.execute("UPDATE runs SET started = '2100-01-01T00:00:00.000000Z'")
        database.commit()
    found = Diagnosis(site)
    level, text, remedy = found.only("clock")
    assert (found.status, level) == (1, "error")
    assert text.startswith("the clock is wrong: ")
    assert "timedatectl" in remedy


TIMER = """\
cat <<END
NextElapseUSecRealtime={next}
LastTriggerUSec=
Id=holdstill@data.timer
ActiveState={active}
UnitFileState={enabled}
END"""


@pytest.mark.parametrize(
    ("active", "following", "enabled", "level", "text", "remedy"),
    [
        ("active", "Fri 2100-01-01 03:00:00 UTC", "enabled", "ok", "next start 2100-01-01", ""),
        ("active", "Fri 2100-01-01 03:00:00 UTC", "disabled", "warning", "not enabled", "enable"),
        ("active", "", "enabled", "warning", "never starts it", "systemctl cat"),
        ("inactive", "", "disabled", "warning", "no active timer", "holdstill schedule install"),
    ],
)
def test_what_systemd_says_of_the_timer(  # noqa: PLR0913, PLR0917 - a row of the table
    site: Site, active: str, following: str, enabled: str, level: str, text: str, remedy: str
) -> None:
    """A program in systemctl's place prints what systemd would."""
    site.job["schedule"] = "daily"
    script = TIMER.format(active=active, next=following, enabled=enabled)
    site.install_systemctl(script)
    found = Diagnosis(site).only("timer", "data")
    assert found[0] == level
    assert text in found[1]
    assert remedy in found[2]


def test_a_job_that_nothing_starts(site: Site) -> None:
    """No schedule, no timer: cron may, which cannot be seen."""
    site.install_systemctl("exit 1")
    level, text, remedy = Diagnosis(site).only("timer", "data")
    assert (level, text.startswith("no schedule and no timer")) == ("warning", True)
    assert remedy.endswith("holdstill backup data")


def test_a_restic_that_is_too_old(site: Site) -> None:
    """A program in restic's place says that it is 0.9: one error, and what was not tried for it."""
    site.install("#!/bin/sh\necho restic 0.9.6\n")
    found = Diagnosis(site)
    assert found.status == 1
    level, text, remedy = found.only("restic")
    assert (level, "0.9.6" in text, "too old" in text) == ("error", True, True)
    assert "install restic" in remedy
    for check in ("repository", "job"):
        assert found.only(check)[:2] == ("warning", f"not tried, as named above: {text}")


def test_no_restic_at_all(site: Site) -> None:
    """As a timer's PATH may have it."""
    os.unlink(site.path("bin/restic"))
    site.environment["PATH"] = site.path("bin")
    found = Diagnosis(site)
    assert (found.status, found.only("restic")[1]) == (1, "restic is not in PATH")


@pytest.mark.parametrize("restic_path", [next(iter(RESTICS.values()))])
def test_what_an_old_restic_lacks(site: Site) -> None:
    """A warning; it works."""
    level, text, remedy = Diagnosis(site).only("restic")
    assert (level, remedy) == ("warning", "install restic 0.17 or newer")
    assert "does not wait for locks (0.16)" in text


def test_a_restic_that_does_not_start_in_the_view(site: Site, disk: Disk) -> None:
    """Because of what the repository's environment file says, say: seen by starting it there."""
    site.install_restic(before=f"[ $1 != {IN_VIEW} ] || {{ echo no way >&2; exit 9; }}")
    said = Diagnosis(site)
    level, text, _ = said.only("job")
    assert (said.status, level) == (1, "error")
    assert text == "restic does not start in the view (status 9): 'no way'"
    assert disk.runs() == []


def test_a_configuration_with_problems(site: Site) -> None:
    """Each is a line; what needs no configuration is looked at all the same: 78."""
    site.job["keep"] = {"daily": -1}
    site.job["nonsense"] = 1
    found = Diagnosis(site)
    assert found.status == 78
    texts = [one["text"].partition(":")[0] for one in found.of("configuration")]
    assert sorted(texts) == ["jobs.data.keep.daily", "jobs.data.nonsense"]
    assert {one["check"] for one in found.findings} == {"configuration", "privileges", "kernel"}


def test_a_configuration_that_others_can_change(site: Site) -> None:
    """It can name commands that root runs."""
    site.configure()
    os.chmod(site.path("config.toml"), 0o664)
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (1, [("error", "configuration")])


def test_an_exclude_file_that_is_missing(site: Site) -> None:
    """A run would fail over it."""
    site.job["exclude-files"] = [site.path("nowhere")]
    found = Diagnosis(site)
    assert (found.status, found.bad()) == (1, [("error", "configuration")])
    assert "exclude-files[0]" in found.only("configuration")[1]


def test_an_unknown_user(site: Site) -> None:
    """Named once."""
    site.job["run-as"] = "no-such-user"
    found = Diagnosis(site)
    assert found.status == 1
    assert found.only("configuration")[:2] == (
        "error",
        "jobs.data.run-as: there is no user no-such-user",
    )
    assert found.only("job")[0] == "warning"


@pytest.mark.parametrize("capability", ["sys_admin", "setpcap", "dac_read_search,-dac_override"])
def test_without_a_capability(site: Site, capability: str) -> None:
    """77 and its name, though the user is root."""
    sets = f"-{capability}"
    wrapper = ("setpriv", "--bounding-set", sets, "--inh-caps", sets)
    found = Diagnosis(site, wrapper=wrapper)
    assert found.status == 77
    name = capability.partition(",")[0].upper()
    (finding,) = (one for one in found.of("privileges") if one["text"].startswith("CAP_"))
    assert finding["text"].startswith(f"CAP_{name} is missing")
    assert finding["remedy"].endswith(f"CAP_{name}")


def test_without_any_capability(site: Site) -> None:
    """As an ordinary user: one error, and it is said that the rest was not looked at."""
    found = Diagnosis(site, wrapper=("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"))
    assert (found.status, found.bad()) == (77, [("error", "privileges"), ("warning", "privileges")])
    assert {one["remedy"] for one in found.of("privileges")} == {"run it with sudo"}
    assert {one["check"] for one in found.findings} == {"configuration", "privileges", "kernel"}


def test_a_doctor_that_is_killed(site: Site, disk: Disk) -> None:
    """The dry freeze that it has begun ends by itself, and cleans up."""
    with site.paused("doctor", at=IN_VIEW) as process:
        assert len(disk.runs()) == 1
        process.kill()
        process.wait()
        site.let_go()
        wait_until(lambda: disk.runs() == [], 60)
        site.succeed()


def test_where_new_mount_calls_are_refused(site: Site) -> None:
    """As a container's filter does: worth a word, and the dry freeze works."""
    wrapper = refusing.wrapper(errno.EPERM, *refusing.NEW_MOUNT_CALLS)
    found = Diagnosis(site, wrapper=wrapper)
    assert (found.status, found.bad()) == (0, [])
    assert "mounting by mount(2)" in found.only("kernel")[1]


def test_in_a_user_namespace(site: Site) -> None:
    """All capabilities, and none of them over a file system."""
    found = Diagnosis(site, wrapper=("unshare", "--user", "--map-root-user"))
    assert found.status == 77
    assert found.only("privileges")[1].startswith("a user namespace")


def test_while_a_run_is_active(site: Site, disk: Disk) -> None:
    """The job is not tried, which is said; the run ends well."""
    with site.paused("backup") as process:
        found = Diagnosis(site)
        assert found.only("job")[:2] == ("warning", "not tried: a run of it is active")
        assert found.only("records")[1].startswith("running, ")
        assert len(disk.runs()) == 1
        site.let_go()
        assert process.wait() == 0


def test_a_run_that_begins_during_the_dry_freeze(site: Site, disk: Disk) -> None:
    """It is not kept from anything."""
    with site.paused("doctor", at=IN_VIEW) as process:
        assert len(disk.runs()) == 1
        assert site.succeed()["warnings"] == []
        site.let_go()
        assert process.wait() == 0
    assert disk.runs() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_the_dry_freeze(
    site: Site, disk: Disk, number: signal.Signals
) -> None:
    """128+N, and the snapshots are gone."""
    with site.paused("doctor", at=IN_VIEW) as process:
        assert len(disk.runs()) == 1
        process.send_signal(number)
        assert process.wait() == 128 + number
        assert disk.runs() == []


@pytest.fixture
def frozen(arena: Arena) -> Iterator[Disk]:
    """Lend a disk that is thawed at the end, if a test freezes it."""
    disk = arena.disk(256)
    yield disk
    with suppress(OSError):
        sh("fsfreeze", "--unfreeze", disk.top)


def test_a_kernel_that_does_not_answer(site: Site, frozen: Disk) -> None:
    """Each check that waits for it is given up and named; what it began is undone later."""
    site.job["paths"] = [frozen.source()]
    sh("fsfreeze", "--freeze", frozen.top)
    began = time.monotonic()
    found = Diagnosis(site, "--timeout", "1s")
    assert time.monotonic() - began < 55
    assert found.status == 1
    level, text, remedy = found.only("job")
    assert (level, text.startswith("no answer within 1 s: process ")) == ("error", True)
    assert "dmesg" in remedy
    process = int(text.split("process ")[1].split()[0])
    sh("fsfreeze", "--unfreeze", frozen.top)
    wait_until(lambda: not os.path.exists(f"/proc/{process}"), 60)
    assert frozen.runs() == []
