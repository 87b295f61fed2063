"""Bad input: a clear error with a remedy, the right exit status, and nothing left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import RESTICS, each_restic, only, version_of
from tests.kernel.disks import swapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.backups import Finished, Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


def _assert_refused(site: Site, done: Finished, status: int, *words: str) -> None:
    """Expect an error in words and a remedy on a line of its own; no backup, no traceback."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    error, _, remedy = done.stderr.partition("holdstill: error: ")[2].partition("\n")
    assert all(word in done.stderr for word in words), done.stderr
    assert error
    assert remedy.startswith("  "), done.stderr
    assert not site.calls("backup")


@pytest.mark.parametrize(
    "command",
    [("backup",), ("backup", "--dry-run"), ("plan",), ("sweep",), ("exec", "/", "--", "true")],
)
def test_not_root(site: Site, command: tuple[str, ...]) -> None:
    """Without CAP_SYS_ADMIN nothing can be frozen, and it is said at once."""
    done = site.run(*command, wrapper=("setpriv", "--bounding-set", "-sys_admin"))
    status = 125 if command[0] == "exec" else 77
    _assert_refused(site, done, status, "CAP_SYS_ADMIN", "run it with sudo")


def _file(site: Site) -> str:
    return site.write("plain")


def _missing(site: Site) -> str:
    return f"{site.source}/nowhere"


def _symlink(site: Site) -> str:
    os.symlink(site.source, site.path("link"))
    return site.path("link")


def _below_a_symlink(site: Site) -> str:
    os.mkdir(f"{site.source}/inner")
    return f"{_symlink(site)}/inner"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_file, "is not a directory"),
        (_missing, "No such file or directory"),
        (_symlink, "leads through a symlink"),
        (_below_a_symlink, "leads through a symlink"),
    ],
)
def test_a_source_that_is_not_a_directory(
    site: Site, make: Callable[[Site], str], words: str
) -> None:
    """The error names it, and what to name instead where that is known."""
    path = make(site)
    site.job["paths"] = [path]
    _assert_refused(site, site.run("backup"), 1, path, words)


@pytest.mark.parametrize("fs_type", ["ext4", "tmpfs", "overlay"])
def test_a_source_that_is_not_on_btrfs(site: Site, disk: Disk, fs_type: str) -> None:
    """It is not read live instead: the error names the file system and where it is mounted."""
    site.job["paths"] = [disk.arena.other(fs_type)]
    _assert_refused(site, site.run("backup"), 1, site.job["paths"][0], f"is on {fs_type}")


def test_one_bad_source_among_good_ones_fails_the_run(site: Site) -> None:
    """A backup of the others would look complete and lack one."""
    site.job["paths"] = [site.source, site.path("nowhere")]
    _assert_refused(site, site.run("backup"), 1, site.path("nowhere"))


def test_a_job_that_does_not_exist(site: Site) -> None:
    """The error lists the jobs that there are; nothing is run."""
    _assert_refused(site, site.run("backup", "data", "dta"), 2, "dta", "configured: data")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("this is not TOML", "not TOML"),
        ('[jobs.data]\npaths = "/x"\nrepositories = ["main"]\n', "jobs.data.paths"),
        ('[jobs.data]\npath = ["/x"]\nrepositories = ["main"]\n', '"paths"'),
        ("", "jobs"),
    ],
)
def test_a_configuration_with_problems(site: Site, content: str, words: str) -> None:
    """78, with the file, the key and what is wrong with it."""
    path = Path(site.path("bad.toml"))
    path.write_text(content, encoding="utf-8")
    done = site.run("backup", "--config", str(path))
    _assert_refused(site, done, 78, str(path), words.replace('"', ""))


def test_a_configuration_that_is_not_there(site: Site) -> None:
    """78, and where it was looked for."""
    done = site.run("--config", site.path("nowhere"), "backup")
    _assert_refused(site, done, 78, site.path("nowhere"), "--config")


def test_no_restic_in_path(site: Site) -> None:
    """The error says what to install."""
    site.environment["PATH"] = site.path("nowhere")
    _assert_refused(site, site.run("backup"), 1, "restic is not in PATH", "install restic")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo restic 0.13.1 compiled with go1.19", "too old"),
        ("echo hello", "is not restic"),
        ("exit 7", "ended with 7"),
        ("kill -SEGV $$", "signal 11"),
        ("head -c 3000000 /dev/urandom", "is not restic"),
    ],
)
def test_a_restic_that_is_none(site: Site, script: str, words: str) -> None:
    """Too old, something else, dying: a script in its place, since no such restic is at hand."""
    site.install(f"#!/bin/sh\n{script}\n")
    _assert_refused(site, site.run("backup"), 1, f"{site.base}/bin/restic", words)


@pytest.mark.parametrize("first_line", ["#!/nowhere/sh", "\x7fELF rubbish"])
def test_a_restic_that_cannot_be_executed(site: Site, first_line: str) -> None:
    """A binary of another machine, or half an upgrade, in its place."""
    site.install(f"{first_line}\n")
    done = site.run("backup")
    assert done.returncode == 1, done.stderr
    assert f"{site.base}/bin/restic" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "without saying what it did"),
        ("echo rubbish; exit 0", "without saying what it did"),
        ("head -c 3000000 /dev/urandom; exit 0", "without saying what it did"),
        ('echo \'{"message_type":"summary"}\'; exit 0', "without saying what it did"),
        ("exit 42", "ended with 42"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("exit 2", "crashed"),
    ],
)
def test_a_backup_that_does_not_say_that_it_succeeded(
    site: Site, disk: Disk, script: str, words: str
) -> None:
    """Whatever is not known to be a success is a failure: a script in restic's place."""
    site.job["keep"] = {"last": 1}
    site.install(f'#!/bin/sh\n[ "$1" != version ] || {{ echo restic 0.19.1; exit; }}\n{script}\n')
    record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert words in only(record)["failure"]["message"]
    assert only(record)["failure"]["remedy"]
    assert only(record)["retention"] is None
    assert disk.runs() == []


def test_a_password_file_that_everyone_can_read_is_a_warning(site: Site) -> None:
    """The backup is made, and the record says what to do."""
    os.chmod(site.path("password"), 0o644)
    (warning,) = site.succeed()["warnings"]
    assert site.path("password") in warning
    assert "chmod" in warning


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Reserve a port of this machine on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_repository_that_cannot_be_reached(site: Site, closed_port: int) -> None:
    """Nobody listens: the oldest restic says so at once, newer ones only after minutes."""
    site.restic_path = next(iter(RESTICS.values()))
    assert version_of(site.restic_path) < (0, 17)
    site.install_restic()
    site.repositories["main"]["url"] = f"rest:http://127.0.0.1:{closed_port}/"
    record = site.back_up()
    assert record["outcome"] == "failed"
    assert "cannot be reached" in only(record)["failure"]["message"]
    assert "host is up" in only(record)["failure"]["remedy"]


@each_restic
def test_a_missing_repository_names_the_way_to_make_it(site: Site) -> None:
    """The remedy can be pasted: it runs restic init with the job's own secrets."""
    site.repositories["main"]["url"] = site.path("fresh")
    failure = only(site.back_up())["failure"]
    assert "there is no repository" in failure["message"]
    assert "holdstill restic data -- init" in failure["remedy"]
    assert site.run("restic", "data", "--", "init").returncode == 0
    site.succeed()


@pytest.mark.usefixtures("swap_alone")
def test_a_subvolume_with_an_active_swap_file_is_named(site: Site) -> None:
    """Btrfs refuses its snapshot: the error names the file, and restic is not started."""
    path = f"{site.source}/swap"
    with swapping(path):
        _assert_refused(site, site.run("backup"), 1, path, "swap file")
