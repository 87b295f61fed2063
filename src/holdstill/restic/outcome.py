"""What the end of a restic process means, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from signal import SIGALRM, SIGKILL, Signals

from holdstill.restic.events import printable
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdstill.restic.versions import Version

_PARTIAL = 3
_CRASHED = 2
_NO_REPOSITORY = 10
_LOCKED = 11
_WRONG_PASSWORD = 12
_INTERRUPTED = 130


class Outcome(StrEnum):
    """How a run's work on one repository ended."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Reading(NamedTuple):
    """An outcome in words; both texts are empty when it is ok."""

    outcome: Outcome
    message: str = ""
    remedy: str = ""
    locked: bool = False
    """Whether another restic's lock was in the way, which may be that of a dead one."""
    missing: bool = False
    """Whether there is no repository."""
    wrong_password: bool = False
    """Whether there is one that the password does not open."""


class Evidence(NamedTuple):
    """What is known when restic has ended."""

    repository: str
    """Its name in the configuration."""
    reach: str
    """How a user runs restic on it."""
    version: Version
    status: int
    signal: int | None = None
    told: int | None = None
    """The signal that asked this run to stop."""
    complaint: str = ""
    """Why restic says it gave up, in its own words."""
    said: str = ""
    """Everything else that it said outside of its events."""
    answered: bool = True
    """Whether it reported what it did: a summary with a snapshot, or a retention's groups."""
    error_count: int = 0
    first_error: str = ""


def read(evidence: Evidence) -> Reading:
    """Return what it means; whatever is not known to be a success is a failure."""
    if evidence.status == 0 and evidence.answered:
        return _partial(evidence) if evidence.error_count else Reading(Outcome.OK)
    if evidence.status == _PARTIAL and evidence.answered:
        return _partial(evidence)
    if (stopped := _interrupted(evidence)) is not None:
        return stopped
    message, remedy = (
        _killed(evidence) or _crashed(evidence) or _known(evidence) or _other(evidence)
    )
    explained = _explanation(evidence) if evidence.signal is None else None
    return Reading(
        Outcome.FAILED,
        f"repository {evidence.repository}: {message}",
        remedy,
        locked=explained is _locked,
        missing=explained is _missing,
        wrong_password=explained is _wrong_password,
    )


_Text = tuple[str, str]


def _partial(evidence: Evidence) -> Reading:
    many = f"{evidence.error_count} errors, the first: " if evidence.error_count > 1 else ""
    first = evidence.first_error or _detail(evidence) or "restic does not say what"
    return Reading(
        Outcome.PARTIAL,
        f"repository {evidence.repository}: not everything was done: {many}{first}",
        "make readable what could not be read, or exclude it",
    )


def _interrupted(evidence: Evidence) -> Reading | None:
    """Tell a run that was asked to stop from one that failed by itself in the same moment.

    restic 0.14 is killed by SIGTERM, 0.18 ends with 1, and 0.19 with 130.
    """
    blamed = evidence.version.telling_exit_codes and evidence.status in _BY_STATUS
    if evidence.status != _INTERRUPTED and (evidence.told is None or blamed):
        return None
    if evidence.told == SIGALRM:
        text = f"repository {evidence.repository}: restic was stopped when the time was up"
        return Reading(Outcome.INTERRUPTED, text)
    by = f" by {_signal_name(evidence.told)}" if evidence.told is not None else ""
    return Reading(
        Outcome.INTERRUPTED, f"repository {evidence.repository}: restic was interrupted{by}"
    )


def _killed(evidence: Evidence) -> _Text | None:
    if evidence.signal is None:
        return None
    message = f"restic was killed by {_signal_name(evidence.signal)}"
    if evidence.signal == SIGKILL:
        return message, "look in the kernel's log (dmesg) whether it ran out of memory"
    return message, f"see whether it still works: {evidence.reach} -- check"


def _crashed(evidence: Evidence) -> _Text | None:
    if evidence.status != _CRASHED:
        return None
    return (
        f"restic {evidence.version} crashed: {_detail(evidence)}",
        f"try another release of restic, and see what it left behind: {evidence.reach} -- check",
    )


def _known(evidence: Evidence) -> _Text | None:
    explain = _explanation(evidence)
    return None if explain is None else explain(evidence)


def _explanation(evidence: Evidence) -> Callable[[Evidence], _Text] | None:
    """Return what is known to be wrong: by the exit status, or by restic's words before 0.17."""
    explain = _BY_STATUS.get(evidence.status) if evidence.version.telling_exit_codes else None
    if explain is None and evidence.status == 1:
        explain = _by_words(evidence.complaint) or _by_words(evidence.said)
    return explain


def _by_words(words: str) -> Callable[[Evidence], _Text] | None:
    return next((e for signs, e in _BY_WORDS if any(sign in words for sign in signs)), None)


def _missing(evidence: Evidence) -> _Text:
    return (
        f"there is no repository: {_detail(evidence)}",
        f"create it: {evidence.reach} -- init; or correct its url",
    )


def _locked(evidence: Evidence) -> _Text:
    return (
        f"locked by another restic: {_detail(evidence)}",
        f"wait until that one has ended; if none is running: {evidence.reach} -- unlock",
    )


def _wrong_password(_: Evidence) -> _Text:
    return "wrong password", "correct the repository's password-file or password-command"


def _no_password(evidence: Evidence) -> _Text:
    return (
        f"no password: {_detail(evidence)}",
        "see that the repository's password-file can be read, or its password-command works",
    )


def _unreachable(evidence: Evidence) -> _Text:
    return (
        f"cannot be reached: {_detail(evidence)}",
        f"see that its host is up and its url right: {evidence.reach} -- cat config",
    )


def _no_cache(evidence: Evidence) -> _Text:
    return (
        f"restic's cache cannot be opened: {_detail(evidence)}",
        "make the cache-directory writable, or remove it: restic makes it anew",
    )


def _full(evidence: Evidence) -> _Text:
    return f"no space left: {_detail(evidence)}", "free space on the disk that restic names"


def _denied(evidence: Evidence) -> _Text:
    return (
        f"may not be used: {_detail(evidence)}",
        "see who owns what restic names, and as whom it runs (the job's run-as)",
    )


def _other(evidence: Evidence) -> _Text:
    if evidence.status in (0, _PARTIAL):
        return (
            f"restic ended with {evidence.status} without saying what it did",
            "see that the restic in PATH is restic: restic version",
        )
    said = _detail(evidence) or "without a word"
    return (
        f"restic ended with {evidence.status}: {said}",
        f"see whether restic works on it: {evidence.reach} -- snapshots",
    )


_BY_STATUS = {_NO_REPOSITORY: _missing, _LOCKED: _locked, _WRONG_PASSWORD: _wrong_password}

# In the order of trust: a server that cannot be reached also "has no repository" for 0.14.
_BY_WORDS = (
    (("Resolving password failed",), _no_password),
    (("unable to open cache",), _no_cache),
    (
        (
            "connection refused",
            "Connection refused",
            "connection reset",
            "no such host",
            "Could not resolve",
            "network is unreachable",
            "No route to host",
            "no route to host",
            "timed out",
            "i/o timeout",
            "TLS handshake",
            "unable to start the sftp session",
        ),
        _unreachable,
    ),
    (("repository is already locked",), _locked),
    (("wrong password or no key found",), _wrong_password),
    (("no space left on device",), _full),
    (("permission denied", "Permission denied"), _denied),
    (
        (
            "config: no such file or directory",
            "config> does not exist",
            "file does not exist",
            "specified key does not exist",
            "404 Not Found",
            "(404)",
        ),
        _missing,
    ),
)


def _detail(evidence: Evidence) -> str:
    """Return the one line that says most: restic's reason, or else the last thing it said."""
    first, last = evidence.complaint.split("\n")[0], evidence.said.split("\n")[-1]
    return printable((first or last).removeprefix("Fatal: "))


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
