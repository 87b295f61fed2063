"""`holdstill demo`: it shows what it promises, and nothing of it is ever left behind."""

from __future__ import annotations

import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.demo import disk
from holdstill.linux import mountinfo, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEMO = (sys.executable, "-P", "-m", "holdstill", "demo")
MARK = "DEMO_TEST_MARK"
PLACES = ("/mnt", "/media", "/srv", "/opt")

_LONGEST_SECONDS = 150.0
_LONGEST_DELAY = 10.0
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Theatre:
    """A directory for the disk's image, and an environment that tells whose processes are whose."""

    directory: str
    environment: dict[str, str]

    def play(
        self, *wrapper: str, rounds: str = "1", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the demo to its end."""
        return subprocess.run(
            (*wrapper, *DEMO, "--rounds", rounds),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )

    def left_behind(self) -> list[str]:
        """Return what is left of a demo, having given it a moment to go."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (left := list(self._left())) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _left(self) -> Iterator[str]:
        mark = f"{MARK}={self.environment[MARK]}".encode()
        yield from (
            f"process {pid}"
            for pid in filter(str.isdigit, os.listdir("/proc"))
            if mark in _environment_of(pid)
        )
        yield from (f"file {name}" for name in os.listdir(self.directory))
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            if self.directory in _text(backing):
                yield f"loop device {backing.parts[3]}"


def _environment_of(pid: str) -> list[bytes]:
    try:
        return Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _host() -> tuple[object, ...]:
    """Return what of a demo would show on the host."""
    names = [f"{place}/{name}" for place in PLACES for name in ("data", "rest", "@data")]
    rows = [mount for mount in mountinfo.read() if mount.mount_point in {*PLACES, *names}]
    return rows, [name for name in names if os.path.lexists(name)]


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    """Somewhere to run the demo; fails the test if anything of it stays."""
    directory = str(tmp_path)
    environment = {**os.environ, "TMPDIR": directory, MARK: directory}
    before = _host()
    opened = Theatre(directory, environment)
    yield opened
    assert opened.left_behind() == []
    assert _host() == before


def _wrong(table: str, method: str) -> tuple[int, int]:
    found = re.search(rf"^{method} +\d+ +(\d+) of (\d+)", table, re.MULTILINE)
    assert found, table
    return int(found[1]), int(found[2])


def test_restores_from_live_backups_are_wrong_and_from_frozen_ones_right(theatre: Theatre) -> None:
    """The table counts both, on standard output; standard error tells what happens."""
    done = theatre.play(rounds="4")
    wrong, backups = _wrong(done.stdout, "plain restic")
    assert wrong > 0, done.stderr
    assert _wrong(done.stdout, "holdstill") == (0, backups)
    assert (done.returncode, backups) == (0, 4)
    assert "\x1b" not in done.stdout
    assert "Round 4 of 4" in done.stderr


def test_a_users_own_settings_of_restic_and_holdstill_do_not_matter(theatre: Theatre) -> None:
    """No variable leads a program of the demo to a real repository, configuration or state."""
    elsewhere = dict.fromkeys(
        ("RESTIC_REPOSITORY", "RESTIC_PASSWORD_COMMAND", "HOLDSTILL_CONFIG", "STATE_DIRECTORY"),
        "/nonexistent",
    )
    done = theatre.play(**elsewhere)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists("/nonexistent")


def _begun(theatre: Theatre) -> subprocess.Popen[str]:
    """Start the demo in a session of its own; when this returns, it listens to signals."""
    demo = subprocess.Popen(
        (*DEMO, "--rounds", "50"),
        env=theatre.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stderr is not None
    assert demo.stderr.readline().startswith("Making a temporary disk")
    return demo


def _moments(count: int) -> Sequence[float]:
    """Return random moments, spread over the making of the disk and the first rounds."""
    return [
        (number + random.random())  # noqa: S311 - no secret
        * _LONGEST_DELAY
        / count
        for number in range(count)
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_it_and_leaves_nothing(
    theatre: Theatre, number: signal.Signals
) -> None:
    """It ends soon, with 128 and the signal's number, and says so without a traceback."""
    for moment in _moments(2):
        with _begun(theatre) as demo:
            time.sleep(moment)
            demo.send_signal(number)
            _, said = demo.communicate(timeout=_PATIENCE_SECONDS)
        assert demo.returncode == 128 + number, f"after {moment:.2f} s: {said}"
        assert said.endswith("Interrupted. Nothing is left behind.\n")
        assert theatre.left_behind() == []


def test_killed_at_any_moment_it_leaves_nothing(theatre: Theatre) -> None:
    """SIGKILL gives it no time for anything, and still its processes, mounts and disk go."""
    for moment in (0.0, 0.05, 0.2, *_moments(3)):
        with _begun(theatre) as demo:
            time.sleep(moment)
            demo.kill()
        assert theatre.left_behind() == [], f"after {moment:.2f} s"


def test_ctrl_c_on_a_terminal_ends_it(theatre: Theatre) -> None:
    """The terminal tells all of its processes at once; only the demo itself speaks of it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(DEMO[0], DEMO, theatre.environment)  # noqa: S606 - no shell is meant
    said = b""
    while b"Round 1" not in said:
        said += os.read(terminal, 4096)
    time.sleep(0.3)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    said += _rest(terminal)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT
    assert b"Traceback" not in said
    assert said.endswith(b"Interrupted. Nothing is left behind.\r\n")
    assert max(map(len, said.split(b"\r\n"))) <= 80  # broken between words


def _rest(terminal: int) -> bytes:
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:  # how Linux says that nobody has the other end open any more
        pass
    os.close(terminal)
    return said


def test_without_root_it_says_so(theatre: Theatre) -> None:
    """Exit status 77, and how to get it."""
    done = theatre.play("setpriv", "--bounding-set=-sys_admin")
    assert (done.returncode, done.stdout) == (77, "")
    assert "needs root" in done.stderr
    assert "sudo" in done.stderr


def test_missing_programs_are_named_with_their_packages(theatre: Theatre) -> None:
    """One error names all of them."""
    done = theatre.play("unshare", "-m", "sh", "-c", _HIDE.format("restic", "mkfs.btrfs"), "sh")
    assert done.returncode == 1
    assert "not found in PATH: restic, mkfs.btrfs" in done.stderr
    assert "install restic and btrfs-progs" in done.stderr


_HIDE = """
for program in {} {}; do
    for found in $(which -a "$program"); do mount --bind /dev/null "$found"; done
done
exec "$@"
"""


def test_without_loop_devices_it_says_so(theatre: Theatre) -> None:
    """As in most containers."""
    hide = 'mount -t tmpfs -o nodev none /dev && exec "$@"'
    done = theatre.play("unshare", "-m", "sh", "-c", hide, "sh")
    assert done.returncode == 1
    assert "no loop devices on this machine" in done.stderr
    assert "--privileged" in done.stderr


def test_without_room_it_says_how_much_is_needed(theatre: Theatre) -> None:
    """It asks before it begins: a disk image that cannot grow would break half-way."""
    small = 'mount -t tmpfs -o size=100m none "$TMPDIR" && exec "$@"'
    done = theatre.play("unshare", "-m", "sh", "-c", small, "sh")
    assert done.returncode == 1
    assert "0.1 GB are free, 1.5 GB are needed" in done.stderr
    assert "TMPDIR=" in done.stderr


def test_without_btrfs_in_the_kernel_it_says_so(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faked: this kernel has btrfs, or the test would not run."""

    def refuse(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(mounts, "mount_subvolume", refuse)
    programs = disk.programs(disk.search_path(os.environ))
    with pytest.raises(disk.DiskError, match="no btrfs") as caught:
        disk.make_disk("/nonexistent", theatre.directory, lambda *_: None, programs)
    assert "modprobe btrfs" in caught.value.remedy


@pytest.mark.parametrize("argument", ["0", "51", "many"])
def test_a_senseless_number_of_rounds_is_refused(theatre: Theatre, argument: str) -> None:
    """Before anything is made."""
    done = subprocess.run((*DEMO, "--rounds", argument), capture_output=True, check=False)
    assert done.returncode == 2
    assert theatre.left_behind() == []


def test_the_disk_is_never_mounted_over_the_program_itself() -> None:
    """A virtual environment below /mnt goes on working: another directory takes the disk."""
    first, *others = [p for p in PLACES if os.path.isdir(p)]
    assert disk.place(["/usr/bin/restic", f"{first}-not/x"]) == first
    assert disk.place([f"{first}/venv/bin/python"]) in others
    with pytest.raises(disk.DiskError, match="nowhere to mount"):
        disk.place([f"{place}/x" for place in PLACES])
