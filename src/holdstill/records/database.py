"""The file of the history: opened safely, brought up to date, set aside when it is corrupt."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from holdstill.errors import HistoryError, NotPermittedError, shown
from holdstill.linux import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "history.sqlite"
WAIT_SECONDS = 1.0
"""For other writers, each of which takes milliseconds; a backup waits no longer for its record."""

MIGRATIONS = (
    (
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL UNIQUE,
            job TEXT NOT NULL,
            started TEXT NOT NULL,
            finished TEXT,
            outcome TEXT,  -- NULL while it goes on, or for ever where it died
            phases TEXT NOT NULL DEFAULT '[]',
            record TEXT
        )""",
        "CREATE INDEX runs_by_job ON runs (job)",
        "CREATE INDEX runs_by_outcome ON runs (job, outcome)",
        "CREATE INDEX runs_by_time ON runs (started)",
        # The last backup of each job in each repository that is ok and not suspicious.
        """CREATE TABLE sizes (
            job TEXT,
            repository TEXT,
            files INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            PRIMARY KEY (job, repository)
        ) WITHOUT ROWID""",
    ),
    ("ALTER TABLE sizes ADD COLUMN finished TEXT",),  # of the run that made that backup
    (
        # How the last prune and the last check of each job ended in each repository.
        """CREATE TABLE maintenance (
            job TEXT,
            kind TEXT,
            repository TEXT,
            finished TEXT NOT NULL,
            message TEXT NOT NULL,  -- empty where it was ok
            remedy TEXT NOT NULL,
            PRIMARY KEY (job, kind, repository)
        ) WITHOUT ROWID""",
    ),
)
"""The statements that lead from each version of the schema to the next (`user_version`)."""

_SUFFIXES = ("", "-wal", "-shm")
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY_CODE = 0xFF
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEVER_FOLLOW = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SEE_KEY = "see 'state-directory' in the configuration"


def open_to_write(directory: str) -> sqlite3.Connection:
    """Open the history in a state directory, made or brought up to date if need be.

    Waits for other writers for WAIT_SECONDS at most, here and in each statement. Raises
    HistoryError, OSError, sqlite3.Error.
    """
    os.makedirs(directory, 0o700, exist_ok=True)
    with _guarded(directory) as own:
        os.close(os.open(FILE, os.O_RDWR | os.O_CREAT | _NEVER_FOLLOW, 0o600, dir_fd=own))
        _refuse_foreign_files(own, directory)
        connection = _connect(directory)
        try:
            _bring_up_to_date(connection, directory)
        except BaseException:
            connection.close()
            raise
        return connection


def open_to_read(directory: str) -> sqlite3.Connection:
    """Open the history for queries; an empty one where there is none yet.

    Raises HistoryError, NotPermittedError.
    """
    path = os.path.join(directory, FILE)
    try:
        with _opened(directory) as own:
            os.close(os.open(FILE, os.O_RDONLY | _NEVER_FOLLOW, dir_fd=own))
            _refuse_foreign_files(own, directory)
        connection = _connect_to_read(directory)
        if _version(connection, directory) < len(MIGRATIONS):
            connection.close()
            connection = open_to_write(directory)
        connection.execute("PRAGMA query_only = on")
    except FileNotFoundError:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _migrate(connection)
    except PermissionError as error:
        message = f"cannot read the history {shown(path)}: {error.strerror}"
        raise NotPermittedError(message, remedy="run it with sudo") from error
    except (OSError, sqlite3.Error) as error:
        raise unreadable(directory, error) from error
    return connection


def unreadable(directory: str, error: OSError | sqlite3.Error) -> HistoryError:
    """Return what to say when a query fails."""
    path = os.path.join(directory, FILE)
    remedy = "the next run sets it aside and begins a new one" if is_corrupt(error) else _SEE_KEY
    return HistoryError(
        f"cannot read the history {shown(path)}: {reason(directory, error)}", remedy=remedy
    )


def damaged(directory: str, what: str) -> HistoryError:
    """Return what to say when SQLite reads what nobody has written there."""
    path = os.path.join(directory, FILE)
    return HistoryError(
        f"cannot read the history {shown(path)}: what it says of {what} is damaged",
        remedy="move it away: the next run begins a new one",
    )


def reason(directory: str, error: Exception) -> str:
    """Return why something went wrong with the file, in few words."""
    if isinstance(error, sqlite3.Error) and not is_corrupt(error) and _is_full(directory):
        return os.strerror(errno.ENOSPC)  # for which SQLite has several words, few of them clear
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _is_full(directory: str) -> bool:
    with suppress(OSError):
        return os.statvfs(directory).f_bavail == 0
    return False


def is_corrupt(error: Exception) -> bool:
    """Whether the file is damaged, or no database at all."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & _PRIMARY_CODE in _CORRUPT


def set_aside(directory: str) -> str:
    """Rename a corrupt database, so that a new one can be begun; return its new path.

    Raises OSError, HistoryError.
    """
    name = f"{FILE}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with _guarded(directory) as own:
        for suffix in reversed(_SUFFIXES):
            with suppress(FileNotFoundError):
                os.rename(FILE + suffix, name + suffix, src_dir_fd=own, dst_dir_fd=own)
    return os.path.join(directory, name)


@contextmanager
def _guarded(directory: str) -> Iterator[int]:
    """Keep others from making, migrating or renaming the file meanwhile."""
    with _opened(directory) as own:
        if not locks.wait_for(own, WAIT_SECONDS):
            raise HistoryError("another process has locked its directory for too long")
        yield own


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    """Open a state directory in which nobody else can put or exchange a file."""
    try:
        own = os.open(directory, _DIRECTORY)
    except NotADirectoryError:
        raise HistoryError(
            f"{shown(directory)} is no directory, or a symbolic link to one", remedy=_SEE_KEY
        ) from None
    try:
        found = os.fstat(own)
        if not _is_ours(found):
            mode = stat.filemode(found.st_mode)
            raise HistoryError(
                f"{shown(directory)} is not safe: owner {found.st_uid}, mode {mode}",
                remedy="make it root's, and writable for nobody else",
            )
        yield own
    finally:
        os.close(own)


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in {0, os.geteuid()} and not found.st_mode & _OTHERS_WRITE


def _refuse_foreign_files(own: int, directory: str) -> None:
    """See that SQLite will open what is ours alone: it was put there before we owned the place."""
    for suffix in _SUFFIXES:
        name = FILE + suffix
        try:
            found = os.stat(name, dir_fd=own, follow_symlinks=False)
        except FileNotFoundError:
            continue
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not (plain and _is_ours(found)):
            path, mode = shown(os.path.join(directory, name)), stat.filemode(found.st_mode)
            raise HistoryError(
                f"{path} is not safe: owner {found.st_uid}, mode {mode}",
                remedy="remove it, or make it a file that is root's, with mode 0600",
            )


def _connect(directory: str) -> sqlite3.Connection:
    path = os.path.join(directory, FILE)
    return sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)


def _connect_to_read(directory: str) -> sqlite3.Connection:
    """Open the file, also where there is no room for what SQLite puts beside it meanwhile."""
    connection = _connect(directory)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError as error:
        log = os.path.join(directory, FILE + "-wal")
        has_rows = os.path.exists(log) and os.path.getsize(log) > 0
        if has_rows or error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY:
            raise
        connection.close()
        path = os.path.join(directory, FILE)
        for character in "%?#":
            path = path.replace(character, f"%{ord(character):02x}")
        uri = f"file:{path}?immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, directory: str) -> None:
    if _version(connection, directory) < len(MIGRATIONS):
        connection.execute("PRAGMA journal_mode = wal")
        _migrate(connection)


def _version(connection: sqlite3.Connection, directory: str) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        path = shown(os.path.join(directory, FILE))
        raise HistoryError(
            f"{path} was written by a newer holdstill (version {version} of its schema)",
            remedy="update holdstill, or move the file away",
        )
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    """Run what is missing, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")
