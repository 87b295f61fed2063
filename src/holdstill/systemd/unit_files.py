"""Unit files on the disk: which are ours as we left them, and what is to be done about each.

The first line of ours holds a checksum of the rest, so that what somebody has edited is known and
kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from enum import StrEnum

from holdstill.errors import HoldstillError, shown
from holdstill.systemd.units import DROP_IN, PREFIXES
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

DIRECTORY: Final = "/etc/systemd/system"

_MARK = "# Written by holdstill, checksum "
_EDIT = "; use `systemctl edit` instead"
_MARKED = re.compile(re.escape(_MARK) + "([0-9a-f]{16})" + re.escape(_EDIT))
_PREFIX = "|".join(map(re.escape, PREFIXES))
_OURS = re.compile(
    rf"({_PREFIX})@\.service|({_PREFIX})@(?P<timed>[^/]+)\.timer"
    rf"|({_PREFIX})@(?P<job>[^/]+)\.service\.d/{re.escape(DROP_IN)}"
)


class State(StrEnum):
    """What a file is."""

    OURS = "ours"
    EDITED = "edited"
    """We wrote it, and somebody else has changed it."""
    FOREIGN = "foreign"


class Found(NamedTuple):
    """A file that has a name of ours."""

    state: State
    text: str
    """As it was to be written; what stands there, if it is not ours."""


class Deed(StrEnum):
    """What is done about a file."""

    WRITE = "write"
    UNCHANGED = "unchanged"
    REMOVE = "remove"
    KEEP = "keep"
    """It is in the way of what we want, and not ours to change."""


class Action(NamedTuple):
    """What is done about one file."""

    deed: Deed
    path: str
    """From the directory of units."""
    text: str = ""
    state: State = State.OURS
    """What was there."""


def marked(text: str) -> str:
    """Return a file's content: its text behind a line that says whose it is."""
    return f"{_MARK}{_checksum(text)}{_EDIT}\n{text}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read(content: str) -> Found:
    """Tell what a file with this content is."""
    first, _, text = content.partition("\n")
    mark = _MARKED.fullmatch(first)
    if mark is None:
        return Found(State.FOREIGN, content)
    return Found(State.OURS if mark[1] == _checksum(text) else State.EDITED, text)


def timer_of(path: str) -> str:
    """Return the timer that a file of ours belongs to; empty for a template, which serves all."""
    if path.endswith(".timer"):
        return path
    unit = path.partition("/")[0]
    return unit.removesuffix(".service.d") + ".timer" if unit.endswith(".d") else ""


def observe(directory: str = DIRECTORY) -> dict[str, Found]:
    """Return the files that have a name of ours; raises HoldstillError."""
    found = {}
    for path in sorted(_names(directory)):
        try:
            with open(f"{directory}/{path}", encoding="utf-8", errors="surrogateescape") as file:
                found[path] = read(file.read())
        except FileNotFoundError:  # a directory of drop-ins that holds only others'
            continue
        except OSError as error:
            # What cannot be read (a link to nowhere, a directory) is somebody else's.
            message = f"{shown(f'{directory}/{path}')} cannot be read: {error.strerror}"
            raise HoldstillError(message, remedy="look what it is, and move it away") from error
    return found


def _names(directory: str) -> Iterator[str]:
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = f"{name}/{DROP_IN}" if name.endswith(".service.d") else name
        if _OURS.fullmatch(path):
            yield path


def to_install(wanted: Mapping[str, str], found: Mapping[str, Found]) -> Iterator[Action]:
    """Yield what brings the wanted files about, and leaves what is not ours alone."""
    for path, text in wanted.items():
        there = found.get(path)
        if there is None:
            yield Action(Deed.WRITE, path, text)
        elif there.state is not State.OURS:
            yield Action(Deed.KEEP, path, state=there.state)
        else:
            deed = Deed.UNCHANGED if there.text == text else Deed.WRITE
            yield Action(deed, path, text)


def to_remove(found: Mapping[str, Found]) -> Iterator[Action]:
    """Yield what removes files, or leaves those alone that somebody has edited."""
    for path, there in found.items():
        if there.state is State.OURS:
            yield Action(Deed.REMOVE, path)
        elif there.state is State.EDITED:
            yield Action(Deed.KEEP, path, state=there.state)


def execute(action: Action, directory: str = DIRECTORY) -> None:
    """Write or remove a file, whole or not at all; raises HoldstillError."""
    path = f"{directory}/{action.path}"
    try:
        if action.deed is Deed.WRITE:
            _write(path, marked(action.text))
        elif action.deed is Deed.REMOVE:
            os.unlink(path)
            if action.path.endswith(f"/{DROP_IN}"):
                with suppress(OSError):  # other drop-ins lie there
                    os.rmdir(os.path.dirname(path))
    except OSError as error:
        message = f"{shown(path)} cannot be written: {error.strerror}"
        raise HoldstillError(message, remedy="is the file system read-only, or full?") from error


def _write(path: str, content: str) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # systemd reads no file whose name begins with a dot.
    descriptor, temporary = tempfile.mkstemp(prefix=".holdstill-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
