"""A machine on which holdstill is installed and nothing is configured, and who sits before it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import termios
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kernel.backups import HOLDSTILL, TIMEOUT_SECONDS, Finished, Site, kill_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# In a namespace of its own, which has no btrfs but that of a test: everything else is detached.
_ALONE = r"""
awk '/ - btrfs /{print $5}' /proc/self/mountinfo | while read -r place; do
    case $place in "$ONLY"/*) ;; *) umount -l "$(printf %b "$place")" 2>/dev/null ;; esac
done
exec "$@"
"""


class Newcomer:
    """Somebody who has just installed holdstill."""

    def __init__(self, site: Site) -> None:
        """Use the directories and the noted restic of a site, which is never configured."""
        self.site = site
        self.directory = site.path("etc")
        self.configuration = f"{self.directory}/config.toml"
        self.repository = site.path("new-repository")
        self.only = os.environ["HOLDSTILL_TEST_ARENA"]
        site.environment["HOLDSTILL_CONFIG"] = self.configuration
        for kind in ("state", "runtime", "cache"):
            site.environment[f"{kind.upper()}_DIRECTORY"] = site.path(kind)

    def argv(self, *arguments: str, wrapper: Sequence[str] = ()) -> list[str]:
        """Return holdstill's command line, alone with the test's own disks."""
        return ["unshare", "-m", "sh", "-c", _ALONE, "sh", *wrapper, *HOLDSTILL, *arguments]

    def environ(self) -> dict[str, str]:
        """Return the environment of every command."""
        return {**self.site.environ(), "ONLY": self.only}

    def run(self, *arguments: str, wrapper: Sequence[str] = ()) -> Finished:
        """Run holdstill without a terminal."""
        return subprocess.run(
            self.argv(*arguments, wrapper=wrapper),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    def init(self, *arguments: str) -> Finished:
        """Run `init` with flags, which has to succeed."""
        done = self.run("init", "--repository", self.repository, *arguments)
        assert done.returncode == 0, done.stderr
        return done

    def back_up(self, *jobs: str) -> dict[str, Any]:
        """Run a job that must end well; return its record."""
        done = self.run("backup", "--json", *jobs)
        assert done.returncode == 0, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    def written(self) -> dict[str, int]:
        """Return the files beside the configuration, with their modes."""
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        return {name: os.stat(f"{self.directory}/{name}").st_mode & 0o7777 for name in names}

    def text(self) -> str:
        """Return the configuration as it was written."""
        return Path(self.configuration).read_text(encoding="utf-8")

    @contextmanager
    def talking(self, *arguments: str) -> Iterator[Dialogue]:
        """Run holdstill on a terminal of its own."""
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", *self.argv(*arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**self.environ(), "COLUMNS": "80", "TERM": "dumb"},
        )
        os.close(theirs)
        try:
            yield Dialogue(ours, process)
        finally:
            kill_group(process.pid)
            process.kill()
            process.wait()
            os.close(ours)


class Dialogue:
    """What is said on a terminal, and what is answered."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        """Hear everything from the beginning."""
        self._terminal = terminal
        self._process = process
        self._heard = 0
        self.said = ""

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and answer it."""
        self.expect(question)
        os.write(self._terminal, f"{text}\n".encode())

    def expect(self, text: str) -> None:
        """Wait until something is said that was not heard before."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.said[self._heard :]:
            assert self._listen(deadline), (text, self.said)
        self._heard = self.said.index(text, self._heard) + len(text)

    def shows_what_is_typed(self) -> bool:
        """Whether the terminal echoes."""
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)

    def end(self) -> int:
        """Listen to the end; return the exit status."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._listen(deadline):
            pass
        return self._process.wait(TIMEOUT_SECONDS)

    def _listen(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
        try:
            data = os.read(self._terminal, 1 << 16) if ready else b""
        except OSError:  # the last process at the other end is gone
            return False
        self.said += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)
