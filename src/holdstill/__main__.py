"""The program: `holdstill`, or `python -m holdstill`."""

from __future__ import annotations

import gc
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_YOUNG = 50_000
"""Objects until the first collection: the imports alone make half as many, and none is garbage."""


def console() -> NoReturn:
    """Be the program."""
    gc.set_threshold(_YOUNG)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before the imports, most of the start: until a run begins, Ctrl-C ends it silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from holdstill.cli.main import console as run

    run()


if __name__ == "__main__":
    console()
