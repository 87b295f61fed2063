"""The error tree: what happened, what to do about it, and the exit status it ends with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


def shown(path: str) -> str:
    r"""Return `path` as one line that can be printed and pasted into a shell.

    Plain names stay as they are, spaces and quotes get single quotes, and control characters or
    bytes that are not UTF-8 appear as `$'\n'`-style escapes: no name on a disk can forge a line
    of output or break its encoding.
    """
    if path and path[0] != "~" and all(c.isalnum() or c in "/._-+@:,%=~" for c in path):
        return path
    if path.isprintable():
        return "'" + path.replace("'", "'\\''") + "'"
    return "$'" + "".join(_escaped(c) for c in path) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


class HoldstillError(Exception):
    """An expected failure: printed without a traceback, with its remedy on a line of its own."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """Keep the message (what happened, to what) apart from the remedy (what to do)."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def notes(self) -> tuple[str, ...]:
        """What went wrong on top of it, as in the clean-up (`add_note`)."""
        return tuple(getattr(self, "__notes__", ()))


class UsageError(HoldstillError):
    """A command line that argparse accepts and that still makes no sense."""

    exit_status = 2


class SourceError(HoldstillError):
    """A source that cannot be frozen as it is: missing, not a directory, not on btrfs."""


class FreezeError(HoldstillError):
    """The kernel refused a step of taking snapshots."""


class ChangedError(FreezeError):
    """The subvolumes are not those that were planned: what is planned anew may well succeed."""


class ViewError(HoldstillError):
    """The private mount namespace could not be built, or did not stay whole."""


class CleanUpError(HoldstillError):
    """Something of ours could not be removed."""


class ProgramError(HoldstillError):
    """A program that is needed is missing, too old, or does not behave as itself."""


class StoppedError(HoldstillError):
    """A signal, or the end of a run's time, came while something was waited for."""


class HistoryError(HoldstillError):
    """The history of runs cannot be used."""


class PrintError(HoldstillError):
    """A result could not be printed: standard output is full, say."""


class JobActiveError(HoldstillError):
    """Another run of the same job holds the lock (EX_TEMPFAIL)."""

    exit_status = 75


class NotPermittedError(HoldstillError):
    """The kernel wants rights that this process does not have (EX_NOPERM)."""

    exit_status = 77


class ConfigurationError(HoldstillError):
    """The configuration cannot be used; every problem found is in the message (EX_CONFIG)."""

    exit_status = 78


class CommandNotFoundError(HoldstillError):
    """The command to run does not exist."""

    exit_status = 127


class CommandNotExecutableError(HoldstillError):
    """The command to run exists and cannot be executed."""

    exit_status = 126
