"""Runs holdstill and stands still at one moment, so that the power can be cut there.

    moment.py call|return MODULE:FUNCTION COUNT stay|go ARGUMENTS...

At the COUNTth call of the function, or return from it, it reports, and that thread stays (or goes
on); other threads, and restic, always go on. The program is not changed: the interpreter's profiler
sees the function.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from holdstill.cli.main import console

if TYPE_CHECKING:
    from types import CodeType, FrameType


class Moment:
    """A profiler that waits for a moment."""

    def __init__(self, event: str, code: CodeType, count: int, *, stay: bool) -> None:
        """Wait for the countth call of a function, or return from it."""
        self._event = event
        self._code = code
        self._left = count
        self._stay = stay
        self._lock = threading.Lock()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """See one step of the program."""
        if frame.f_code is not self._code or event != self._event:
            return
        with self._lock:
            self._left -= 1
            is_now = self._left == 0
        if is_now:
            os.write(int(os.environ["REPORT"]), b"now\n")
            if self._stay:
                threading.Event().wait()


def _code(name: str) -> CodeType:
    module, _, function = name.partition(":")
    found: CodeType = getattr(importlib.import_module(module), function).__code__
    return found


if __name__ == "__main__":
    event, name, count, what_then, *arguments = sys.argv[1:]
    moment = Moment(event, _code(name), int(count), stay=what_then == "stay")
    sys.argv[1:] = arguments
    threading.setprofile(moment)
    sys.setprofile(moment)
    console()
