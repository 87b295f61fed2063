"""What a run says while it goes on; the command line decides how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdstill.restic.events import Status


class Reporter(Protocol):
    """Listens to the runs of jobs."""

    watched: bool
    """Whether somebody looks on, so that progress is worth its processor time."""

    def begin(self, job: str, run_id: str) -> None:
        """Learn which run what follows is about."""

    def phase(self, job: str, text: str) -> None:
        """Say what has been done, or begins."""

    def progress(self, job: str, repository: str, status: Status) -> None:
        """Show how far restic is."""

    def warn(self, job: str, text: str) -> None:
        """Say what is wrong and does not stop the run."""

    def finish(self) -> None:
        """Make room for results; there may be more to report after them."""
