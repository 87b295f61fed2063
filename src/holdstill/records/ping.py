"""One question over HTTP, whose answer is a status.

By hand: importing urllib.request costs two thirds of what all of holdstill needs otherwise. So
there are no proxies, and nobody is sent elsewhere.
"""

from __future__ import annotations

import functools
import re
import socket

from holdstill.errors import HoldstillError
from holdstill.locations import HTTP_URL
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ssl import SSLContext

_PORTS = {"http": 80, "https": 443}
_LONGEST_STATUS = 1 << 12
_CHUNK = 1 << 12
_GOOD = range(200, 300)
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


class PingError(HoldstillError):
    """The question was not answered, or not well. The URL is a secret: it is not in the message."""

    def __init__(self, message: str, *, may_pass: bool) -> None:
        """Say whether it is worth another try."""
        super().__init__(message)
        self.may_pass = may_pass


class Target(NamedTuple):
    """Where a URL leads."""

    scheme: str
    host: str
    port: int
    path: str
    query: str


def target_of(url: str) -> Target:
    """Take a URL apart; raises PingError."""
    found = re.fullmatch(HTTP_URL, url)
    if found is None:
        raise PingError("the URL is none that begins with https:// or http://", may_pass=False)
    scheme, host, port, path, query = found.groups(default="")
    return Target(scheme, host.strip("[]"), int(port or _PORTS[scheme]), path, query)


def post(target: Target, endpoint: str, body: bytes, seconds: float) -> None:
    """Post a text to what `endpoint` names behind the URL's path; raises PingError.

    Each step of it may take so many seconds.
    """
    try:
        status = _status(_answer(target, _request(target, endpoint, body), seconds))
    except OSError as error:
        raise PingError(_reason(error), may_pass=True) from None
    if status not in _GOOD:
        may_pass = status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS
        raise PingError(f"the server answered {status}", may_pass=may_pass)


def _request(target: Target, endpoint: str, body: bytes) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    is_usual = target.port == _PORTS[target.scheme]
    head = (
        f"POST {target.path + endpoint or '/'}{target.query} HTTP/1.1",
        f"Host: {host}" if is_usual else f"Host: {host}:{target.port}",
        "User-Agent: holdstill",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + body


def _answer(target: Target, request: bytes, seconds: float) -> bytes:
    """Return the beginning of the answer, with its first line."""
    plain = socket.create_connection((target.host, target.port), seconds)
    with _secured(plain, target) as connection:
        connection.sendall(request)
        answer = b""
        while b"\n" not in answer and len(answer) < _LONGEST_STATUS:
            if not (data := connection.recv(_CHUNK)):
                break
            answer += data
    return answer


def _secured(plain: socket.socket, target: Target) -> socket.socket:
    if target.scheme == "http":
        return plain
    try:
        return _tls().wrap_socket(plain, server_hostname=target.host)
    except BaseException:
        plain.close()
        raise


@functools.cache
def _tls() -> SSLContext:
    import ssl

    return ssl.create_default_context()


def _status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] (\d{3})\b", answer)
    if found is None:
        raise PingError("the server's answer is not HTTP", may_pass=True)
    return int(found[1])


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if reason := getattr(error, "reason", ""):  # of TLS
        return f"TLS failed: {str(reason).replace('_', ' ').lower()}"
    return error.strerror or type(error).__name__
