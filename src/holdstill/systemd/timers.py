"""When systemd's timers have started jobs last, and when they will next."""

from __future__ import annotations

import os
from datetime import datetime

from holdstill import process
from holdstill.errors import CommandNotExecutableError, CommandNotFoundError
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PROPERTIES = "Id,ActiveState,NextElapseUSecRealtime,LastTriggerUSec,UnitFileState"
_WORDS_OF_A_TIME = 4
_NOT_FOR_LONG = ("disabled", "linked", "enabled-runtime", "linked-runtime")


class Timer(NamedTuple):
    """What an active timer says of itself."""

    next_start: datetime | None
    last_start: datetime | None
    stays: bool = True
    """Whether it is active again after the machine's next start."""


def timer_name(job: str) -> str:
    """Return the name of a job's timer."""
    return f"holdstill@{job}.timer"


def timers(jobs: Sequence[str]) -> dict[str, Timer]:
    """Return the active timers of jobs, by job: none where systemd is not in charge.

    Starts one process.
    """
    found = timers_named([timer_name(job) for job in jobs])
    return {job: found[timer_name(job)] for job in jobs if timer_name(job) in found}


def timers_named(names: Sequence[str]) -> dict[str, Timer]:
    """Return the active timers of these names: none where systemd is not in charge."""
    # In another zone or language, systemctl would print times that cannot be read back.
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    argv = ["systemctl", "show", f"--property={_PROPERTIES}", "--", *names]
    try:
        answer = process.capture(argv, environment)
    except (CommandNotFoundError, CommandNotExecutableError):
        return {}
    return parse(os.fsdecode(answer.stdout))


def parse(shown: str) -> dict[str, Timer]:
    """Return the active timers, by name, in what `systemctl show` prints: a block for each."""
    return {
        block["Id"]: Timer(
            _time(block.get("NextElapseUSecRealtime", "")),
            _time(block.get("LastTriggerUSec", "")),
            block.get("UnitFileState", "") not in _NOT_FOR_LONG,
        )
        for block in blocks(shown)
        if block.get("ActiveState") == "active" and "Id" in block
    }


def blocks(shown: str) -> Iterator[Mapping[str, str]]:
    """Yield each unit's properties in what `systemctl show` prints."""
    for block in shown.split("\n\n"):
        yield {name: value for name, _, value in (s.partition("=") for s in block.splitlines())}


def _time(text: str) -> datetime | None:
    """Return a time such as `Mon 2026-11-23 03:00:00 UTC`; None for what is none."""
    words = text.split()
    if len(words) != _WORDS_OF_A_TIME or words[3] != "UTC":
        return None
    return datetime.fromisoformat(f"{words[1]}T{words[2]}+00:00")
