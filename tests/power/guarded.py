"""A guest with a job, whose power is cut, and what has to be true afterwards.

Sources, repository and restic's cache lie on one file system, btrfs on LUKS: all suffer the cut.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kernel.backups import PASSWORD

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.power.machine import Command, Machine
    from tests.power.write_log import Loss

_CONFIG = """\
state-directory = "/backup/state"
runtime-directory = "/run/holdstill"
cache-directory = "/backup/cache"

[repositories.main]
url = "/backup/repository"
password-file = "/etc/holdstill/password"
environment-file = "/etc/holdstill/environment"

[jobs.data]
paths = ["/data"]
repositories = ["main"]
keep = { last = 1 }
prune = { max-unused = "0" }
"""
_ENVIRONMENT = "RESTIC_PACK_SIZE=4\n"  # MiB, the smallest: many packs out of few bytes

_DEVICE = "/dev/mapper/safe"
_LUKS = (
    *("luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2"),
    *("--pbkdf-force-iterations", "1000"),
)
_MOUNTS = {"/": "/mnt", "@data": "/data", "@backup": "/backup"}
_NESTED = ("mail", "bank", "bank/log")
_SUBVOLUMES = {"@data", "@backup", *(f"@data/{name}" for name in _NESTED)}
_STATIC = ("/data/static", "/data/bank/static")
_JOURNALS = ("/data", "/data/mail", "/data/bank/log")
_FEW_RECORDS = 3
_BACKUP = ("backup", "--json", "data")
_RESTIC = ("restic", "-r", "/backup/repository", "-p", "/etc/holdstill/password", "--no-cache")


def etc(directory: Path) -> dict[str, str]:
    """Write the guest's configuration; map the paths of its files to those written."""
    texts = {"config.toml": _CONFIG, "environment": _ENVIRONMENT, "password": PASSWORD}
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
        (directory / name).chmod(0o600)
    return {f"/etc/holdstill/{name}": str(directory / name) for name in texts}


class Moment(NamedTuple):
    """When the power is cut: as soon as a program of the guest says so."""

    watcher: tuple[str, ...]
    """What runs beside holdstill and says it; if empty, it is holdstill itself that is watched."""
    watched: tuple[str, ...] = ()
    """The event, function and count at which holdstill is (guest/moment.py)."""


def function(event: str, name: str, count: int = 1) -> Moment:
    """Return the moment when holdstill calls a function, or returns from it."""
    return Moment((), (event, f"holdstill.{name}", str(count)))


def packs(event: str, count: int) -> Moment:
    """Return the moment when restic has written or removed so many packs."""
    return Moment(("python", "/guest/packs.py", event, str(count), "/backup/repository"))


class Guarded:
    """The host's view of a guest, and what it remembers of it through a cut."""

    def __init__(self, machine: Machine) -> None:
        """Set up disk, data and repository, and make a first backup."""
        self.machine = machine
        self.is_settled = False
        """Whether it has recovered from its last cut."""
        self._writer: Command | None = None
        machine.boot()
        machine.succeed("cryptsetup", *_LUKS, "/dev/vda", "-", stdin=PASSWORD)
        self._unlock()
        machine.succeed("mkfs.btrfs", "--quiet", _DEVICE)
        self._mount("/")
        for name in sorted(_SUBVOLUMES):
            machine.succeed("btrfs", "subvolume", "create", f"/mnt/{name}")
        self._mount("@data", "@backup")
        machine.succeed("cp", "-r", "/template", "/backup/repository")
        machine.succeed("python", "/guest/tree.py", "fill", "20", "5000", *_STATIC)
        machine.succeed("sync")
        self._digests = self._digested(*_STATIC)
        self._change()
        self.assert_next_run_succeeds(leftovers=[])

    def _unlock(self) -> None:
        open_it = ("open", "--key-file", "-", "/dev/vda", "safe")
        self.machine.succeed("cryptsetup", *open_it, stdin=PASSWORD)

    def _mount(self, *subvolumes: str) -> None:
        for name in subvolumes:
            self.machine.succeed("mount", "-m", "-o", f"subvol={name}", _DEVICE, _MOUNTS[name])

    def _digested(self, *directories: str) -> list[str]:
        return self.machine.succeed("python", "/guest/tree.py", "digest", *directories).split()

    def _change(self) -> None:
        self.machine.succeed("python", "/guest/tree.py", "fill", "12", "1000000", "/data/bank/new")

    def back_up_until(self, moment: Moment, *, stay: bool) -> None:
        """Start a run while others write, and return at a moment of it.

        There holdstill's own steps wait for the cut, or go on.
        """
        self.is_settled = False
        self._change()
        self._writer = self.machine.start("python", "/guest/journal.py", "write", *_JOURNALS)
        if moment.watcher:
            watcher = self.machine.start(*moment.watcher)
            watcher.wait_for("watching")
            self.machine.start("python", "-P", "-m", "holdstill", *_BACKUP)
        else:
            profiled = ("/guest/moment.py", *moment.watched, "stay" if stay else "go")
            watcher = self.machine.start("python", "-P", *profiled, *_BACKUP)
        watcher.wait_for("now")
        while len(self._writer.said()) < _FEW_RECORDS:
            time.sleep(0.01)

    def lose_power(self, chance: random.Random) -> Loss | None:
        """Cut the power, and switch it on again."""
        assert self._writer is not None
        loss = self.machine.cut(chance)
        self._safe = int(self._writer.said()[-1]) + 1
        self.machine.boot()
        self._unlock()
        return loss

    def assert_unharmed(self) -> list[str]:
        """Check all that the cut must not have touched; return the runs that it left."""
        machine = self.machine
        machine.succeed("btrfs", "check", "--readonly", "--check-data-csum", _DEVICE)
        self._mount(*_MOUNTS)
        counts = machine.succeed("python", "/guest/journal.py", "read", *_JOURNALS).split()
        assert min(map(int, counts)) >= self._safe, "records that were synced are gone"
        assert self._digested(*_STATIC) == self._digests
        machine.succeed(*_RESTIC, "check", "--no-lock")
        return machine.succeed("ls", "/mnt/.holdstill").split()

    def assert_next_run_succeeds(self, leftovers: list[str]) -> None:
        """Run the job again: it sweeps the leftovers with a warning, and all is well."""
        machine = self.machine
        done = machine.run("python", "-P", "-m", "holdstill", *_BACKUP)
        assert done.status == 0, done.err
        record: dict[str, Any] = json.loads(done.out)
        assert record["outcome"] == "ok"
        self.last_run: str = record["run_id"]
        swept = [text.split()[5] for text in record["warnings"] if "dead run" in text]
        assert swept == leftovers
        assert machine.succeed("ls", "/mnt/.holdstill") == ""
        listed = machine.succeed("btrfs", "subvolume", "list", "/mnt")
        assert set(re.findall(r" path (.*)", listed)) == _SUBVOLUMES
        machine.succeed(*_RESTIC, "check")
        machine.succeed(*_RESTIC, "restore", "latest", "--target", "/tmp/restored")
        live, restored = self._digested("/data", "/tmp/restored/data")
        assert live == restored
        self.is_settled = True
