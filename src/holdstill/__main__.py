"""The program: `holdstill`, or `python -m holdstill`."""

import signal
from typing import NoReturn


def console() -> NoReturn:
    """Be the program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before the imports, most of the start: until a run begins, Ctrl-C ends it silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from holdstill.cli.main import console as run

    run()


if __name__ == "__main__":
    console()
