"""Says that the kernel does not answer: who waits in a system call cannot be told to stop."""

from __future__ import annotations

import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 5.0
"""A thousand times what taking or removing snapshots takes."""


class Patience:
    """Warns once if what was started is not over after SECONDS."""

    def __init__(self, text: str, warn: Callable[[str], None]) -> None:
        """Prepare what is to be said."""
        self._text = text
        self._warn = warn
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Begin to wait, in a thread that ends with the program."""
        timer = threading.Timer(SECONDS, self._warn, [self._text])
        timer.daemon = True
        with suppress(RuntimeError):  # no more threads: what needs them says it better
            timer.start()
            self._timer = timer

    def stop(self) -> None:
        """Say nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
