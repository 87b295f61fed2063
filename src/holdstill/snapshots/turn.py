"""Waits for another holdstill in the staging directory: visibly, not for ever, until a signal."""

from __future__ import annotations

import select
import time

from holdstill.errors import FreezeError, StoppedError
from holdstill.linux import locks
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdstill.linux.signals import Signals
    from holdstill.snapshots.patience import Patience

SECONDS = 60.0
"""A thousand times what one needs the directory for itself."""
_AFTER_A_SIGNAL = 0.5
_SILENT = 2.0
_POLL = 0.01
_REMEDY = "let it go on (kill -CONT), or end it"


class Turn(NamedTuple):
    """Who is told of a wait, and what ends it."""

    signals: Signals | None = None
    warn: Callable[[str], None] = lambda _: None
    patience: Patience | None = None
    """Runs, and would blame the kernel: it pauses meanwhile."""

    def wait_for(self, directory: int, name: str) -> None:
        """Lock an open directory, of which `name` says what and where it is.

        Raises StoppedError for a signal, FreezeError if it takes too long.
        """
        if self.try_for(directory, name):
            return
        holders = locks.named_holders(f"/proc/self/fd/{directory}")
        if self._is_told():
            message = f"stopped while another holdstill had locked {name}: {holders}"
            raise StoppedError(message, remedy=_REMEDY)
        message = f"another holdstill has locked {name} for {SECONDS:.0f} s: {holders}"
        raise FreezeError(message, remedy=_REMEDY)

    def try_for(self, directory: int, name: str) -> bool:
        """Lock an open directory; False if it is still held when the time is up."""
        if locks.take(directory):
            return True
        if self.patience is None:
            return self._wait(directory, name)
        self.patience.stop()
        try:
            return self._wait(directory, name)
        finally:
            self.patience.start()

    def _wait(self, directory: int, name: str) -> bool:
        began, said = time.monotonic(), False
        while not locks.take(directory):
            waited = time.monotonic() - began
            if waited >= (_AFTER_A_SIGNAL if self._is_told() else SECONDS):
                return False
            if waited >= _SILENT and not said:
                said = True
                holders = locks.named_holders(f"/proc/self/fd/{directory}")
                self.warn(f"waiting for another holdstill, which has locked {name}: {holders}")
            select.select([self.signals] if self.signals is not None else [], [], [], _POLL)
        return True

    def _is_told(self) -> bool:
        return self.signals is not None and self.signals.have_come()
