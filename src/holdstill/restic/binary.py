"""Finds restic, and learns its version once per binary instead of once per run."""

from __future__ import annotations

import os

import msgspec

from holdstill.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ProgramError,
    StoppedError,
    shown,
)
from holdstill.process import capture
from holdstill.restic.versions import OLDEST, Version, parse
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdstill.linux.signals import Signals

_INSTALL = f"install restic {OLDEST} or newer and see that it is in PATH"
_REMEMBERED = 16
_LONGEST_ANSWER = 200


class Binary(NamedTuple):
    """A restic that can be started."""

    path: str
    version: Version


class Found(NamedTuple):
    """The binary, and what went wrong on the way without stopping anything."""

    binary: Binary
    warnings: tuple[str, ...] = ()


def find(
    environment: Mapping[str, str],
    memory: str | os.PathLike[str],
    signals: Signals | None = None,
) -> Found:
    """Look restic up in the environment's PATH; `memory` is the file that remembers versions.

    A memory that cannot be read or written costs a `restic version` and a warning, never the run.

    Raises ProgramError: no restic, one older than OLDEST, or one that does not behave as itself;
    StoppedError: a signal came before it had said its version.
    """
    path = _in_path(environment.get("PATH", os.defpath))
    if path is None:
        raise ProgramError("restic is not in PATH", remedy=_INSTALL)
    file = os.fspath(memory)
    key = _identity(path)
    versions, warnings = _recall(file)
    version = parse(versions.get(key, ""))
    if version is None:
        version = _probe(path, environment, signals)
        warnings += _remember(file, versions, key, version)
    if version < OLDEST:
        raise ProgramError(
            f"restic {version} ({shown(path)}) is too old: {OLDEST} is the oldest that works",
            remedy=_INSTALL,
        )
    return Found(Binary(path, version), warnings)


def _in_path(directories: str) -> str | None:
    """Return the first `restic` that is executable; a relative entry of PATH is not trusted."""
    for directory in directories.split(os.pathsep):
        path = os.path.join(directory, "restic")
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _identity(path: str) -> str:
    """Return what changes whenever another binary takes the place of this one."""
    real = os.path.realpath(path)
    found = os.stat(real)
    numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return ":".join((os.fsencode(real).hex(), *map(str, numbers)))


def _recall(memory: str) -> tuple[dict[str, str], tuple[str, ...]]:
    try:
        with open(memory, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, str]), ()
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        return {}, (f"{shown(memory)} cannot be read: {error.strerror}",)
    except (ValueError, RecursionError):
        return {}, (f"{shown(memory)} is corrupt: made anew",)


def _remember(memory: str, versions: dict[str, str], key: str, version: Version) -> tuple[str, ...]:
    """Write the file anew, atomically: a run that starts meanwhile reads the old or the new."""
    newest = dict(list(versions.items())[1 - _REMEMBERED :]) | {key: f"restic {version}"}
    try:
        os.makedirs(os.path.dirname(memory), mode=0o700, exist_ok=True)
        _replace(memory, msgspec.json.encode(newest))
    except OSError as error:
        return (f"{shown(memory)} cannot be written: {error.strerror}",)
    return ()


def _replace(path: str, content: bytes) -> None:
    import tempfile

    descriptor, draft = tempfile.mkstemp(prefix=".restic-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file under its name
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _probe(path: str, environment: Mapping[str, str], signals: Signals | None) -> Version:
    """Ask the binary itself, without RESTIC_FEATURES: a wrong one fails every command."""
    clean = {name: value for name, value in environment.items() if not name.startswith("RESTIC_")}
    try:
        answer = capture([path, "version"], clean, signals)
    except (CommandNotFoundError, CommandNotExecutableError) as error:
        raise ProgramError(
            error.message, remedy="install restic anew: this binary does not run here"
        ) from error
    if answer.ended.told is not None:
        raise StoppedError(
            f"{shown(path)} version was stopped before it had answered",
            remedy="see what it waits for, and which restic comes first in PATH",
        )
    if answer.ended.signal is not None:
        raise ProgramError(
            f"{shown(path)} version was killed by signal {answer.ended.signal}",
            remedy="install restic anew: this binary does not run here",
        )
    text = os.fsdecode(answer.stdout)
    version = parse(text)
    if answer.ended.status != 0 or version is None:
        said = shown((text or os.fsdecode(answer.stderr))[:_LONGEST_ANSWER])
        raise ProgramError(
            f"{shown(path)} is not restic: `version` ended with {answer.ended.status}"
            f" and said {said}",
            remedy="see which restic comes first in PATH",
        )
    return version
