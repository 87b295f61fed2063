"""An HTTP server on loopback that answers as told, for what others do over the network."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HANG = 0
"""Instead of a status: accept the request, and never answer."""


class Request(NamedTuple):
    """What somebody has asked."""

    path: str
    body: str


class Listener:
    """A server; each request takes the next of `answers`, and 200 when there is none left."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        """Take over a server; `listener` runs it."""
        self.url = f"http://127.0.0.1:{server.server_address[1]}/secret-path"
        self.answers: list[int] = []
        self.requests: list[Request] = []
        self.ended = threading.Event()

    @property
    def paths(self) -> list[str]:
        """What was asked for, behind the URL."""
        return [request.path.removeprefix("/secret-path") for request in self.requests]

    def answer(self, request: Request) -> int:
        """Note a request; return the status, HANG only when all is over."""
        self.requests.append(request)
        status = self.answers.pop(0) if self.answers else 200
        if status == HANG:
            self.ended.wait()
        return status


@contextmanager
def listener(certificate: str = "") -> Iterator[Listener]:
    """Run a server for the body; with TLS if it has a certificate (a file that holds its key)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status = own.answer(Request(self.path, self.rfile.read(length).decode()))
            if status != HANG:
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        own = Listener(server)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            own.url = own.url.replace("http://127.0.0.1", "https://localhost")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield own
        finally:
            own.ended.set()
            server.shutdown()
            thread.join()
