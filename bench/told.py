"""What it costs to tell the outside: metrics, and a ping at both ends of the run."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import Repository, rounds
from bench.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.process import Cost, Restic
    from bench.stage import Source, Stage

_NOTIFICATION = """
[notifications.server]
ping-url = "{url}"
"""


class _Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def told(stage: Stage, source: Source, restic: Restic, count: int) -> dict[str, list[Cost]]:
    """Return what backups cost that tell the outside, and what the same ones cost that do not."""
    silent, telling = (Repository(stage, source, restic, name) for name in ("silent", "telling"))
    silent.initialize()
    telling.initialize()
    with _server() as url:
        _configure(telling, url)
        contenders = {
            "telling": lambda: run(*telling.holdstill(), restic),
            "silent": lambda: run(*silent.holdstill(), restic),
        }
        rounds(contenders, 1)
        costs = rounds(contenders, count)
    if not Path(telling.directory, "metrics/holdstill_bench.prom").exists():
        raise RuntimeError("there are no metrics")
    return costs


def _configure(repository: Repository, url: str) -> None:
    path = Path(repository.configuration)
    directory = f"{repository.directory}/metrics"
    os.mkdir(directory)
    text = path.read_text(encoding="utf-8").replace(
        "[jobs.bench]\n", '[jobs.bench]\nnotify = ["server"]\n'
    )
    whole = f'metrics-directory = "{directory}"\n{text}{_NOTIFICATION.format(url=url)}'
    path.write_text(whole, encoding="utf-8")


@contextmanager
def _server() -> Iterator[str]:
    """Take pings."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/ping"
        finally:
            server.shutdown()
            thread.join()
