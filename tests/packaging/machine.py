"""A machine on which holdstill was never installed, for one way of installing it.

It is the running system with a file system in memory above it, which holds what was made. Its
commands have no network and do not see this checkout; with the script that started them they end.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.kernel import private_root
from tests.kernel.private_root import CHECKOUT

Finished = subprocess.CompletedProcess[str]

HOME = "/home/fresh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT_SECONDS = 240.0

_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": HOME,
    "LC_ALL": "C.UTF-8",
    "PATH": f"{PATH}:/mnt/bin",
    "PIP_FIND_LINKS": "/mnt/wheels",
    "PIP_NO_INDEX": "1",
    "PIPX_DEFAULT_PYTHON": "/usr/bin/python3",
    "UV_FIND_LINKS": "/mnt/wheels",
    "UV_NO_INDEX": "1",
    "UV_OFFLINE": "1",
}


@dataclass(frozen=True)
class Machine:
    """The running system, with `packages` as /mnt and what was built from this checkout in it."""

    base: str
    """A directory in memory that holds what differs from the running system."""
    packages: str

    @property
    def _upper(self) -> Path:
        return Path(self.base, "upper")

    @cached_property
    def _mounts(self) -> list[tuple[str, ...]]:
        new = f"{self.base}/root"
        layers = f"lowerdir=/,upperdir={self.base}/upper,workdir={self.base}/work"
        found: list[tuple[str, ...]] = [("mount", "-t", "overlay", "-o", layers, "overlay", new)]
        found += [("mount", "--rbind", path, new + path) for path in ("/sys", "/dev")]
        found += [("mount", "-t", "tmpfs", "tmpfs", new + path) for path in ("/run", "/tmp")]
        found += [("mount", "-t", "proc", "proc", f"{new}/proc")]
        found += [("mount", "--bind", self.packages, f"{new}/mnt")]
        found += [("mkdir", "-p", new + CHECKOUT)]
        found += [("mount", "-t", "tmpfs", "tmpfs", new + CHECKOUT)]
        for path in (sys.base_prefix, sys.prefix):  # pipx and uv are development tools here
            found += [("mkdir", "-p", new + path), ("mount", "--rbind", path, new + path)]
        return found

    def run(self, script: str) -> Finished:
        """Run a shell script as root."""
        alone = ("unshare", "--net", "--pid", "--fork", "--kill-child")
        root = (sys.executable, "-IS", private_root.__file__, f"{self.base}/root")
        return subprocess.run(
            [*alone, *root, json.dumps(self._mounts), "--", "sh", "-euc", f"cd /mnt\n{script}"],
            capture_output=True,
            encoding="utf-8",
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    def succeed(self, script: str) -> str:
        """Run a shell script that must end well; return what it printed."""
        done = self.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str = "", mode: int = 0o644) -> None:
        """Make a file, and the directories above it."""
        place = Path(self.base, f"upper{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        place.chmod(mode)

    def made(self) -> set[str]:
        """Return all that was made here and is still there, but for empty directories."""
        found = (path for path in self._upper.rglob("*") if path.is_symlink() or path.is_file())
        return {f"/{path.relative_to(self._upper)}" for path in found}


def documented(heading: str) -> list[str]:
    """Return the commands of each block below a heading of docs/install.md, as root types them."""
    text = Path(CHECKOUT, "docs/install.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert blocks, f"docs/install.md says nothing of {heading}"
    not_here = re.compile(r"^(sudo |make (dist|deb)\n)", re.MULTILINE)  # it is root, and all made
    return [not_here.sub("", block) for block in blocks]
