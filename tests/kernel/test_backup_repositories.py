"""Several repositories, several jobs, several runs: each has its own result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import PASSWORD, each_restic, only, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


@pytest.fixture
def two(site: Site) -> Site:
    """Configure a job with retention that writes to `first` and then to `main`."""
    site.add_repository("first")
    site.job["repositories"] = ["first", "main"]
    site.job["keep"] = {"last": 1}
    return site


@each_restic
def test_several_repositories_are_written_from_the_same_snapshots(two: Site) -> None:
    """One freeze, one backup each, the same content and time; then the retention of each."""
    record = two.succeed()
    assert [result["name"] for result in record["repositories"]] == ["first", "main"]
    assert len(record["snapshots"]) == 1
    assert two.commands() == ["version", "backup", "backup", "forget", "forget"]
    (first,), (main,) = two.snapshots("first"), two.snapshots()
    assert first["time"] == main["time"]
    # Not the trees: they hold the times of the directories above, which others may write to.
    assert two.nodes(repository="first") == two.nodes() != []


def _remove(site: Site) -> str:
    shutil.rmtree(site.path("first"))
    os.mkdir(site.path("first"))
    return "there is no repository"


def _change_the_password(site: Site) -> str:
    Path(site.path("wrong")).write_text("wrong", encoding="utf-8")
    site.repositories["first"]["password-file"] = site.path("wrong")
    return "wrong password"


def _remove_the_password(site: Site) -> str:
    site.repositories["first"]["password-file"] = site.path("nowhere")
    return "no password"


def _fail_the_password_command(site: Site) -> str:
    del site.repositories["first"]["password-file"]
    site.repositories["first"]["password-command"] = "false"
    return "no password"


def _spoil_the_config(site: Site) -> str:
    config = Path(site.path("first"), "config")
    config.chmod(0o600)
    config.write_bytes(b"rubbish" * 30)
    return "restic ended with 1"


@each_restic
@pytest.mark.parametrize(
    "spoil",
    [
        _remove,
        _change_the_password,
        _remove_the_password,
        _fail_the_password_command,
        _spoil_the_config,
    ],
)
def test_a_broken_repository_does_not_stop_the_next(
    two: Site, spoil: Callable[[Site], str]
) -> None:
    """The outcome is the worst; the error names the repository and says what to do."""
    words = spoil(two)
    record = two.back_up()
    first, main = record["repositories"]
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert (first["outcome"], main["outcome"]) == ("failed", "ok")
    assert first["failure"]["message"].startswith(f"repository first: {words}")
    assert first["failure"]["remedy"]
    assert (first["retention"], main["retention"]["outcome"]) == (None, "ok")
    assert [call.argv[0] for call in two.calls("backup", "forget")] == [
        "backup",
        "backup",
        "forget",
    ]
    assert len(two.snapshots()) == 1


@contextmanager
def locked(site: Site, repository: str) -> Iterator[None]:
    """Hold a repository's exclusive lock: a real restic, stopped in the middle of its work."""
    with subprocess.Popen(
        [site.restic_path, "rebuild-index", "--read-all-packs"],
        env=site.restic_environ(repository),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as working:
        locks = f"{site.path(repository)}/locks"
        wait_until(lambda: [name for name in os.listdir(locks) if "-tmp-" not in name])
        working.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            working.kill()
    for name in os.listdir(f"{site.path(repository)}/locks"):
        os.unlink(f"{site.path(repository)}/locks/{name}")


@each_restic
def test_a_locked_repository_does_not_stop_the_next(two: Site) -> None:
    """Another restic is at work on it: the error says so, and that nothing should be forced."""
    two.write("large", os.urandom(20 << 20))
    two.succeed()
    two.repositories["first"]["retry-lock"] = "1s"
    with locked(two, "first"):
        record = two.back_up()
    first, main = record["repositories"]
    assert (first["outcome"], main["outcome"]) == ("failed", "ok")
    assert "locked by another restic" in first["failure"]["message"]
    assert "-- unlock" in first["failure"]["remedy"]
    assert (len(two.snapshots("first")), len(two.snapshots())) == (1, 1)


def test_several_jobs_end_with_the_worst_status(site: Site) -> None:
    """Each job has a record of its own; one that fails does not stop the next."""
    site.add_repository("broken")
    _remove_the_password_of(site, "broken")
    site.jobs["bad"] = {"paths": [site.source], "repositories": ["broken"]}
    site.jobs["good"] = dict(site.job)
    done = site.run("backup", "--json", "data", "bad", "good")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["job"], r["outcome"]) for r in records] == [
        ("data", "ok"),
        ("bad", "failed"),
        ("good", "ok"),
    ]
    assert done.returncode == 78


def _remove_the_password_of(site: Site, name: str) -> None:
    site.repositories[name]["password-file"] = site.path("nowhere")


def test_all_jobs_run_when_none_is_named(site: Site) -> None:
    """They run in the order of the configuration, a job that is named twice only once."""
    site.jobs["second"] = dict(site.job)
    done = site.run("backup")
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines() if line[0] != " "] == [
        "data",
        "second",
    ]
    site.forget_calls()
    assert site.run("backup", "second", "second").returncode == 0
    assert site.commands() == ["backup"]


def test_a_second_run_of_a_job_is_skipped(site: Site, disk: Disk) -> None:
    """It exits with 75 and touches nothing; the first one goes on undisturbed."""
    with site.paused("backup", "--json") as process:
        snapshots = disk.snapshots()
        second = site.back_up()
        assert (second["outcome"], second["exit_status"]) == ("skipped", 75)
        assert "another run of job data is active" in second["failure"]["message"]
        assert second["repositories"] == second["snapshots"] == []
        assert disk.snapshots() == snapshots
        site.let_go()
        out, _ = process.communicate()
    assert json.loads(out)["outcome"] == "ok"
    assert site.commands() == ["version", "backup"]
    assert site.listed() == ["file"]


@each_restic
def test_different_jobs_on_one_file_system_run_at_once(site: Site, disk: Disk) -> None:
    """Neither sweeps the other's snapshot, nor removes it at its end."""
    site.jobs["other"] = dict(site.job, tags=["other"])
    site.succeed("data")
    with site.paused("backup", "data") as first, site.started("backup", "other") as second:
        wait_until(lambda: len(disk.snapshots()) == 2)
        site.let_go()
        assert (first.wait(), second.wait()) == (0, 0), (first.stderr, second.stderr)
    assert [site.listed(snapshot["id"]) for snapshot in site.snapshots()] == [["file"]] * 3


@each_restic
def test_a_file_that_cannot_be_read_makes_the_run_partial(site: Site) -> None:
    """A backup exists, its errors are in the record, it exits with 3, and nothing is forgotten.

    Nothing on a healthy disk is unreadable for root: restic runs without root's rights here.
    """
    site.job["keep"] = {"last": 1}
    os.chmod(site.write("secret"), 0)
    real = site.restic_path
    site.restic_path = f"{site.base}/unprivileged"
    script = f'#!/bin/sh\nexec setpriv --bounding-set -dac_override,-dac_read_search {real} "$@"\n'
    Path(site.restic_path).write_text(script, encoding="utf-8")
    os.chmod(site.restic_path, 0o700)
    site.install_restic()
    record = site.back_up()
    site.restic_path = real
    result = only(record)
    assert (record["outcome"], record["exit_status"]) == ("partial", 3)
    assert (result["error_count"], result["snapshot_id"] != "") == (1, True)
    assert "secret" in result["errors"][0]
    assert "permission denied" in result["errors"][0].lower()
    assert result["retention"] is None
    assert site.commands() == ["version", "backup"]
    assert "file" in site.listed()


def test_the_repository_is_reached_with_the_jobs_own_secrets_only(site: Site) -> None:
    """RESTIC_* of the caller's environment never reaches a configured repository."""
    site.environment |= {"RESTIC_PASSWORD": "other", "RESTIC_REPOSITORY": "/nowhere"}
    site.environment["RESTIC_COMPRESSION"] = "nonsense"
    site.succeed()
    (call,) = site.calls("backup")
    assert call.environment["RESTIC_REPOSITORY"] == site.repositories["main"]["url"]
    assert "RESTIC_PASSWORD" not in call.environment


@pytest.mark.parametrize("way", ["password-command", "password-credential", "environment-file"])
def test_every_way_to_give_a_password_works(site: Site, way: str) -> None:
    """A command, a credential of systemd, and a file of variables."""
    repository = site.repositories["main"]
    del repository["password-file"]
    if way == "password-command":
        repository[way] = f"cat {site.path('password')}"
    elif way == "password-credential":
        repository[way] = "password"
        site.environment["CREDENTIALS_DIRECTORY"] = site.base
    else:
        variables = f"# of systemd\nRESTIC_PASSWORD='{PASSWORD}'\n"
        Path(site.path("environment")).write_text(variables, encoding="utf-8")
        repository[way] = site.path("environment")
    site.succeed()
