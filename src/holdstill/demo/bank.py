"""A bank in an SQLite database: money moves all the time, and its sum never changes.

As a program (`python -m holdstill.demo.bank FILE`) it moves money in one bank until it is killed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass

ACCOUNTS = 24_000
OPENING_BALANCE = 1_000
TOTAL = ACCOUNTS * OPENING_BALANCE

_STATEMENT_BYTES = 1_000
"""What makes an account as large as a real row, and the file some 25 MB."""
_FAR_APART = 200
"""Money moves between the first and the last so many accounts: the two ends of the file."""
_LARGEST_TRANSFER = 100
_PAUSE_SECONDS = 0.001
_LONGEST_SECONDS = 600
"""No bank stays open longer, whatever becomes of the demonstration."""

_CHANGE_COUNTER = 24
"""Where SQLite counts the transactions of a rollback-journal database (its file format, 1.3.9)."""

_CREATE = (
    "CREATE TABLE accounts"
    " (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, statement BLOB NOT NULL)"
)
_FILL = """
WITH RECURSIVE numbers(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < ?)
INSERT INTO accounts SELECT id, ?, randomblob(?) FROM numbers
"""
_MOVE = "UPDATE accounts SET balance = balance + ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in a bank."""

    malformed: str = ""
    """SQLite's words where the file is no sound database."""
    off_by: int = 0
    """Money that appeared out of nothing, or, negative, was lost."""

    @property
    def right(self) -> bool:
        """Whether the bank is as it was at some instant."""
        return not self.malformed and not self.off_by


def found(path: str) -> None:
    """Make a bank, safely on the disk."""
    with closing(sqlite3.connect(path)) as bank, bank:
        bank.execute(_CREATE)
        bank.execute(_FILL, (ACCOUNTS, OPENING_BALANCE, _STATEMENT_BYTES))


def transfers(path: str) -> int:
    """Return how many transactions the file has seen, without opening it as a database."""
    with open(path, "rb") as file:
        return int.from_bytes(os.pread(file.fileno(), 4, _CHANGE_COUNTER), "big")


def audit(path: str) -> Audit:
    """Open a bank as after a crash, so that SQLite rolls an open transaction back, and look at it.

    A file that is not there is malformed, too.
    """
    # mode=rw: without it a missing file would be made, and found sound.
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as bank:
        try:
            (verdict,) = bank.execute("PRAGMA integrity_check(1)").fetchone()
            (total,) = bank.execute("SELECT total(balance) FROM accounts").fetchone()
        except sqlite3.DatabaseError as error:
            return Audit(malformed=str(error))
    return Audit(malformed="" if verdict == "ok" else verdict, off_by=int(total) - TOTAL)


def _move_money(path: str) -> None:
    """Move money, every transfer a transaction that is on the disk before the next begins."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    with closing(sqlite3.connect(path, isolation_level=None)) as bank:
        bank.execute("PRAGMA synchronous = full")
        while time.monotonic() < deadline:
            _transfer(bank)
            time.sleep(_PAUSE_SECONDS)


def _transfer(bank: sqlite3.Connection) -> None:
    first = random.randint(1, _FAR_APART)  # noqa: S311 - no secret
    last = ACCOUNTS + 1 - random.randint(1, _FAR_APART)  # noqa: S311
    amount = random.randint(1, _LARGEST_TRANSFER) * random.choice((-1, 1))  # noqa: S311
    bank.execute("BEGIN IMMEDIATE")
    bank.execute(_MOVE, (amount, first))
    bank.execute(_MOVE, (-amount, last))
    bank.execute("COMMIT")


if __name__ == "__main__":
    _move_money(sys.argv[1])
