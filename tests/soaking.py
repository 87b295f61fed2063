"""How long the long tests are, and what they have counted."""

from __future__ import annotations

from typing import NamedTuple

FIGURE = "figure"


class Soak(NamedTuple):
    """What `make soak` was asked for, and the figures that it prints."""

    percent: float
    """Of the whole length."""
    properties: list[tuple[str, object]]
    """Of the test: they come from whichever process has run it."""

    def share(self, whole: float) -> float:
        """Return so much of a length as is wanted."""
        return whole * self.percent / 100

    def count(self, whole: int) -> int:
        """Return so many of the rounds as are wanted: at least one."""
        return max(1, round(self.share(whole)))

    def note(self, figure: str) -> None:
        """Have a figure printed at the end; only of what is long, the others prove too little."""
        self.properties.append((FIGURE, figure))
