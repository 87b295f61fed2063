"""What is said on standard error: one shape for all of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdstill.errors import HoldstillError


def say(text: str) -> None:
    """Print on standard error; where nobody can hear it any more, the run goes on in silence."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end


def warn(text: str) -> None:
    """Say what the user should know and the run goes on despite."""
    say(f"holdstill: warning: {text}")


def say_failure(message: str, remedy: str) -> None:
    """Say what happened and, on a line of its own, what to do."""
    say(f"holdstill: error: {message}" + (f"\n  {remedy}" if remedy else ""))


def say_error(error: HoldstillError) -> None:
    """Say what an error says, and what happened on top of it."""
    say_failure(error.message, error.remedy)
    for note in getattr(error, "__notes__", ()):
        say_failure(note, "")
