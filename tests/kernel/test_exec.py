"""`holdstill exec`: a command sees paths frozen, and is otherwise what it always was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import wait_until
from tests.kernel.disks import locking
from tests.kernel.guardian import unmount
from tests.kernel.program import EXEC, argv, execute, started

if TYPE_CHECKING:
    from tests.kernel.disks import Arena, Disk

WAIT_THEN_READ = 'echo ready; read -r _; cat "$0"'

SIGNALS = [
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
]
COUNT_SIGNALS = f"""
import signal, sys, time
seen = []
for number in {list(map(int, SIGNALS))}:
    signal.signal(number, lambda received, _: seen.append(received))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
print("first", flush=True)
time.sleep(0.3)
print("got", *map(int, seen), flush=True)
sys.exit(7)
"""


def test_shows_the_frozen_files_at_their_original_paths(source: str) -> None:
    """The command reads the source's own path and finds what was there."""
    done = execute(source, "cat", f"{source}/file")
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\n", "")


def test_a_change_on_the_host_does_not_reach_the_command(source: str) -> None:
    """What is written, made or removed while the command runs is not in its view."""
    with started(source, "sh", "-c", WAIT_THEN_READ, f"{source}/file") as run:
        assert run.line() == "ready"
        Path(source, "file").write_text("after\n", encoding="utf-8")
        run.let_go()
        done = run.finish()
    assert (done.stdout, done.returncode) == ("before\n", 0)
    assert Path(source, "file").read_text(encoding="utf-8") == "after\n"


def test_a_removed_file_is_still_there_for_the_command(source: str) -> None:
    """Removing on the host takes nothing from the view."""
    with started(source, "sh", "-c", WAIT_THEN_READ, f"{source}/file") as run:
        assert run.line() == "ready"
        os.unlink(f"{source}/file")
        run.let_go()
        assert run.finish().stdout == "before\n"


@pytest.mark.parametrize("script", ["echo x > file", "rm file", "touch new", "chmod 0 file"])
def test_the_view_is_read_only(source: str, script: str) -> None:
    """Writing fails with EROFS, and the live file stays as it was."""
    done = execute(source, "sh", "-c", script, cwd=source)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert os.listdir(source) == ["file"]
    assert Path(source, "file").read_text(encoding="utf-8") == "before\n"


def test_what_is_not_frozen_stays_writable(source: str, tmp_path: Path) -> None:
    """Only the sources are frozen: output can be written next to them."""
    done = execute(source, "cp", f"{source}/file", f"{tmp_path}/copy")
    assert done.returncode == 0
    assert (tmp_path / "copy").read_text(encoding="utf-8") == "before\n"


def test_keeps_the_working_directory_and_looks_it_up_in_the_view(source: str) -> None:
    """A relative path means the frozen file, from the same directory."""
    Path(source, "inner").mkdir()
    Path(source, "inner", "note").write_text("frozen\n", encoding="utf-8")
    script = "pwd; echo ready; read -r _; cat note; touch x 2>/dev/null && echo live"
    with started(source, "sh", "-c", script, cwd=f"{source}/inner") as run:
        assert run.line() == f"{source}/inner"
        assert run.line() == "ready"
        Path(source, "inner", "note").write_text("live\n", encoding="utf-8")
        run.let_go()
        assert run.finish().stdout == "frozen\n"


def test_a_working_directory_that_is_not_in_the_view_is_an_error(arena: Arena, source: str) -> None:
    """A directory on another mount below the source has no counterpart: nothing is run."""
    os.mkdir(f"{source}/mounted")
    arena.mount_tmpfs(f"{source}/mounted")
    os.mkdir(f"{source}/mounted/here")
    done = execute(source, "echo", "started", cwd=f"{source}/mounted/here")
    assert (done.returncode, done.stdout) == (125, "")
    assert "working directory" in done.stderr
    assert f"{source}/mounted/here" in done.stderr


def test_a_working_directory_that_was_removed_is_an_error(source: str) -> None:
    """The command is not started somewhere else, and no traceback is shown."""
    os.mkdir(f"{source}/gone")
    script = f'cd {source}/gone && rmdir {source}/gone && exec "$@"'
    done = execute(source, "echo", "started", wrapper=("sh", "-c", script, "sh"))
    assert (done.returncode, done.stdout) == (125, "")
    assert "working directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_counts_though_the_wait_was_over_at_once(
    source: str, disk: Disk, number: signal.Signals
) -> None:
    """It came while another holdstill had the staging directory: no command is started."""
    with locking(disk.staging()) as let_go, started(source, "echo", "started") as run:
        wait_until(lambda: _has_open(run.pid, disk.staging()))
        os.kill(run.pid, number)
        time.sleep(0.1)
        let_go()
        done = run.finish()
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
    assert disk.runs() == []


def test_what_a_stopped_wait_could_not_remove_is_told(
    source: str, disk: Disk, arena: Arena
) -> None:
    """On one file system something was made already, while the other's was still waited for."""
    other = arena.disk()
    paths = [source, other.source(at=arena.unique("last"))]
    with locking(disk.staging()), started(paths, "true") as run:
        wait_until(other.runs)
        (name,) = other.runs()
        foreign = Path(other.staging(), name, "foreign")
        foreign.touch()
        os.kill(run.pid, signal.SIGTERM)
        done = run.finish()
    assert done.returncode == 128 + signal.SIGTERM
    assert f"warning: cannot remove .holdstill/{name} on {other.device}" in done.stderr
    foreign.unlink()
    foreign.parent.rmdir()


def _has_open(process: int, path: str) -> bool:
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            if file.samefile(path):
                return True
    return False


@pytest.mark.parametrize("status", [0, 1, 2, 3, 75, 125, 126, 127, 255])
def test_the_exit_status_is_the_commands(source: str, status: int) -> None:
    """Every status passes through, and holdstill adds no word."""
    done = execute(source, "sh", "-c", f"exit {status}")
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_killed_by_a_signal_is_128_plus_its_number(
    source: str, number: signal.Signals
) -> None:
    """As a shell reports it."""
    done = execute(source, "sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert done.returncode == 128 + number


def test_a_command_that_does_not_exist_is_127(source: str) -> None:
    """As env(1) and nice(1) say it, with the name."""
    done = execute(source, "no-such-command-anywhere")
    assert done.returncode == 127
    assert done.stderr == "holdstill: error: no-such-command-anywhere: command not found\n"


def test_a_command_that_cannot_be_executed_is_126(source: str) -> None:
    """A file without permission to execute, and one without a format that the kernel knows."""
    done = execute(source, f"{source}/file")
    assert done.returncode == 126
    assert f"{source}/file: cannot be executed: Permission denied" in done.stderr
    os.chmod(f"{source}/file", 0o700)
    done = execute(source, f"{source}/file")
    assert done.returncode == 126
    assert "Exec format error" in done.stderr


def test_a_command_from_the_frozen_path_is_the_frozen_one(source: str) -> None:
    """Programs are looked up in the view."""
    Path(source, "tool").write_text("#!/bin/sh\necho frozen tool\n", encoding="utf-8")
    os.chmod(f"{source}/tool", 0o700)
    done = execute(source, "./tool", cwd=source)
    assert done.stdout == "frozen tool\n"


def test_standard_streams_pass_through(source: str) -> None:
    """Bytes in, bytes out, and the errors apart."""
    done = execute(source, "sh", "-c", "cat; echo oops >&2", stdin="one\ntwo")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo", "oops\n")


def test_arguments_pass_untouched(source: str) -> None:
    """Empty ones, blanks, newlines, options, a second `--`, bytes that are not UTF-8."""
    odd = ["", " a ", "-x", "--", "--help", "new\nline", "'\"", "\udcff\udcfe", "*"]
    done = execute(source, sys.executable, "-ISc", "import sys; print(ascii(sys.argv[1:]))", *odd)
    assert done.stdout == ascii(odd) + "\n"


def test_the_environment_passes_untouched(source: str) -> None:
    """Nothing of holdstill's own stands in it."""
    done = execute(source, "env", "-0", environment={"HOLDSTILL_TEST_WORD": "x\ny"})
    assert "HOLDSTILL_TEST_WORD=x\ny" in done.stdout.split("\0")


def test_the_signal_mask_and_dispositions_are_the_callers(source: str) -> None:
    """Holdstill blocks signals for itself, never for the command."""
    look = ("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")

    def ignore_as_a_service_may() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    plain = subprocess.run(
        look, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=ignore_as_a_service_may
    )
    ours = execute(source, *look, before=ignore_as_a_service_may)
    assert _signals(ours.stdout) == _signals(plain.stdout)
    assert _signals(plain.stdout)["SigIgn"] >> (signal.SIGUSR2 - 1) & 1


def _signals(status: str) -> dict[str, int]:
    """Return the masks without signals 32 and 33, of which libc makes its own use (nptl(7))."""
    rows = (line.split(":") for line in status.splitlines())
    return {name: int(mask, 16) & ~(0b11 << 31) for name, mask in rows}


def test_several_paths_are_frozen_together(disk: Disk) -> None:
    """Each shows its own snapshot at its own path."""
    first, second = disk.source(), disk.source()
    script = 'echo ready; read -r _; cat "$0/file" "$1/file"'
    with started([first, second], "sh", "-c", script, first, second) as run:
        assert run.line() == "ready"
        for path in (first, second):
            Path(path, "file").write_text("after\n", encoding="utf-8")
        run.let_go()
        assert run.finish().stdout == "before\nbefore\n"


def test_two_file_systems_are_frozen_in_one_view(arena: Arena, disk: Disk) -> None:
    """Sources may lie on different disks."""
    paths = [disk.source(), arena.disk(128).source()]
    with started(
        paths, "sh", "-c", 'echo ready; read -r _; cat "$0/file" "$1/file"', *paths
    ) as run:
        assert run.line() == "ready"
        for path in paths:
            Path(path, "file").write_text("after\n", encoding="utf-8")
        run.let_go()
        assert run.finish().stdout == "before\nbefore\n"


def test_a_path_named_twice_is_frozen_once(disk: Disk, source: str) -> None:
    """Repetition and a trailing slash make no second snapshot."""
    with started([source, f"{source}/", source], "sh", "-c", "echo ready; read -r _") as run:
        assert run.line() == "ready"
        assert len(disk.snapshots()) == 1
        run.let_go()
        assert run.finish().returncode == 0


def test_a_relative_path_is_looked_up_from_the_working_directory(source: str) -> None:
    """As every command does it."""
    parent, name = os.path.split(source)
    done = execute(name, "sh", "-c", f"cat {name}/file; touch {name}/x", cwd=parent)
    assert done.stdout == "before\n"
    assert "Read-only file system" in done.stderr


def test_nothing_of_the_run_stays(disk: Disk, source: str) -> None:
    """The snapshot exists while the command runs, and is gone when holdstill is."""
    with started(source, "sh", "-c", "echo ready; read -r _") as run:
        assert run.line() == "ready"
        assert len(disk.snapshots()) == len(disk.runs()) == 1
        run.let_go()
        assert run.finish().returncode == 0
    assert disk.snapshots() == disk.runs() == []


def test_two_runs_on_one_file_system_do_not_disturb_each_other(disk: Disk) -> None:
    """Neither sweeps, deletes or shows the other's snapshot, in whatever order they end."""
    source = disk.source()
    read = (source, "sh", "-c", WAIT_THEN_READ, f"{source}/file")
    with started(*read) as first:
        assert first.line() == "ready"
        Path(source, "file").write_text("between\n", encoding="utf-8")
        with started(*read) as second:
            assert second.line() == "ready"
            Path(source, "file").write_text("after\n", encoding="utf-8")
            assert len(disk.runs()) == 2
            first.let_go()
            done = first.finish()
            assert (done.stdout, done.stderr, done.returncode) == ("before\n", "", 0)
            second.let_go()
            done = second.finish()
            assert (done.stdout, done.stderr, done.returncode) == ("between\n", "", 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_holdstill_reaches_the_command_once(
    source: str, number: signal.Signals
) -> None:
    """The command decides what it means, and how it ends."""
    with started(source, sys.executable, "-ISc", COUNT_SIGNALS) as run:
        assert run.line() == "ready"
        os.kill(run.pid, number)
        done = run.finish()
    assert (done.stdout, done.returncode) == (f"first\ngot {int(number)}\n", 7)


def test_a_signal_that_ends_the_command_ends_holdstill_the_same_way(source: str) -> None:
    """128+15, and nothing is left."""
    with started(source, "sh", "-c", "echo ready; exec sleep 60") as run:
        assert run.line() == "ready"
        os.kill(run.pid, signal.SIGTERM)
        assert run.finish().returncode == 128 + signal.SIGTERM


def test_the_terminals_ctrl_c_reaches_the_command_once(source: str) -> None:
    """The terminal has told the whole foreground group: holdstill does not say it again.

    It is stopped until the command has had its signal: two that are pending would look like one.
    """
    command = argv(source, sys.executable, "-ISc", COUNT_SIGNALS)
    said = _on_a_terminal(command, b"\x03", stop_until=b"first")
    assert "got 2\r\n" in said


def test_the_terminals_ctrl_c_ends_both(source: str) -> None:
    """A command that does not care is interrupted, and so says holdstill's status."""
    script = f"{' '.join(EXEC)} {source} -- sh -c 'echo ready; exec sleep 60'; echo status $?"
    said = _on_a_terminal(("sh", "-c", f"trap : INT; {script}"), b"\x03")
    assert "status 130\r\n" in said


def test_nohup_holds_for_the_command(source: str) -> None:
    """A signal that was ignored from the start stays ignored, here and in the command."""
    script = "echo ready; read -r _; grep SigIgn /proc/self/status"
    with started(source, "sh", "-c", script, before=_ignore_hang_up) as run:
        assert run.line() == "ready"
        os.kill(run.pid, signal.SIGHUP)
        time.sleep(0.1)
        run.let_go()
        done = run.finish()
    assert done.returncode == 0
    assert int(done.stdout.split()[1], 16) & 1 << (signal.SIGHUP - 1)


@pytest.fixture(scope="module")
def usual_seconds(session_disk: Disk) -> float:
    """Return how long a run with a short command takes here and now."""
    source = session_disk.source()
    try:
        execute(source, "true")
        began = time.monotonic()
        execute(source, "sleep", "0.05")
        return time.monotonic() - began
    finally:
        unmount(source)  # other tests look at everything that is mounted


@pytest.mark.parametrize("percent", range(0, 120, 3))
def test_ctrl_c_at_any_moment_leaves_nothing(
    arena: Arena, disk: Disk, source: str, usual_seconds: float, percent: int
) -> None:
    """Before, during and after the freeze; the fixtures find what would be left."""
    before = arena.rows()
    with started(source, "sleep", "0.05") as run:
        time.sleep(usual_seconds * percent / 100)
        os.kill(run.pid, signal.SIGINT)
        done = run.finish()
    assert done.returncode in {-signal.SIGINT, 128 + signal.SIGINT, 0, 1}
    assert disk.runs() == []
    assert arena.rows() == before


def test_ctrl_c_during_the_start_is_no_error(source: str, tmp_path: Path) -> None:
    """Most of the start is imports: one of them is where it comes, in a fake of the module."""
    script = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "argparse.py").write_text(script, encoding="utf-8")
    done = execute(source, "true", environment={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def _ignore_hang_up() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _on_a_terminal(command: tuple[str, ...], key: bytes, stop_until: bytes = b"") -> str:
    """Run a command on a terminal of its own, press a key when it says `ready`; all it said."""
    import subprocess

    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 - no threads here
        pass_fds=[theirs],
    )
    os.close(theirs)
    said = b""
    with process, open(ours, "rb", buffering=0) as terminal:
        while chunk := _read(terminal.fileno()):
            before, said = said, said + chunk
            if b"ready" in said and b"ready" not in before:
                if stop_until:
                    os.kill(process.pid, signal.SIGSTOP)
                os.write(terminal.fileno(), key)
            if stop_until and stop_until in said and stop_until not in before:
                os.kill(process.pid, signal.SIGCONT)
    return said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: everybody has closed the other end
        return b""
