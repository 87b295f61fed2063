"""Planning anew where subvolumes came or went between the plan and the freeze."""

from __future__ import annotations

import pytest

from holdstill.errors import ChangedError, FreezeError
from holdstill.freeze import settled


class Restless:
    """Fails a number of times before it freezes."""

    def __init__(self, failures: list[FreezeError]) -> None:
        """Begin with all of them ahead."""
        self.failures = failures

    def __call__(self) -> str:
        """Freeze, or say what happened."""
        if self.failures:
            raise self.failures.pop(0)
        return "frozen"


def test_a_change_is_planned_anew() -> None:
    """Twice."""
    assert settled(Restless([ChangedError("gone"), ChangedError("new")])) == "frozen"


def test_a_third_change_is_an_error() -> None:
    """Nobody waits for ever; what happened last is what is said."""
    with pytest.raises(ChangedError, match="third"):
        settled(Restless([ChangedError("first"), ChangedError("second"), ChangedError("third")]))


def test_any_other_error_is_one_at_once() -> None:
    """A full disk is no better the second time."""
    tries = Restless([FreezeError("full"), FreezeError("again")])
    with pytest.raises(FreezeError, match="full"):
        settled(tries)
    assert len(tries.failures) == 1
