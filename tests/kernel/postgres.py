"""PostgreSQL under pgbench's transfers, whose sums never differ: its WAL in a subvolume of its own.

The server runs as its own user, listens on a socket alone, and ends with `running`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING

from tests.kernel.backups import wait_until
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "postgres"
EXCLUDE = ("postmaster.pid", "postmaster.opts")
"""Of the server that was alive: no other starts beside the first of them."""

_SETTINGS = (
    "listen_addresses=",
    "max_wal_size=64MB",
    "min_wal_size=32MB",
    "checkpoint_timeout=30s",
)
_CLIENTS = 4
_SETTLE = "CHECKPOINT \\watch 0.2\n"
_SUMS = """\
SELECT (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
       (SELECT sum(abalance) FROM pgbench_accounts),
       (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches),
       (SELECT count(*) FROM pgbench_history)
"""


def binaries() -> str | None:
    """Return where PostgreSQL's programs are: Debian keeps them out of PATH, version by version."""
    places = sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)
    found = shutil.which("postgres", path=os.pathsep.join([*places, os.environ["PATH"]]))
    return None if found is None else os.path.dirname(os.path.realpath(found))


def as_postgres(program: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a program of PostgreSQL, run as its user."""
    place = binaries()
    assert place is not None
    user = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    return ("setpriv", *user, f"{place}/{program}", *arguments)


@dataclass(frozen=True)
class Cluster:
    """A database cluster in a directory: `data`, and `wal` that its `pg_wal` is a link to."""

    directory: str
    socket: str
    """A directory that its user may write to."""

    def create(self, scale: int) -> None:
        """Make it, with pgbench's tables: a scale is 15 MB."""
        for name in ("", "data", "wal"):
            os.makedirs(f"{self.directory}/{name}", exist_ok=True)
            shutil.chown(f"{self.directory}/{name}", USER, USER)
        wal = f"{self.directory}/wal/segments"
        places = ("--pgdata", f"{self.directory}/data", "--waldir", wal)
        sh(*as_postgres("initdb", *places, "--auth=peer", "--no-sync", "--no-locale"))
        with self.running():
            self._client("pgbench", "--initialize", "--quiet", "--scale", str(scale))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server while the body runs; it recovers first, as after a crash."""
        options = [word for setting in _SETTINGS for word in ("-c", setting)]
        places = ("-D", f"{self.directory}/data", "-k", self.socket)
        with subprocess.Popen(
            as_postgres("postgres", *places, *options),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as server:
            try:
                wait_until(lambda: self._is_ready() or server.poll() is not None)
                assert server.poll() is None, f"no server starts on {self.directory}"
                yield
            finally:
                server.send_signal(signal.SIGQUIT)  # at once, with all of its processes

    @contextmanager
    def under_load(self) -> Iterator[subprocess.Popen[bytes]]:
        """Transfer money while the body runs, with the server running.

        All of it goes from the WAL into the tables five times a second: whoever reads one file
        after the other gets what does not belong together.
        """
        transfer = ("pgbench", *self._place, "-c", str(_CLIENTS), "-T", "100000", USER)
        settle = ("psql", "-q", *self._place, USER)
        with self._started(*transfer) as load, self._started(*settle, stdin=_SETTLE) as settling:
            yield load
            assert settling.poll() is None

    @contextmanager
    def _started(
        self, program: str, *arguments: str, stdin: str = ""
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a client while the body runs."""
        with tempfile.TemporaryFile() as script:
            script.write(stdin.encode())
            script.seek(0)
            with subprocess.Popen(
                as_postgres(program, *arguments),
                stdin=script,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as client:
                try:
                    yield client
                finally:
                    client.kill()

    def transfers(self) -> int:
        """Return how many transfers there have been, having seen that all sums are the same."""
        answer = self._client("psql", "-At", "-F", " ", "-c", _SUMS)
        *sums, count = map(int, answer.split())
        assert len(set(sums)) == 1, f"the sums differ: {sums}"
        return count

    def assert_sound(self) -> None:
        """Let PostgreSQL check every table and every index."""
        self._client("pg_amcheck", "--install-missing", "--heapallindexed", "--all")

    def moved_to(self, directory: str) -> Cluster:
        """Return the same as it was restored in another directory."""
        link = f"{directory}/data/pg_wal"
        os.unlink(link)
        os.symlink(f"{directory}/wal/segments", link)
        return Cluster(directory, self.socket + "-restored")

    @property
    def _place(self) -> tuple[str, ...]:
        return ("-h", self.socket)

    def _client(self, program: str, *arguments: str) -> str:
        names = () if program == "pg_amcheck" else (USER,)
        return sh(*as_postgres(program, *self._place, *arguments, *names))

    def _is_ready(self) -> bool:
        argv = as_postgres("pg_isready", "-q", *self._place)
        return subprocess.run(argv, check=False).returncode == 0
