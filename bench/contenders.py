"""What is measured against each other: holdstill, the shell script, and plain restic."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import Cost, Restic, run

if TYPE_CHECKING:
    from bench.stage import Source, Stage

INSTALLED = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build/installed"
)
PYTHON = f"{INSTALLED}/bin/python"
HOLDSTILL = f"{INSTALLED}/bin/holdstill"
"""As users have it: `make bench` installs it as `make install` does, with the system's Python."""
NAMES = ("holdstill", "script", "restic")

Contender = Callable[[], Cost]

_ORIGIN = (
    "unshare",
    "--mount",
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "origin.sh"),
)
_WORK = """\
restic backup --quiet --tag bench "$SOURCE"
restic forget --quiet --prune --max-unused 5G --tag bench --group-by paths,tags \
    --keep-daily 14 --keep-weekly 8 --keep-monthly 12 --keep-yearly 5
"""
_CONFIGURATION = """\
state-directory = "{directory}/state"
runtime-directory = "{directory}/run"
cache-directory = "{directory}/cache"
[repositories.disk]
url = "{directory}/repository"
password-file = "{directory}/password"
[jobs.bench]
paths = ["{source}"]
repositories = ["disk"]
tags = ["bench"]
[jobs.bench.keep]
daily = 14
weekly = 8
monthly = 12
yearly = 5
group-by = ["paths", "tags"]
[jobs.bench.prune]
max-unused = "5G"
"""


def rounds(contenders: Mapping[str, Contender], count: int) -> dict[str, list[Cost]]:
    """Run them in turn, every other round in reverse order."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(count):
        names = list(contenders)
        for name in reversed(names) if number % 2 else names:
            costs[name].append(contenders[name]())
    return costs


def freezers(stage: Stage, source: Source) -> dict[str, Contender]:
    """Freeze a source and run `true`."""
    frozen = [HOLDSTILL, "exec", source.path, "--", "/bin/true"]
    environment = os.environ | origin_variables(stage, source, "/bin/true")
    return {
        "holdstill": lambda: run(frozen, os.environ),
        "script": lambda: run(_ORIGIN, environment),
    }


def origin_variables(stage: Stage, source: Source, work: str) -> dict[str, str]:
    """Return the configuration of origin.sh."""
    return {
        "DEVICE": stage.device,
        "TOP": stage.top,
        "SUBVOLUME": source.subvolume,
        "SOURCE": source.path,
        "WORK": work,
    }


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with its password, its cache, and holdstill's configuration for it."""

    stage: Stage
    source: Source
    restic: Restic
    name: str

    @property
    def directory(self) -> str:
        """Where all of it lies, on the disk."""
        return f"{self.stage.top}/repositories/{self.source.name}/{self.name}"

    @property
    def configuration(self) -> str:
        """Where holdstill's configuration is."""
        return f"{self.directory}/config.toml"

    @property
    def data(self) -> str:
        """Where restic's own files are."""
        return f"{self.directory}/repository"

    def plain(self, work: str) -> tuple[list[str], dict[str, str]]:
        """Return command line and environment for shell text that calls restic."""
        own = {
            "RESTIC_REPOSITORY": self.data,
            "RESTIC_PASSWORD_FILE": f"{self.directory}/password",
            "RESTIC_CACHE_DIR": f"{self.directory}/cache/restic",
            "SOURCE": self.source.path,
        }
        # The colon: bash would become the last command, and its wrapper count the CPU of them all.
        return ["bash", "-euc", f"{work}\n:"], self.restic.environment(own)

    def script(self, work: str) -> tuple[list[str], dict[str, str]]:
        """Return the same, run by the script."""
        _, environment = self.plain(work)
        return list(_ORIGIN), environment | origin_variables(self.stage, self.source, work)

    def holdstill(self) -> tuple[list[str], dict[str, str]]:
        """Return command line and environment of holdstill's backup."""
        argv = [HOLDSTILL, "backup", "--json", "--config", self.configuration]
        return argv, self.restic.environment({})

    def create(self) -> None:
        """Make the directory and all in it but restic's own files."""
        os.makedirs(self.directory)
        password = Path(self.directory, "password")
        password.touch(0o600)
        password.write_text("bench\n", encoding="ascii")
        text = _CONFIGURATION.format(directory=self.directory, source=self.source.path)
        Path(self.configuration).write_text(text, encoding="utf-8")

    def initialize(self) -> None:
        """Make all of it."""
        self.create()
        run(*self.plain("restic init"))


def backups(stage: Stage, source: Source, restic: Restic) -> dict[str, Contender]:
    """Back a source up and apply the retention, each contender in a repository of its own.

    The repositories are copies of one that is full; everyone has run once.
    """
    seed = Repository(stage, source, restic, "seed")
    seed.initialize()
    run(*seed.plain(_WORK))
    own = {name: Repository(stage, source, restic, name) for name in NAMES}
    for each in own.values():
        each.create()
        run(["cp", "--archive", "--reflink=always", seed.data, each.data], os.environ)
    commands = (
        own["holdstill"].holdstill(),
        own["script"].script(_WORK),
        own["restic"].plain(_WORK),
    )
    contenders = {
        name: _backup(*command, restic) for name, command in zip(NAMES, commands, strict=True)
    }
    rounds(contenders, 1)
    return contenders


def _backup(argv: list[str], environment: dict[str, str], restic: Restic) -> Contender:
    return lambda: run(argv, environment, restic)
