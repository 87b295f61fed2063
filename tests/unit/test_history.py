"""The history: one file, whatever has happened to it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from holdstill.errors import HistoryError, HoldstillError, JobActiveError
from holdstill.jobs.lock import JobLock, is_held, job_lock
from holdstill.linux.signals import Signals
from holdstill.records import database
from holdstill.records.history import History
from holdstill.records.past import past
from holdstill.records.record import (
    Failure,
    MaintenanceRecord,
    Outcome,
    Phase,
    PhaseRecord,
    RepositoryResult,
    RunRecord,
    Size,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
OK = RepositoryResult("nas", Outcome.OK, total_files=10, total_bytes=1000, data_added=7)


class State:
    """A state directory, and what a run says of it."""

    def __init__(self, path: str) -> None:
        """Begin with one that does not exist."""
        self.path = path
        self.file = os.path.join(path, database.FILE)
        self.warnings: list[str] = []

    def history(self, days: int = 400) -> History:
        """Open it for a run."""
        return History(self.path, days, self.warnings.append)

    def note(
        self, run_id: str, job: str = "home", started: datetime = NOW, outcome: str = "ok"
    ) -> None:
        """Put a run on record."""
        history = self.history()
        history.begin(job, run_id, started)
        history.close(_record(run_id, job, started)._replace(outcome=Outcome(outcome)))

    def outcomes(self, job: str = "home") -> list[str | None]:
        """Return how the runs of a job ended."""
        with past(self.path) as runs:
            return [run.outcome for run in runs.last(job, 100)]

    def read(self) -> None:
        """Read what is known of a job."""
        with past(self.path) as runs:
            runs.last("home", 100)
            runs.good_backups("home")
            runs.failed_maintenance("home")

    def execute(self, *statements: str) -> None:
        """Change the file from outside."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)


def _record(run_id: str, job: str = "home", started: datetime = NOW) -> RunRecord:
    finished = started + timedelta(seconds=5)
    return RunRecord(job, run_id, Outcome.OK, 0, started, finished, repositories=(OK,))


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Lend a state directory that is not there yet."""
    return State(str(tmp_path / "state"))


def test_an_open_run_has_no_outcome(state: State) -> None:
    """Its phases are there as they begin; when it ends, all of its record is."""
    history = state.history()
    history.begin("home", "1", NOW)
    history.note_phases([PhaseRecord(Phase.PLANNING, "", NOW)])
    with past(state.path) as runs:
        (run,) = runs.last("home", 10)
    assert (run.outcome, run.finished, run.seconds) == (None, None, None)
    assert [phase["name"] for phase in run.record["phases"]] == ["planning"]
    history.close(_record("1"))
    with past(state.path) as runs:
        (run,) = runs.last("home", 10)
    assert (run.outcome, run.seconds, run.added, run.size) == ("ok", 5.0, 7, 1000)
    assert state.warnings == []


def test_a_failed_maintenance_stays_until_one_is_well(state: State) -> None:
    """Of each kind and repository the last counts; no other job is told."""
    bad = MaintenanceRecord("home", "check", "nas", NOW, Failure("pack 1 is damaged", "repair it"))
    prune = bad._replace(kind="prune", repository="away")
    for done in (bad._replace(finished=NOW - timedelta(days=1)), bad, prune):
        state.history().note_maintenance(done)
    with past(state.path) as runs:
        assert runs.failed_maintenance("home") == [bad, prune]
        assert runs.failed_maintenance("work") == []
    state.history().note_maintenance(bad._replace(failure=None))
    with past(state.path) as runs:
        assert runs.failed_maintenance("home") == [prune]


def test_who_begins_finds_the_dead(state: State) -> None:
    """The job's open runs are interrupted; those of other jobs go on."""
    for job in ("home", "work"):
        state.history().begin(job, f"dead-{job}", NOW)
    state.note("2")
    assert state.outcomes("home") == ["interrupted", "ok"]
    assert state.outcomes("work") == [None]


def test_a_run_that_ends_late_has_the_last_word(state: State) -> None:
    """Whatever was thought of it meanwhile."""
    slow = state.history()
    slow.begin("home", "1", NOW)
    state.note("2")
    slow.close(_record("1"))
    assert state.outcomes() == ["ok", "ok"]


def test_old_runs_go_and_the_last_success_stays(state: State) -> None:
    """By the day of the run that ends; a job that has not succeeded for years still shows when."""
    state.note("1", "rare", NOW - timedelta(days=900))
    state.note("2", "rare", NOW - timedelta(days=800), "failed")
    state.note("3", "home", NOW - timedelta(days=401))
    state.note("4", "home", NOW - timedelta(days=399))
    state.note("5", "home", NOW)
    assert (state.outcomes("rare"), state.outcomes("home")) == (["ok"], ["ok", "ok"])


def test_the_last_size_is_that_of_a_good_backup(state: State) -> None:
    """Of the job, in the repository; neither a failed nor a suspicious one counts."""
    bad = (
        OK._replace(outcome=Outcome.PARTIAL, total_files=1),
        OK._replace(suspicious=True, total_files=2),
    )
    for number, result in enumerate((OK, *bad)):
        history = state.history()
        history.begin("home", str(number), NOW)
        history.close(_record(str(number))._replace(repositories=(result,)))
    history = state.history()
    history.begin("home", "9", NOW)
    assert history.last_size("home", "nas") == Size(10, 1000)
    assert history.last_size("home", "other") is history.last_size("work", "nas") is None


def test_a_skipped_run_is_not_the_last_that_tried(state: State) -> None:
    """It is on record though it was never begun."""
    state.note("1")
    state.history().close(_record("2")._replace(outcome=Outcome.SKIPPED))
    assert state.outcomes() == ["ok", "skipped"]
    with past(state.path) as runs:
        tried = runs.last_tried("home")
    assert tried is not None
    assert tried.run_id == "1"


def test_nothing_is_on_record_before_the_first_run(state: State) -> None:
    """And looking makes nothing."""
    assert state.outcomes() == []
    assert not os.path.exists(state.path)


def test_a_newer_history_is_left_alone(state: State) -> None:
    """One warning says so; whoever asks is told to update."""
    state.note("1")
    state.execute("PRAGMA user_version = 99")
    before = os.stat(state.file).st_mtime_ns
    state.note("2")
    (warning,) = state.warnings
    assert "newer holdstill" in warning
    with pytest.raises(HistoryError, match="newer holdstill"):
        state.outcomes()
    state.execute(f"PRAGMA user_version = {len(database.MIGRATIONS)}")
    assert (state.outcomes(), os.stat(state.file).st_mtime_ns >= before) == (["ok"], True)


@pytest.mark.parametrize("reads_first", [True, False])
def test_an_older_history_is_brought_up_to_date(
    state: State, monkeypatch: pytest.MonkeyPatch, reads_first: bool
) -> None:
    """Nothing of it is lost, whether a run or a reader comes first."""
    state.note("1")
    further = (*database.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN further TEXT",))
    monkeypatch.setattr(database, "MIGRATIONS", further)
    if reads_first:
        assert state.outcomes() == ["ok"]
    state.note("2")
    state.execute("SELECT further FROM runs")
    assert (state.outcomes(), state.warnings) == (["ok", "ok"], [])


def test_a_migration_is_done_wholly_or_not_at_all(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails changes nothing, and the backup goes on with a warning."""
    state.note("1")
    bad = ("ALTER TABLE runs ADD COLUMN further TEXT", "this is no SQL")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, bad))
    state.note("2")
    assert len(state.warnings) == 1
    monkeypatch.undo()
    assert state.outcomes() == ["ok"]
    with pytest.raises(sqlite3.OperationalError):
        state.execute("SELECT further FROM runs")


def _garbage(state: State) -> None:
    with open(state.file, "r+b") as file:
        file.write(b"garbage")


def _damaged_pages(state: State) -> None:
    """Leave the head as it is, and ruin every page behind it."""
    with open(state.file, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(state.file) - 4096))


def _cut_off(state: State) -> None:
    os.truncate(state.file, 6000)


@pytest.mark.parametrize("damage", [_garbage, _damaged_pages, _cut_off])
def test_a_corrupt_history_is_set_aside(state: State, damage: Callable[[State], None]) -> None:
    """A new one begins, with the run that found it; readers change nothing."""
    state.note("1")
    damage(state)
    with pytest.raises(HistoryError, match="cannot read the history"):
        state.outcomes()
    state.note("2")
    (warning,) = state.warnings
    assert "was corrupt" in warning
    assert state.outcomes() == ["ok"]
    (aside,) = {name.partition("Z")[0] for name in os.listdir(state.path) if ".corrupt-" in name}
    assert aside in warning


def test_a_history_that_is_corrupted_while_a_run_goes_on(state: State) -> None:
    """How it ended is in the new one."""
    state.note("0")
    history = state.history()
    history.begin("home", "1", NOW)
    with open(state.file, "r+b") as file, open(state.file + "-wal", "r+b") as log:
        file.write(b"x" * os.path.getsize(state.file))
        log.truncate(0)
    history.close(_record("1"))
    assert [text for text in state.warnings if "was corrupt" in text] == state.warnings
    assert state.outcomes()[-1] == "ok"


DAMAGES = (
    "UPDATE runs SET record = 'no JSON'",
    "UPDATE runs SET record = '[]'",
    "UPDATE runs SET record = '{}'",
    "UPDATE runs SET record = CAST(x'7bff' AS TEXT)",
    "UPDATE runs SET started = 'yesterday'",
    "UPDATE runs SET started = 7",
    "UPDATE runs SET outcome = 'splendid'",
    "UPDATE runs SET record = NULL, phases = '['",
    "UPDATE sizes SET finished = 'yesterday'",
    "INSERT INTO maintenance VALUES ('home', 'check', 'nas', 'yesterday', 'bad', '')",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_nobody_has_written(state: State, damage: str) -> None:
    """SQLite sees nothing wrong with it: the file is named, and a run takes no harm."""
    state.note("one")
    state.execute(damage)
    with pytest.raises(HistoryError, match=state.file):
        state.read()
    state.note("two")
    assert state.warnings == []


def test_a_writer_that_died_in_the_middle_leaves_nothing_half(state: State) -> None:
    """What it had begun is not there; the file and its log are taken over as they are."""
    state.note("1")
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(state.file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM runs")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    state.note("2")
    assert (state.outcomes(), state.warnings) == (["ok", "ok"], [])


def _symbolic_link(state: State) -> None:
    os.mkdir(state.path + ".real", 0o700)
    os.symlink(state.path + ".real", state.path)


def _shared_directory(state: State) -> None:
    os.mkdir(state.path)
    os.chmod(state.path, 0o720)


def _somebodys_file(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.symlink("/etc/passwd", state.file)


def _dangling_link(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.symlink(state.path + ".elsewhere", state.file)


def _linked_file(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.close(os.open(state.path + ".other", os.O_CREAT, 0o600))
    os.link(state.path + ".other", state.file)


def _somebodys_log(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.symlink("/etc/passwd", state.file + "-wal")


def _shared_file(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.close(os.open(state.file, os.O_CREAT, 0o600))
    os.chmod(state.file, 0o660)


def _pipe(state: State) -> None:
    os.mkdir(state.path, 0o700)
    os.mkfifo(state.file, 0o600)


@pytest.mark.parametrize(
    "trap",
    [
        _symbolic_link,
        _shared_directory,
        _somebodys_file,
        _dangling_link,
        _linked_file,
        _somebodys_log,
        _shared_file,
        _pipe,
    ],
)
def test_what_others_have_put_there_is_not_used(
    state: State, trap: Callable[[State], None]
) -> None:
    """Neither followed nor written: a warning for the run, an error for the reader."""
    trap(state)
    before = sorted(os.listdir(state.path))
    state.note("1")
    (warning,) = state.warnings
    assert state.path in warning
    assert not os.path.exists(state.path + ".elsewhere")
    assert sorted(os.listdir(state.path)) in (before, sorted([*before, database.FILE]))
    with pytest.raises(HoldstillError):
        state.outcomes()


def test_somebody_elses_directory_is_not_used(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root nothing can be given away: there it is this process that is another user's."""
    os.mkdir(state.path, 0o700)
    if os.geteuid() == 0:
        os.chown(state.path, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    state.note("1")
    assert "not safe: owner" in state.warnings[0]


def test_a_history_that_is_locked_is_waited_for_once(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each phase; and how the run ended is on record if the lock is gone by then."""
    state.note("1")
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.2)
    with closing(sqlite3.connect(state.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        history = state.history()
        history.begin("home", "2", NOW)
        for _ in range(50):
            history.note_phases([PhaseRecord(Phase.PLANNING, "", NOW)])
        assert time.monotonic() - began < 5
    (warning,) = state.warnings
    assert "locked" in warning
    history.close(_record("2"))
    assert state.outcomes() == ["ok", "ok"]


def test_who_has_the_directory_is_waited_for_a_moment(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody makes, migrates or renames the file beside another."""
    os.mkdir(state.path, 0o700)
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    other = os.open(state.path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    state.note("1")
    os.close(other)
    assert "has locked its directory" in state.warnings[0]
    assert os.listdir(state.path) == []


def test_a_figure_that_is_beyond_all_measure(state: State) -> None:
    """As a program in restic's place could print it: not on record, and no error."""
    history = state.history()
    history.begin("home", "1", NOW)
    huge = OK._replace(total_bytes=1 << 63)
    history.close(_record("1")._replace(repositories=(huge,)))
    assert len(state.warnings) == 1
    assert state.outcomes() == [None]


def test_writers_take_turns(state: State) -> None:
    """Many at once are all on record, and none has to be told so."""
    writers = [
        threading.Thread(target=state.note, args=(str(number), f"job{number}"))
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert state.warnings == []
    assert [state.outcomes(f"job{number}") for number in range(8)] == [["ok"]] * 8


def _lock(directory: str) -> AbstractContextManager[JobLock | None]:
    return job_lock([directory], "home", wait=0, signals=Signals(), say=print)


def test_a_run_has_its_lock_for_as_long_as_it_lives(tmp_path: Path) -> None:
    """Whoever looks sees it, without taking it, and a second run ends at once."""
    place = str(tmp_path)
    assert is_held([place], "home") is False
    with _lock(place):
        assert is_held([place], "home") is True
        with pytest.raises(JobActiveError), _lock(place):
            pass
    assert is_held([place], "home") is False
    with _lock(place):
        pass
