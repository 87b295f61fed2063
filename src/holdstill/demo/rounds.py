"""The course of the demonstration: the load, and the backups and restores in turn."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from holdstill.demo import bank
from holdstill.demo.stage import JOB, PYTHON, DemoError, set_stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from holdstill.demo.stage import Ended, Stage
    from holdstill.linux.signals import Signals

PLAIN = "plain restic"
HELD = "holdstill"

_BANKS = ("bank-a.db", "bank-b.db", "bank-c.db")
_INCOMPLETE = 3
"""restic's exit status for a backup that lacks a file, such as a journal that just vanished."""
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made while the banks were at work."""

    snapshot: str
    seconds: float
    said_ok: bool
    """Whether the program reported success."""


@dataclass(frozen=True, slots=True)
class Result:
    """A backup, and what its restore turned out to hold."""

    method: str
    backup: Backup
    audits: tuple[bank.Audit, ...]

    @property
    def right(self) -> bool:
        """Whether every bank was restored as it was at some instant."""
        return all(audit.right for audit in self.audits)


def play(rounds: int, signals: Signals, tell: Callable[[str], None]) -> Iterator[Result]:
    """Play the demonstration; yield each result as it is known, and tell what happens.

    This process is then in a mount namespace of its own, and stays there.
    Raises HoldstillError, Interrupted.
    """
    stage = set_stage(signals, tell)
    _open_banks(stage, tell)
    with _at_work(stage, tell) as check:
        for number in range(1, rounds + 1):
            for method, back_up in ((PLAIN, _back_up_live), (HELD, _back_up_held)):
                tell(f"Round {number} of {rounds}: {method} backs up the databases.")
                made = back_up(stage)
                check()
                yield Result(method, made, _restored(stage, made.snapshot))


def _open_banks(stage: Stage, tell: Callable[[str], None]) -> None:
    tell(
        f"Opening {len(_BANKS)} banks: SQLite databases of {bank.ACCOUNTS:,} accounts, 25 MB each. "
        f"The money in a bank is {bank.TOTAL:,} in all, and always will be."
    )
    for path in _banks(stage.disk.data):
        bank.found(path)
        stage.actors.stop_if_told()


def _banks(directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in _BANKS]


@contextmanager
def _at_work(stage: Stage, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Keep money moving in every bank; yields what raises DemoError if it does not."""
    before = _transfers(stage)
    with ExitStack() as stack:
        running = [
            stack.enter_context(stage.actors.beside(*PYTHON, bank.__name__, path))
            for path in _banks(stage.disk.data)
        ]
        while not all(now > then for now, then in zip(_transfers(stage), before, strict=True)):
            _check(running)
            stage.actors.stop_if_told()
            time.sleep(_POLL_SECONDS)
        tell("From now on money moves between accounts, each transfer safely written to the disk.")
        yield lambda: _check(running)


def _transfers(stage: Stage) -> list[int]:
    return [bank.transfers(path) for path in _banks(stage.disk.data)]


def _check(running: Sequence[Callable[[], bool]]) -> None:
    if not all(still() for still in running):
        message = "a bank stopped working, and without its transfers there is nothing to see"
        raise DemoError(message, remedy="it said above why")


def _back_up_live(stage: Stage) -> Backup:
    """Back up as people do it: restic reads the live files."""
    began = time.monotonic()
    ended = stage.actors.run(
        stage.restic, "backup", "--json", stage.disk.data, fine=(0, _INCOMPLETE)
    )
    seconds = time.monotonic() - began
    return Backup(str(_summary(ended)["snapshot_id"]), seconds, ended.status == 0)


def _back_up_held(stage: Stage) -> Backup:
    """Back up as the user will: with the command itself."""
    began = time.monotonic()
    ended = stage.actors.run(
        *(*PYTHON, "holdstill", "backup", JOB),
        *("--config", stage.config, "--json"),
    )
    seconds = time.monotonic() - began
    snapshot = _summary(ended)["repositories"][0]["snapshot_id"]
    return Backup(str(snapshot), seconds, said_ok=True)


def _summary(ended: Ended) -> dict[str, Any]:
    """Return the JSON object that a backup ends with."""
    found: dict[str, Any] = json.loads(ended.lines[-1])
    return found


def _restored(stage: Stage, snapshot: str) -> tuple[bank.Audit, ...]:
    """Restore a backup with restic into a new directory, and audit every bank in it."""
    target = f"{stage.disk.rest}/restored"
    stage.actors.run(stage.restic, "restore", snapshot, "--target", target)
    audits = []
    for path in _banks(target + stage.disk.data):
        audits.append(bank.audit(path))
        stage.actors.stop_if_told()
    shutil.rmtree(target)
    return tuple(audits)
