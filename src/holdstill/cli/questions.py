"""Questions to somebody at a terminal: on standard error, since standard output carries results."""

from __future__ import annotations

import signal
import sys

from holdstill.cli.messages import say
from holdstill.errors import UsageError


class Questions:
    """Asks, where somebody can be asked, and remembers whether it has."""

    def __init__(self, *, possible: bool) -> None:
        """Ask only if it is possible."""
        self.possible = possible
        self.asked = False

    def line(self, text: str, default: str = "") -> str:
        """Return an answer, or what an empty one stands for; raises UsageError at the end."""
        self.asked = True
        hint = f" [{default}]" if default else ""
        print(f"{text}{hint}: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            say("")
            raise _unanswered()
        return answer.strip() or default

    def yes(self, text: str) -> bool:
        """Return whether the answer is yes, as an empty one is."""
        while (answer := self.line(f"{text} (yes or no)", "yes").lower()) not in _WORDS:
            say(f"{answer}: yes or no?")
        return _WORDS[answer]

    def secret(self, text: str) -> str:
        """Return an answer that does not show on the terminal."""
        from getpass import getpass

        self.asked = True
        # Ctrl-C kills at once otherwise, and a terminal that shows nothing would stay behind.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return getpass(f"{text}: ", sys.stderr)
        except EOFError:
            raise _unanswered() from None
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
            raise
        finally:
            signal.signal(signal.SIGINT, before)


_WORDS = {"yes": True, "y": True, "no": False, "n": False}


def _unanswered() -> UsageError:
    return UsageError("no answer: nothing has been written", remedy="answer, or name flags: --help")
