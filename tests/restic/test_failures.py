"""Backups that cannot succeed, with every restic."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import tracemalloc
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.restic.commands import Backup, Retention, Target, passthrough
from holdstill.restic.outcome import Outcome
from tests.restic.asking import snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdstill.process import Ended, OnLine
    from holdstill.restic.client import BackupResult, Client

FROZEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run(client: Client, target: Target, *paths: Path | str) -> BackupResult:
    """Make a backup that nobody watches."""
    request = Backup(paths=tuple(map(str, paths)), host="box", frozen_at=FROZEN)
    return client.backup(target, request, lambda _: None, lambda _: None)


@contextmanager
def locked(client: Client, target: Target) -> Iterator[subprocess.Popen[bytes]]:
    """Stop a `restic check` at the moment when it holds its exclusive lock."""
    command = passthrough(client.binary, target, ["check"], client.environment)
    with subprocess.Popen(
        command.argv,
        env=command.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as check:
        try:
            while not any(len(name) == 64 for name in os.listdir(Path(target.url) / "locks")):
                assert check.poll() is None
                time.sleep(0.001)
            check.send_signal(signal.SIGSTOP)
            yield check
        finally:
            check.kill()


def test_missing_repository_says_how_to_create_it(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """Learnt from the backup itself: nothing probes before."""
    result = run(client, target._replace(url=str(tmp_path / "nowhere")), source)
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("repository nas: there is no repository: ")
    assert str(tmp_path / "nowhere") in result.message
    assert "holdstill restic home -- init" in result.remedy
    assert result.summary.snapshot_id == ""


def test_wrong_password_is_named(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """Without the password."""
    (tmp_path / "wrong").write_text("hunter2")
    result = run(client, target._replace(password_file=str(tmp_path / "wrong")), source)
    assert (result.outcome, result.message) == (Outcome.FAILED, "repository nas: wrong password")
    assert "hunter2" not in repr(result)


def test_password_command_may_give_the_password(
    client: Client, target: Target, source: Path
) -> None:
    """In place of the file."""
    command = f"cat {target.password_file}"
    good = target._replace(password_file=None, password_command=command)
    assert run(client, good, source).outcome is Outcome.OK


@pytest.mark.parametrize("how", ["file", "command"])
def test_password_that_cannot_be_had_is_named(
    client: Client, target: Target, source: Path, how: str
) -> None:
    """A file that is not there, a command that fails."""
    bad = target._replace(password_file="/nonexistent/password")
    if how == "command":
        bad = target._replace(password_file=None, password_command="false")
    result = run(client, bad, source)
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("repository nas: no password: Resolving password failed")


def test_locked_repository_says_what_to_do(client: Client, target: Target, source: Path) -> None:
    """For a backup, and for a retention."""
    with locked(client, target):
        result = run(client, target, source)
        retention = Retention(paths=(str(source),), host="box", keep_last=1)
        forgotten = client.forget(target, retention, lambda _: None)
    for ended in (result, forgotten):
        assert ended.outcome is Outcome.FAILED
        assert ended.message.startswith("repository nas: locked by another restic: ")
        assert "holdstill restic home -- unlock" in ended.remedy


def test_a_lock_that_goes_away_is_waited_for(client: Client, target: Target, source: Path) -> None:
    """Where this restic can: the other one is let go when ours has begun to wait."""
    said: list[str] = []

    def let_go(text: str) -> None:
        said.append(text)
        if client.binary.version.retry_lock:
            threading.Timer(0.5, check.send_signal, [signal.SIGCONT]).start()

    request = Backup(paths=(str(source),), host="box", frozen_at=FROZEN)
    with locked(client, target) as check:
        patient = target._replace(lock_wait=60)
        result = client.backup(patient, request, lambda _: None, let_go)
    if client.binary.version.retry_lock:
        assert result.outcome is Outcome.OK
        assert said[0].endswith(
            "removed the locks of dead restics, waiting up to 60 s for the others"
        )
    else:
        assert result.outcome is Outcome.FAILED
        assert said[0].endswith("removed the locks of dead restics, trying again")


def test_locks_that_cannot_be_removed_are_not_called_removed(
    fake: Callable[[str], Client], target: Target, source: Path
) -> None:
    """A script in restic's place: a real one that can lock can remove locks, too."""
    script = """[ "$1" = backup ] || exit 1
    echo "unable to create lock in backend: repository is already locked by PID 7" >&2
    exit 1"""
    said: list[str] = []
    request = Backup(paths=(str(source),), host="box", frozen_at=FROZEN)
    result = fake(script).backup(target, request, lambda _: None, said.append)
    assert result.outcome is Outcome.FAILED
    assert said == ["repository nas is locked: its locks cannot be removed"]


def test_unreachable_repository_is_told_from_a_missing_one(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """The ssh here is a script that fails as ssh does: no machine to be down is at hand."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host nas: Connection refused' >&2; exit 255\n")
    ssh.chmod(0o755)
    client = client._replace(environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    result = run(client, target._replace(url="sftp:nas:/srv/restic"), source)
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("repository nas: cannot be reached: ")


def test_password_in_a_url_is_never_shown(client: Client, target: Target, source: Path) -> None:
    """Not even where restic repeats what it was given."""
    url = "rest:http://backup:hunter2@127.0.0.1:no-port/"
    result = run(client, target._replace(url=url), source)
    assert result.outcome is Outcome.FAILED
    assert "hunter2" not in repr(result)


def test_missing_source_is_partial(client: Client, target: Target, source: Path) -> None:
    """Before 0.19 restic ends with 0 over it."""
    result = run(client, target, source, source / "missing")
    assert result.outcome is Outcome.PARTIAL
    assert "missing does not exist" in result.message.replace(": ", " ")
    assert (result.error_count, result.errors[0].item) == (1, f"{source}/missing")
    assert snapshots(client, target)[0]["id"].startswith(result.summary.snapshot_id)


def test_source_that_is_missing_altogether_is_a_failure(
    client: Client, target: Target, source: Path
) -> None:
    """There is no snapshot then."""
    result = run(client, target, source / "missing")
    assert result.outcome is Outcome.FAILED
    assert snapshots(client, target) == []


def test_file_that_cannot_be_read_is_partial(client: Client, target: Target, source: Path) -> None:
    """/proc/self/mem refuses everyone, root included."""
    result = run(client, target, source, "/proc/self/mem")
    assert result.outcome is Outcome.PARTIAL
    assert result.errors[0].item == "/proc/self/mem"
    assert "input/output error" in result.message.lower()
    assert "/proc/self/mem" in result.message
    assert result.summary.snapshot_id != ""
    assert result.warnings == ()


def test_exclude_file_that_is_missing_is_a_failure(
    client: Client, target: Target, source: Path
) -> None:
    """In restic's own words, on every version."""
    request = Backup((str(source),), "box", FROZEN, exclude_files=("/nonexistent/list",))
    result = client.backup(target, request, lambda _: None, lambda _: None)
    assert result.outcome is Outcome.FAILED
    assert "/nonexistent/list" in result.message


def test_cache_that_cannot_be_opened_is_a_warning(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """From 0.19 on restic would fail over it: the backup is made without one."""
    (tmp_path / "file").touch()
    told: list[str] = []
    bad = target._replace(cache_directory=str(tmp_path / "file" / "cache"))
    request = Backup((str(source),), "box", FROZEN)
    result = client.backup(bad, request, lambda _: None, told.append)
    assert result.outcome is Outcome.OK
    assert result.warnings == tuple(told)
    assert "cannot be opened (Not a directory)" in told[0]


def test_cache_that_only_restic_cannot_open_is_named(
    client: Client, target: Target, source: Path
) -> None:
    """Deeper in it something is broken: a warning before 0.19, a failure with a remedy since."""
    assert target.cache_directory is not None
    assert run(client, target, source).outcome is Outcome.OK
    (cache,) = [path for path in Path(target.cache_directory).iterdir() if path.is_dir()]
    subprocess.run(["rm", "-r", cache], check=True)
    cache.touch()
    result = run(client, target, source)
    if client.binary.version < (0, 19, 0):
        assert result.outcome is Outcome.OK
        assert any(warning.startswith("unable to open cache") for warning in result.warnings)
    else:
        assert result.outcome is Outcome.FAILED
        assert result.message.startswith("repository nas: restic's cache cannot be opened")
        assert "cache-directory" in result.remedy


def test_cache_whose_version_a_power_cut_has_emptied_is_mended(
    client: Client, target: Target, source: Path
) -> None:
    """An empty one, which restic does not sync, would fail every backup since 0.19."""
    assert target.cache_directory is not None
    assert run(client, target, source).outcome is Outcome.OK
    (version,) = Path(target.cache_directory).glob("*/version")
    os.truncate(version, 0)
    result = run(client, target, source)
    assert (result.outcome, result.warnings) == (Outcome.OK, ())
    assert version.read_text() == "1"


def test_symlink_in_a_cache_leads_to_nothing_that_is_removed(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """The cache of a run-as is that user's, who could point at what only root may remove."""
    assert target.cache_directory is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "version").touch()
    os.makedirs(target.cache_directory, exist_ok=True)
    os.symlink(elsewhere, f"{target.cache_directory}/{'0' * 64}")
    assert run(client, target, source).outcome is Outcome.OK
    assert (elsewhere / "version").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_backup_that_is_told_to_stop_is_interrupted(
    client: Client, target: Target, source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Each version ends in a way of its own; none leaves a snapshot."""
    os.truncate(source / "file", 16 << 30)
    announced = tmp_path / "pid"

    def run_and_tell(
        argv: Sequence[str], *, environment: Mapping[str, str], on_stdout: OnLine, on_stderr: OnLine
    ) -> Ended:
        wrapped = ["/bin/sh", "-c", f'echo $$ > {announced}; exec "$@"', "sh", *argv]
        ended = client.run(
            wrapped, environment=environment, on_stdout=on_stdout, on_stderr=on_stderr
        )
        return ended._replace(told=number)

    request = Backup((str(source),), "box", FROZEN, progress_per_second=10)
    result = client._replace(run=run_and_tell).backup(
        target, request, lambda _: os.kill(int(announced.read_text()), number), lambda _: None
    )
    assert (result.outcome, result.summary.snapshot_id) == (Outcome.INTERRUPTED, "")
    assert number.name in result.message
    assert snapshots(client, target) == []


def test_rubbish_in_place_of_restic_is_no_success(
    fake: Callable[[str], Client], target: Target, source: Path
) -> None:
    """A fake, since no restic prints it: random bytes, and an exit status of 0."""
    result = run(fake("head -c 3000000 /dev/urandom"), target, source)
    assert result.outcome is Outcome.FAILED
    assert "ended with 0 without saying what it did" in result.message
    assert len(result.warnings) <= 100
    forgotten = fake("head -c 3000000 /dev/urandom").forget(
        target, Retention(("/x",), "box", keep_last=1), lambda _: None
    )
    assert forgotten.outcome is Outcome.FAILED


def test_death_by_signal_names_the_signal(
    fake: Callable[[str], Client], target: Target, source: Path
) -> None:
    """A fake, since no restic can be told to crash on time."""
    result = run(fake("kill -KILL $$"), target, source)
    assert result.outcome is Outcome.FAILED
    assert "killed by SIGKILL" in result.message


def test_hundred_thousand_errors_are_counted_in_bounded_memory(
    fake: Callable[[str], Client], target: Target, source: Path
) -> None:
    """A fake, since a real tree of that many unreadable files takes minutes."""
    error = '{"message_type":"error","error":{"message":"no"},"during":"archival","item":"/x/%d"}'
    client = fake(f"seq 100000 | xargs printf '{error}\\n' >&2\necho warning >&2; exit 3")
    told: list[str] = []
    tracemalloc.start()
    request = Backup((str(source),), "box", FROZEN)
    result = client.backup(target, request, lambda _: None, told.append)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (result.error_count, len(result.errors)) == (100_000, 100)
    assert result.errors[99].item == "/x/100"
    assert told[99:] == [
        "/x/100: no",
        "more than 100 errors: the others are only counted",
        "warning",
    ]
    assert peak < 5 << 20
