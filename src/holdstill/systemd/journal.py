"""Entries of systemd's journal with fields of their own, by its native protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram of `NAME=value` lines; a value that holds a
line feed follows its name on a line of its own, behind its length.
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
_LONGEST = 1 << 16
"""Bytes of a value that are sent: a datagram has a limit that nobody knows beforehand."""
_SECONDS = 1.0


def takes(descriptor: int) -> bool:
    """Whether an open file of this process is systemd's own way into the journal."""
    stream = os.environ.get("JOURNAL_STREAM")  # as systemd.exec(5) has it
    if stream is None:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def send(message: str, priority: int, fields: Mapping[str, str]) -> bool:
    """Put an entry into the journal; False where there is none that takes it now.

    The priority is one of syslog(3).
    """
    entry = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "holdstill",
        **fields,
    }
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.settimeout(_SECONDS)
            journal.sendto(encoded(entry), SOCKET)
    except OSError:
        return False
    return True


def encoded(entry: Mapping[str, str]) -> bytes:
    """Return the datagram of an entry."""
    return b"".join(_field(name.encode("ascii"), value) for name, value in entry.items())


def _field(name: bytes, value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")[:_LONGEST]
    if b"\n" in data:
        return name + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name + b"=" + data + b"\n"
