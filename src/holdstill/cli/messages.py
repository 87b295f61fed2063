"""What is said on standard error: one shape for all of it.

Where standard error is systemd's journal, each message is an entry with its priority, and with the
job and the run that it is about.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdstill.errors import HoldstillError

ERROR, WARNING, INFO = 3, 4, 6
"""Priorities, those of syslog(3)."""

_NOTHING: Mapping[str, str] = {}


def say(text: str, priority: int = INFO, fields: Mapping[str, str] = _NOTHING) -> None:
    """Say it; where nobody can hear it any more, the run goes on in silence."""
    if is_journal(2):
        from holdstill.systemd import journal

        if journal.send(text, priority, fields):
            return
        text = "\n".join(f"<{priority}>{line}" for line in text.split("\n"))  # sd-daemon(3)
    else:
        text = f"holdstill: {text}"
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end


def is_journal(descriptor: int) -> bool:
    """Whether what is written there goes into systemd's journal."""
    if "JOURNAL_STREAM" not in os.environ:
        return False
    from holdstill.systemd import journal

    return journal.takes(descriptor)


def fields_of(job: str, run_id: str) -> dict[str, str]:
    """Return what the journal is told of the run that a message is about."""
    return {"HOLDSTILL_JOB": job, "HOLDSTILL_RUN_ID": run_id}


def warn(text: str) -> None:
    """Say what the user should know and the run goes on despite."""
    say(f"warning: {text}", WARNING)


def say_failure(message: str, remedy: str, fields: Mapping[str, str] = _NOTHING) -> None:
    """Say what happened and, on a line of its own, what to do."""
    say(f"error: {message}" + (f"\n  {remedy}" if remedy else ""), ERROR, fields)


def say_error(error: HoldstillError) -> None:
    """Say what an error says, and what happened on top of it."""
    say_failure(error.message, error.remedy)
    for note in error.notes:
        say_failure(note, "")
