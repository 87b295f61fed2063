"""holdstill, of which one process dies or stops at one of its checkpoints.

    python -P dying.py LOG VICTIM CHECKPOINT COUNT ARGUMENT...

A checkpoint is where a function of holdstill begins or returns, `holdstill.freeze:hold begins`, or
where a run enters a phase, `phase freezing`. What can be seen of a run from outside changes only in
between. VICTIM is `holdstill`, the process that gets there (a view's first one is holdstill until
it becomes restic), or `restic`, every child of it; `stopped` is the first, and only stops. It
happens when a process gets there for the COUNTth time. With COUNT 0 it does not, and LOG gets every
count and checkpoint at which there was a victim; otherwise it tells what befell the victim.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from holdstill.cli.main import console

if TYPE_CHECKING:
    from types import FrameType

_LAYERS = ("jobs", "freeze", "snapshots", "view", "records", "restic.client", "process")
_EVENTS = {"call": "begins", "return": "returns"}


class Checkpoints:
    """Counts how often the one that is wanted is reached."""

    def __init__(self, log: str, victim: str, wanted: str, count: int) -> None:
        """Take the program's first arguments."""
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.victim = victim
        self.wanted = wanted
        self.left = count
        self.records = count == 0
        self.reached: Counter[str] = Counter()

    def watch(self, frame: FrameType, event: str, _: object) -> None:
        """Be called by Python at every call and return (sys.setprofile)."""
        if event not in _EVENTS:
            return
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith("holdstill."):
            return
        layer = module.removeprefix("holdstill.")
        if layer.startswith(_LAYERS):
            function = frame.f_code.co_qualname
            self._reach(f"{layer}:{function} {_EVENTS[event]}")
            if function == "Run.enter" and event == "return":
                self._reach(f"phase {frame.f_locals['phase']}")

    def _reach(self, name: str) -> None:
        if self.records:
            self.reached[name] += 1
            if self.victim != "restic" or _children():
                os.write(self.log, f"{self.reached[name]} {name}\n".encode())
        elif name == self.wanted:
            self.left -= 1
            if self.left == 0:
                self._kill()

    def _kill(self) -> None:
        if self.victim == "stopped":
            os.write(self.log, f"stopped {os.getpid()}\n".encode())
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if self.victim == "holdstill":
            os.write(self.log, f"killed {os.getpid()}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        for process in _children():
            os.kill(process, signal.SIGKILL)
            end = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
            if end is not None and end.si_code == os.CLD_KILLED:  # it had not just ended by itself
                os.write(self.log, f"killed {process}\n".encode())


def _children() -> list[int]:
    """Return the children that have not ended."""
    words = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    not_yet = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return [pid for pid in map(int, words) if os.waitid(os.P_PID, pid, not_yet) is None]


if __name__ == "__main__":
    checkpoints = Checkpoints(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.argv[1:5] = []
    threading.setprofile(checkpoints.watch)
    sys.setprofile(checkpoints.watch)
    console()
