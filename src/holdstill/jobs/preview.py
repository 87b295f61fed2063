"""What can be said of a run before it: its plan and what it will meet, or why there is none."""

from __future__ import annotations

from holdstill.errors import HoldstillError, SourceError, shown
from holdstill.jobs.plan import plan_job
from holdstill.snapshots.notes import look
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdstill.config.model import Config
    from holdstill.jobs.plan import JobPlan
    from holdstill.linux.signals import Signals
    from holdstill.snapshots.notes import Note


class Preview(NamedTuple):
    """A job, looked at; nothing has been changed."""

    job: str
    plan: JobPlan | None = None
    notes: tuple[Note, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[HoldstillError, ...] = ()
    """Why a run would fail, as far as it is known."""

    @property
    def exit_status(self) -> int:
        """Zero if the job can be run."""
        return max((failure.exit_status for failure in self.failures), default=0)


def preview(
    config: Config, job: str, environment: Mapping[str, str], signals: Signals | None = None
) -> Preview:
    """Look at a job; whatever is expected to go wrong is in what this returns."""
    found = Preview(job)
    try:
        plan, warnings = plan_job(config, job, environment, signals=signals)
        found = Preview(job, plan, warnings=warnings)
        notes = look(plan.freeze.sources, plan.freeze.layers)
    except HoldstillError as error:
        return found._replace(failures=(error,))
    fatal = (
        SourceError(f"{shown(note.path)}: {note.text}", remedy=note.remedy)
        for note in notes
        if note.is_fatal
    )
    return found._replace(notes=notes, failures=tuple(fatal))
