"""A socket that takes what the journal would, and reads it by the native protocol's rules."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Journal:
    """A datagram socket; `entries` takes what has arrived."""

    def __init__(self, server: socket.socket) -> None:
        """Take over a bound socket; `journal` makes it."""
        self._server = server

    def entries(self) -> list[dict[str, str]]:
        """Return the entries that have arrived, the oldest first."""
        found = []
        while True:
            try:
                found.append(decoded(self._server.recv(1 << 20)))
            except BlockingIOError:
                return found


def decoded(datagram: bytes) -> dict[str, str]:
    """Read an entry; every byte of it has to make sense."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            length = int.from_bytes(datagram[:8], "little")
            value, end, datagram = (
                datagram[8 : 8 + length],
                datagram[8 + length :][:1],
                datagram[9 + length :],
            )
            assert (len(value), end) == (length, b"\n")
        assert name.decode() not in fields
        fields[name.decode()] = value.decode("utf-8", "surrogateescape")
    return fields


@contextmanager
def journal(path: str) -> Iterator[Journal]:
    """Take datagrams at a path for the body."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(path)
        yield Journal(server)
