"""Every run, noted as it goes: what a run that dies leaves is an open row, never an ok one."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from holdstill.errors import HistoryError, shown
from holdstill.records.database import FILE, is_corrupt, open_to_write, reason, set_aside
from holdstill.records.json_text import text_of
from holdstill.records.record import Size, as_json, instant_text, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from holdstill.records.record import MaintenanceRecord, PhaseRecord, RunRecord

T = TypeVar("T")
Statement = tuple[str, tuple[object, ...]]

_INTERRUPT = "UPDATE runs SET outcome = 'interrupted' WHERE job = ? AND outcome IS NULL"
_BEGIN = "INSERT INTO runs (run_id, job, started) VALUES (?, ?, ?)"
_NOTE_PHASES = "UPDATE runs SET phases = ? WHERE run_id = ?"
_CLOSE = """
INSERT INTO runs (run_id, job, started, finished, outcome, phases, record)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET
    finished = excluded.finished, outcome = excluded.outcome,
    phases = excluded.phases, record = excluded.record
"""
_SIZE = "SELECT files, bytes FROM sizes WHERE job = ? AND repository = ?"
_NOTE_SIZE = "INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?, ?)"
_NOTE_MAINTENANCE = "INSERT OR REPLACE INTO maintenance VALUES (?, ?, ?, ?, ?, ?)"
# The last success of a job stays, however long ago.
_FORGET = """
DELETE FROM runs WHERE started < ? AND number NOT IN
    (SELECT max(number) FROM runs WHERE outcome = 'ok' GROUP BY job)
"""
_DURABLE = "PRAGMA synchronous = full"
_QUICK = "PRAGMA synchronous = normal"
"""A power cut may take the last of it back: a run that has begun still has."""


class History:
    """One run's access to the history.

    Nothing here raises or waits long: what cannot be noted is said through `warn`, and the backup
    goes on.
    """

    def __init__(self, directory: str, days: int, warn: Callable[[str], None]) -> None:
        """Note in a state directory, for so many days, from `begin` on."""
        self._directory = directory
        self._days = days
        self._warn = warn
        self._connection: sqlite3.Connection | None = None
        self._said: set[str] = set()
        self._run_id = ""

    def begin(self, job: str, run_id: str, started: datetime) -> None:
        """Note that a run has begun, which holds its job's lock: earlier ones of it are dead."""
        self._run_id = run_id
        row = (run_id, job, instant_text(started))
        self._try(lambda: self._write([(_INTERRUPT, (job,)), (_BEGIN, row)]))

    def note_phases(self, phases: Sequence[PhaseRecord]) -> None:
        """Note how far the run is."""
        self._ask(_NOTE_PHASES, (_json(phases), self._run_id))

    def last_size(self, job: str, repository: str) -> Size | None:
        """Return the size of the last backup that was ok and not suspicious, where it is known."""
        found = self._ask(_SIZE, (job, repository))
        return Size(*found) if found else None

    def close(self, record: RunRecord) -> None:
        """Note how the run ended, also one that was never begun, and forget what is too old."""
        oldest = record.finished - timedelta(days=self._days)
        statements = [*closing_statements(record), (_FORGET, (instant_text(oldest),))]
        self._try(lambda: self._write(statements))
        self._disconnect()

    def note_maintenance(self, done: MaintenanceRecord) -> None:
        """Note how a prune or a check ended, in place of the last one."""
        failure = done.failure or ("", "")
        row = (done.job, done.kind, done.repository, instant_text(done.finished), *failure)
        self._try(lambda: self._write([(_NOTE_MAINTENANCE, row)]))
        self._disconnect()

    def _ask(self, statement: str, values: Sequence[object]) -> tuple[int, ...] | None:
        """Execute one statement, unless the history has failed this run already."""
        if self._connection is None:
            return None
        return self._try(lambda: self._connected().execute(statement, values).fetchone())

    def _write(self, statements: Sequence[Statement]) -> None:
        """Execute all or none, so that no power cut can undo them."""
        database = self._connected()
        database.execute(_DURABLE)
        database.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            database.execute(statement, values)
        database.execute("COMMIT")
        database.execute(_QUICK)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_to_write(self._directory)
        return self._connection

    def _disconnect(self) -> None:
        """Close the file; what was begun and not committed is undone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _try(self, action: Callable[[], T]) -> T | None:
        """Do what may fail; after a failure there is no connection.

        A corrupt database is set aside, and a new one has a try.
        """
        try:
            try:
                return action()
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                self._begin_anew(error)
                return action()
        except (OSError, OverflowError, sqlite3.Error, HistoryError) as error:
            self._disconnect()
            path, why = os.path.join(self._directory, FILE), reason(self._directory, error)
            self._say(f"the history of runs, {shown(path)}, cannot be written: {why}")
        return None

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        self._disconnect()
        aside = shown(set_aside(self._directory))
        self._say(f"the history of runs was corrupt ({error}): it is {aside} now, and a new begins")

    def _say(self, text: str) -> None:
        """Warn, once of each thing: what fails at the beginning often fails at the end, too."""
        if text not in self._said:
            self._said.add(text)
            self._warn(text)


def closing_statements(record: RunRecord) -> Iterator[Statement]:
    """Yield what puts a run that has ended on record."""
    started, finished = instant_text(record.started), instant_text(record.finished)
    begun = (record.run_id, record.job, started)
    yield _CLOSE, (*begun, finished, record.outcome, _json(record.phases), as_json(record))
    for result in record.repositories:
        if result.is_good:
            size = (result.total_files, result.total_bytes)
            yield _NOTE_SIZE, (record.job, result.name, *size, finished)
        if result.retention is not None and result.retention.has_pruned:
            yield _NOTE_MAINTENANCE, (record.job, "prune", result.name, finished, "", "")


def _json(phases: Sequence[PhaseRecord]) -> str:
    return text_of(plain(tuple(phases)))
