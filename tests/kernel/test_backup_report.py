"""What a run says: the record, the summary, the phases, the display on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING

from tests.kernel.backups import HOLDSTILL, each_restic, only, version_of, wait_until
from tests.kernel.disks import sh
from tests.kernel.promptness import within

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

RECORD: dict[str, type | tuple[type, ...]] = {
    "job": str,
    "run_id": str,
    "outcome": str,
    "exit_status": int,
    "started": str,
    "frozen_at": str,
    "finished": str,
    "phases": list,
    "hold_ms": float,
    "instant": str,
    "file_systems": list,
    "snapshots": list,
    "repositories": list,
    "left_out": list,
    "warnings": list,
    "failure": type(None),
}
REPOSITORY: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "outcome": str,
    "snapshot_id": str,
    "data_added": int,
    "data_added_packed": (int, type(None)),
    **dict.fromkeys(("files_new", "files_changed", "files_unmodified"), int),
    **dict.fromkeys(("dirs_new", "dirs_changed", "dirs_unmodified"), int),
    "total_files": int,
    "total_bytes": int,
    "seconds": float,
    "suspicious": bool,
    "error_count": int,
    "errors": list,
    "failure": type(None),
    "retention": dict,
}


@each_restic
def test_the_record_has_every_key_and_its_type(site: Site) -> None:
    """What programs read: the run, its snapshots, and each repository."""
    site.job["keep"] = {"last": 3}
    record = site.succeed()
    assert set(record) == set(RECORD)
    assert {key for key, kind in RECORD.items() if not isinstance(record[key], kind)} == set()
    result = only(record)
    assert set(result) == set(REPOSITORY)
    assert {key for key, kind in REPOSITORY.items() if not isinstance(result[key], kind)} == set()
    assert result["retention"] == {
        "outcome": "ok",
        "kept": 1,
        "removed": 0,
        "pruned": False,
        "failure": None,
    }
    assert (result["data_added_packed"] is None) == (version_of(site.restic_path) < (0, 17))


def test_the_record_tells_the_truth(site: Site) -> None:
    """Times are UTC and in order, the snapshot is of the source, and figures are restic's."""
    size = len("before\n") + os.stat(site.write("two", "22")).st_size
    record = site.succeed()
    times = [datetime.fromisoformat(record[k]) for k in ("started", "frozen_at", "finished")]
    assert times == sorted(times)
    assert all(record[key].endswith("Z") for key in ("started", "frozen_at", "finished"))
    assert 0 < record["hold_ms"] < 5000
    assert (record["job"], record["instant"], record["exit_status"]) == ("data", "single", 0)
    (snapshot,) = record["snapshots"]
    shown = sh("btrfs", "subvolume", "show", site.source)
    assert f"{snapshot['subvolume_id']}\n" in shown.partition("Subvolume ID:")[2][:12]
    assert snapshot["id"] > snapshot["subvolume_id"]
    result = only(record)
    assert (result["files_new"], result["total_files"], result["total_bytes"]) == (2, 2, size)
    assert result["snapshot_id"] == site.snapshots()[0]["id"]


def test_json_is_all_that_stands_on_standard_output(site: Site) -> None:
    """One object on one line per run, also for a run that fails."""
    site.jobs["bad"] = {"paths": [site.path("nowhere")], "repositories": ["main"]}
    done = site.run("backup", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["ok", "failed"]
    assert site.path("nowhere") in records[1]["failure"]["message"]
    assert records[1]["frozen_at"] is records[1]["hold_ms"] is records[1]["instant"] is None


def test_the_summary_stands_on_standard_output(site: Site) -> None:
    """Without --json: the job's outcome, what was backed up to where, and the retention."""
    site.job["keep"] = {"last": 3}
    done = site.run("backup")
    job, backup, files, retention = done.stdout.splitlines()
    assert job.startswith("data: ok in ")
    assert backup.startswith(f"  main: ok, snapshot {site.snapshots()[0]['short_id']}, ")
    assert files.strip() == "1 file new, 0 changed, 0 unchanged"
    assert retention.strip() == "retention ok: 1 snapshot kept, 0 removed"


def test_phases_and_warnings_stand_on_standard_error(site: Site) -> None:
    """A line per phase, in their order, and each warning once."""
    site.job["keep"] = {"last": 3}
    os.chmod(site.path("password"), 0o644)
    done = site.run("backup")
    lines = done.stderr.splitlines()
    assert all(line.startswith("holdstill: data: ") for line in lines)
    words = [line.removeprefix("holdstill: data: ") for line in lines]
    assert words[0].startswith("warning: repositories.main.password-file")
    assert words[1].startswith("frozen in ")
    assert words[2:] == ["backing up to main", "applying the retention to main"]


def test_an_error_is_followed_by_what_to_do(site: Site) -> None:
    """What happened, to what, and on a line of its own the remedy."""
    site.job["paths"] = [site.path("nowhere")]
    done = site.run("backup")
    error, remedy = done.stderr.splitlines()
    assert error.startswith(f"holdstill: error: data: {site.path('nowhere')} ")
    assert remedy == "  is its disk mounted?"


def test_a_reader_that_has_gone(site: Site) -> None:
    """A pipe that nobody reads is no traceback, and the backup was made."""
    site.configure()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*HOLDSTILL, "backup", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=site.environ(),
        check=False,
    )
    os.close(writer)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert len(site.snapshots()) == 1


class Terminal:
    """holdstill on a terminal of its own, and what appears there."""

    def __init__(self, site: Site, *arguments: str) -> None:
        """Start it; the terminal is its controlling one, so that Ctrl-C works."""
        site.configure()
        self.shown = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execve(  # noqa: S606 - in the child that has the terminal
                HOLDSTILL[0], [*HOLDSTILL, *arguments], self._environ(site)
            )
        os.set_blocking(self.descriptor, False)

    @staticmethod
    def _environ(site: Site) -> dict[str, str]:
        return {**site.environ(), "TERM": "xterm", "COLUMNS": "250", "LINES": "30"}

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.descriptor, keys)

    def shows(self, text: str) -> bool:
        """Whether a text has appeared."""
        with contextlib.suppress(OSError):  # nothing there now, or nobody there any more
            while data := os.read(self.descriptor, 1 << 16):
                self.shown += data
        return text.encode() in self.shown

    def close(self) -> None:
        """Close the window: the kernel sends SIGHUP, and nothing can be read or shown any more."""
        os.close(self.descriptor)
        self.descriptor = -1

    def end(self) -> int:
        """Return the exit status."""
        ended: list[int] = []

        def has_ended() -> bool:
            self.shows("")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            ended.append(os.waitstatus_to_exitcode(status))
            return pid != 0

        wait_until(has_ended)
        if self.descriptor >= 0:
            os.close(self.descriptor)
        return ended[-1]


@each_restic
def test_a_terminal_shows_a_moving_display(site: Site) -> None:
    """Job, repository, share, files and bytes while it goes on; the phases and the summary stay."""
    site.slow_down()
    site.install_restic(options="--limit-upload 8000")
    terminal = Terminal(site, "backup")
    wait_until(lambda: terminal.shows("data → main"))
    assert terminal.end() == 0
    shown = terminal.shown.decode()
    for text in (r"\d%", r"\d/\d files", "10.0 MiB", "holdstill: data: backing up to main"):
        assert re.search(text, shown)
    last_drawn = shown.rindex("data → main")
    assert "data: ok in " in shown[last_drawn:]
    assert "\x1b[2K" not in shown[shown.index("data: ok in ") :]


def test_results_reach_a_file_while_a_terminal_shows_the_rest(site: Site) -> None:
    """`holdstill backup --json > FILE`: the display on standard error takes nothing from it."""
    site.configure()
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*HOLDSTILL, "backup", "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**site.environ(), "TERM": "xterm"},
        check=True,
    )
    os.close(theirs)
    os.close(ours)
    assert json.loads(done.stdout)["outcome"] == "ok"


def test_ctrl_c_on_a_terminal(site: Site) -> None:
    """The key reaches holdstill and restic alike: 130, in time, and the terminal is whole again."""
    site.slow_down()
    terminal = Terminal(site, "backup")
    wait_until(lambda: terminal.shows("data → main"))
    with within(5):
        terminal.type(b"\x03")
        assert terminal.end() == 128 + signal.SIGINT
    assert b"data: interrupted" in terminal.shown
    assert b"Traceback" not in terminal.shown
    assert terminal.shown.count(b"\x1b[?25h") == terminal.shown.count(b"\x1b[?25l")


def test_a_terminal_that_is_closed(site: Site, disk: Disk) -> None:
    """129, in time; restic was asked to stop, and nothing stays."""
    site.slow_down()
    terminal = Terminal(site, "backup")
    wait_until(lambda: terminal.shows("data → main") and site.writing())
    with within(5):
        terminal.close()
        assert terminal.end() == 128 + signal.SIGHUP
    assert (disk.runs(), os.listdir(site.path("main/locks"))) == ([], [])
    (run,) = [json.loads(line) for line in site.run("history", "--json").stdout.splitlines()]
    assert run["outcome"] == "interrupted"
