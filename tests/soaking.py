"""How long the long tests are, and what they have counted."""

from __future__ import annotations

from typing import NamedTuple


class Soak(NamedTuple):
    """What `make soak` was asked for, and the figures that it prints."""

    percent: float
    """Of the whole length."""
    figures: list[str]

    def share(self, whole: float) -> float:
        """Return so much of a length as is wanted."""
        return whole * self.percent / 100

    def count(self, whole: int) -> int:
        """Return so many of the rounds as are wanted: at least one."""
        return max(1, round(self.share(whole)))

    def note(self, figure: str) -> None:
        """Have a figure printed at the end; only of what is long, the others prove too little."""
        self.figures.append(figure)
