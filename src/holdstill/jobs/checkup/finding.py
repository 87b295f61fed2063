"""What a check has found: how bad it is, what it is about, what is so, and what to do."""

from __future__ import annotations

from enum import StrEnum

from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdstill.errors import HoldstillError

_NOT_OURS = {126, 127}
"""Exit statuses that speak of the command of `exec`."""


class Level(StrEnum):
    """How bad it is, from best to worst."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    """A run would fail, or something that it relies on is broken."""


class Check(StrEnum):
    """What is looked at, in this order."""

    CONFIGURATION = "configuration"
    PRIVILEGES = "privileges"
    KERNEL = "kernel"
    CLOCK = "clock"
    DIRECTORIES = "directories"
    RESTIC = "restic"
    SECRETS = "secrets"
    REPOSITORY = "repository"
    LEFTOVERS = "leftovers"
    RECORDS = "records"
    TIMER = "timer"
    SPACE = "space"
    JOB = "job"


class Finding(NamedTuple):
    """One line of what `doctor` says."""

    level: Level
    check: Check
    subject: str
    """Which job, repository or path it is about; empty where there is only one."""
    text: str
    remedy: str = ""
    exit_status: int = 1
    """What an error of this kind ends the program with."""


class About(NamedTuple):
    """What findings are about, so that each check says it once."""

    check: Check
    subject: str = ""

    def ok(self, text: str) -> Finding:
        """Return that all is well."""
        return Finding(Level.OK, *self, text)

    def warning(self, text: str, remedy: str = "") -> Finding:
        """Return what does not stop a run, and somebody should know."""
        return Finding(Level.WARNING, *self, text, remedy)

    def error(self, text: str, remedy: str = "", exit_status: int = 1) -> Finding:
        """Return what would make a run fail."""
        return Finding(Level.ERROR, *self, text, remedy, exit_status)

    def failure(self, error: HoldstillError) -> Finding:
        """Return what an error says."""
        text = "; ".join((error.message, *error.notes))
        status = 1 if error.exit_status in _NOT_OURS else error.exit_status
        return self.error(text, error.remedy, status)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return what `doctor` ends with: 0 unless there is an error, or that of the gravest."""
    return max((one.exit_status for one in findings if one.level is Level.ERROR), default=0)


def said_once(findings: Iterable[Finding], known: set[str]) -> list[Finding]:
    """Return findings; an error that another check has named already is only pointed at.

    `known` are the texts of the errors so far, and is added to.
    """
    found = []
    for one in findings:
        if one.level is Level.ERROR and one.text in known:
            about = About(one.check, one.subject)
            found.append(about.warning(f"not tried, as named above: {one.text}"))
            continue
        if one.level is Level.ERROR:
            known.add(one.text)
        found.append(one)
    return found
