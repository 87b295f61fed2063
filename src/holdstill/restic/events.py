"""What restic prints with `--json`, line by line; nothing in it is trusted to be well-formed."""

# No annotations as texts, from __future__: msgspec would have to compile each of them.
import errno
import os
import re
from typing import Self

import msgspec

from holdstill.errors import shown
from holdstill.process import LONGEST_LINE
from holdstill.tuples import NamedTuple

LONGEST_TEXT = 4096
"""Characters that are kept of anything restic said."""

_CONTROL = r"\x1b\[[0-9;?]*[A-Za-z]"


class _Event(msgspec.Struct, frozen=True, tag_field="message_type"):
    pass


class Status(_Event, frozen=True, tag="status"):
    """Where restic is; seconds and bytes are since the start of the backup."""

    percent_done: float = 0.0
    """From 0 to 1, in spite of its name."""
    total_files: int = 0
    files_done: int = 0
    total_bytes: int = 0
    bytes_done: int = 0
    seconds_elapsed: float = 0.0
    seconds_remaining: float = 0.0
    current_files: tuple[str, ...] | None = None
    """What is being read: unlike other texts here, with control characters if it has any."""


class Summary(_Event, frozen=True, tag="summary"):
    """What a backup amounted to."""

    snapshot_id: str = ""
    """8 hexadecimal digits on 0.14, 64 later."""
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_added: int = 0
    data_added_packed: int | None = None
    """What was added, compressed and encrypted; from 0.17 on."""
    total_files_processed: int = 0
    total_bytes_processed: int = 0


class ItemError(_Event, frozen=True, tag="error"):
    """Something that restic could not read."""

    item: str = ""
    during: str = ""
    error: object = None
    """From 0.17 on {"message"}; before, whatever Go's error type is made of."""

    @property
    def message(self) -> str:
        """Return the reason as a text."""
        match self.error:
            case str(text) | {"message": str(text)}:
                return text
            case {"Op": str(operation), "Err": int(number)}:
                known = 0 < number <= max(errno.errorcode)
                return f"{operation}: {os.strerror(number) if known else number}"
        return "could not be read"

    def described(self) -> str:
        """Return it with its path, which 0.17 and later name in the message, too."""
        if self.item in self.message:
            return self.message
        return f"{shown(self.item)}: {self.message}"

    def clipped(self) -> Self:
        """Return it as it can be kept and shown."""
        return type(self)(printable(self.item), printable(self.during), printable(self.message))


class ExitError(_Event, frozen=True, tag="exit_error"):
    """Why restic gave up; from 0.18 on."""

    code: int = 1
    message: str = ""


class Text(NamedTuple):
    """A line that is no event."""

    line: str


Event = Status | Summary | ItemError | ExitError | Text


class _Kind(msgspec.Struct, frozen=True):
    message_type: str


class _Group(msgspec.Struct, frozen=True):
    keep: list[msgspec.Raw] | None
    remove: list[msgspec.Raw] | None


_KNOWN = frozenset({"status", "summary", "error", "exit_error"})
_EVENTS = msgspec.json.Decoder(Status | Summary | ItemError | ExitError)
_KINDS = msgspec.json.Decoder(_Kind)
_GROUPS = msgspec.json.Decoder(list[_Group])


def decode(line: bytes) -> Event | None:
    """Return what a line of standard output or error says; None for kinds of no interest."""
    if not line.startswith(b"{"):
        return _text(line)
    try:
        event: Status | Summary | ItemError | ExitError = _EVENTS.decode(line)
    except (ValueError, RecursionError):  # of msgspec, and of bytes that are no UTF-8
        return _odd(line)
    return event


class Forgotten(NamedTuple):
    """How many snapshots a retention kept and removed; None where the answer was cut off."""

    kept: int | None
    removed: int | None


def decode_forget(line: bytes) -> Forgotten | None:
    """Return what `forget --json` says; None for the lines that prune prints around it."""
    if not line.startswith((b"[{", b"[]")):
        return None
    if len(line) >= LONGEST_LINE:
        return Forgotten(None, None)
    try:
        groups = _GROUPS.decode(line)
    except (ValueError, RecursionError):
        return None
    return Forgotten(
        sum(len(group.keep or ()) for group in groups),
        sum(len(group.remove or ()) for group in groups),
    )


def printable(text: str) -> str:
    """Return a text that cannot forge a line of output, and is not longer than LONGEST_TEXT."""
    text = re.sub(_CONTROL, "", text[:LONGEST_TEXT]).strip()
    if text.isprintable():
        return text
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return escaped[:LONGEST_TEXT]


def _text(line: bytes) -> Text:
    return Text(printable(line[: 4 * LONGEST_TEXT].decode("utf-8", "replace")))


def _odd(line: bytes) -> Event | None:
    """Return what a line says whose fields are not what they should be: an error stays one."""
    try:
        kind = _KINDS.decode(line).message_type
    except (ValueError, RecursionError):
        return _text(line)
    if kind == "error":
        return ItemError(error=_text(line).line)
    return _text(line) if kind in _KNOWN else None
