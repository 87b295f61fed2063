"""What a service tells systemd of itself, through the socket in NOTIFY_SOCKET (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
_LONGEST_STATUS = 300


class Notifier:
    """Talks to systemd; where nobody listens it does nothing."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        """Know where systemd listens, and after how many seconds of silence it would act."""
        self._interval = None if watchdog is None else watchdog / 3
        self._next = 0.0
        self._socket: socket.socket | None = None
        if address[:1] in {"/", "@"}:
            self._address = address.replace("@", "\0", 1) if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @property
    def is_heard(self) -> bool:
        """Whether systemd has asked to be told."""
        return self._socket is not None

    def status(self, text: str) -> None:
        """Let `systemctl status` show a line of text."""
        self._send("STATUS=" + " ".join(text.split())[:_LONGEST_STATUS])

    def pulse(self) -> float | None:
        """Say that this process is alive, if it is time; return in how many seconds it is again."""
        if self._interval is None:
            return None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval
            self._send("WATCHDOG=1")
        return self._next - now

    def ready(self) -> None:
        """Say that the service has started."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody has to listen for a backup to go on
                data = message.encode("utf-8", "replace")
                self._socket.sendto(data, socket.MSG_DONTWAIT, self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()


@contextmanager
def notifier(environment: MutableMapping[str, str]) -> Iterator[Notifier]:
    """Tell systemd that the service is ready, and at the end that it stops.

    The variables are removed: nobody that this process starts is to speak in its name.
    """
    address, process, microseconds = (environment.pop(name, "") for name in _VARIABLES)
    is_ours = process in {"", str(os.getpid())}
    watchdog = int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else None
    made = Notifier(address, watchdog)
    try:
        made.ready()
        yield made
        made.stopping()
    finally:
        made.close()
