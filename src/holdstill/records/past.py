"""What the history says of the runs that have been."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime

from holdstill.errors import shown
from holdstill.records.database import damaged, open_to_read, unreadable
from holdstill.records.json_text import value_of
from holdstill.records.record import Failure, MaintenanceRecord, Outcome, RunRecord, plain
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_COLUMNS = "SELECT run_id, job, started, outcome, phases, record FROM runs"
_LAST = f"{_COLUMNS} WHERE job = ? ORDER BY number DESC LIMIT ?"
_LAST_OF_ALL = f"{_COLUMNS} ORDER BY number DESC LIMIT ?"
_LAST_TRIED = f"""{_COLUMNS} WHERE job = ? AND outcome IS NOT 'skipped'
ORDER BY number DESC LIMIT 1"""
_LAST_ENDED = f"""{_COLUMNS} WHERE job = ? AND outcome NOT NULL AND outcome != 'skipped'
ORDER BY number DESC LIMIT 1"""
_GOOD = "SELECT repository, finished FROM sizes WHERE job = ? AND finished NOT NULL"
_FAILED_MAINTENANCE = """SELECT kind, repository, finished, message, remedy FROM maintenance
WHERE job = ? AND message != ''"""
_LAST_OK = f"{_COLUMNS} WHERE job = ? AND outcome = 'ok' ORDER BY number DESC LIMIT ?"

_READ = {"finished", "phases", "repositories", "warnings", "failure"}
"""What every record has had, and is asked for."""


class PastRun(NamedTuple):
    """A run that is on record, in full or as far as it came."""

    run_id: str
    job: str
    started: datetime
    outcome: Outcome | None
    """None where it goes on or has died since."""
    record: Mapping[str, Any]
    """As `backup --json` prints it; of a run that did not end, what is known."""

    @property
    def finished(self) -> datetime | None:
        """When it ended, where that is known."""
        text = self.record["finished"]
        return None if text is None else datetime.fromisoformat(text)

    @property
    def seconds(self) -> float | None:
        """How long it took, where that is known."""
        return None if self.finished is None else (self.finished - self.started).total_seconds()

    @property
    def added(self) -> int:
        """Bytes added to all repositories together."""
        return sum(result["data_added"] for result in self.record["repositories"])

    @property
    def size(self) -> int:
        """Bytes that its largest backup holds."""
        return max((result["total_bytes"] for result in self.record["repositories"]), default=0)

    @property
    def failures(self) -> list[Mapping[str, str]]:
        """Why it did not end well, each with `message` and `remedy`."""
        results = self.record["repositories"]
        retentions = [result["retention"] for result in results if result["retention"]]
        return [one["failure"] for one in (self.record, *results, *retentions) if one["failure"]]

    def ended_as(self, outcome: str) -> PastRun:
        """Return a run that did not end with what is known by now of how it stands."""
        return self._replace(record={**self.record, "outcome": outcome})


class Past:
    """The history, open for queries. They raise HistoryError."""

    def __init__(self, directory: str, database: sqlite3.Connection) -> None:
        """Take over the database in a state directory; `past` opens it."""
        self._directory = directory
        self._database = database

    def check(self) -> None:
        """Read all of the file."""
        try:
            (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            raise unreadable(self._directory, error) from error
        if found != "ok":
            damage = sqlite3.DatabaseError(found)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise unreadable(self._directory, damage)

    def last(self, job: str, count: int) -> list[PastRun]:
        """Return a job's last runs, the oldest first."""
        return self._query(_LAST, (job, count))

    def last_of_all(self, count: int) -> list[PastRun]:
        """Return the last runs of all jobs, the oldest first."""
        return self._query(_LAST_OF_ALL, (count,))

    def last_tried(self, job: str) -> PastRun | None:
        """Return a job's last run that was not skipped."""
        return self._first(_LAST_TRIED, job)

    def last_ended(self, job: str) -> PastRun | None:
        """Return a job's last run that goes on no more and was not skipped."""
        return self._first(_LAST_ENDED, job)

    def good_backups(self, job: str) -> dict[str, datetime]:
        """Return for each repository when the last backup was made that is ok and no suspect."""
        rows = self._rows(_GOOD, (job,))
        try:
            return {name: datetime.fromisoformat(text) for name, text in rows}
        except (TypeError, ValueError) as error:
            raise damaged(self._directory, f"the backups of job {shown(job)}") from error

    def failed_maintenance(self, job: str) -> list[MaintenanceRecord]:
        """Return the last prunes and checks of a job that have failed, at most one of each kind."""
        try:
            return [
                MaintenanceRecord(job, kind, name, datetime.fromisoformat(finished), Failure(*why))
                for kind, name, finished, *why in self._rows(_FAILED_MAINTENANCE, (job,))
            ]
        except (TypeError, ValueError) as error:
            raise damaged(self._directory, f"the maintenance of job {shown(job)}") from error

    def last_ok(self, job: str, count: int) -> list[PastRun]:
        """Return a job's last successes, the oldest first."""
        return self._query(_LAST_OK, (job, count))

    def _first(self, query: str, job: str) -> PastRun | None:
        found = self._query(query, (job,))
        return found[0] if found else None

    def _query(self, query: str, values: Sequence[object]) -> list[PastRun]:
        return [self._past_run(row) for row in reversed(self._rows(query, values))]

    def _past_run(self, row: Sequence[Any]) -> PastRun:
        try:
            return _past_run(*row)
        except (TypeError, ValueError) as error:
            raise damaged(self._directory, f"the run {shown(str(row[0]))}") from error

    def _rows(self, query: str, values: Sequence[object]) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise unreadable(self._directory, error) from error


@contextmanager
def past(directory: str) -> Iterator[Past]:
    """Open the history in a state directory; raises HistoryError, NotPermittedError."""
    with closing(open_to_read(directory)) as database:
        yield Past(directory, database)


def _past_run(  # noqa: PLR0913, PLR0917 - a row
    run_id: str, job: str, started: str, outcome: str | None, phases: str, record: str | None
) -> PastRun:
    begun = datetime.fromisoformat(started)
    known = of_dead_run(job, run_id, begun, phases) if record is None else value_of(record)
    if not (isinstance(known, dict) and known.keys() >= _READ):
        message = "not what a run leaves"
        raise ValueError(message)
    return PastRun(run_id, job, begun, Outcome(outcome) if outcome else None, known)


def of_dead_run(job: str, run_id: str, started: datetime, phases: str = "[]") -> dict[str, Any]:
    """Return the record that a run would have made of itself."""
    record = plain(RunRecord(job, run_id, Outcome.INTERRUPTED, 0, started, started))
    return {**record, "exit_status": None, "finished": None, "phases": value_of(phases)}
