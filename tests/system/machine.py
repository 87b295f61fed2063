"""A booted systemd: the running system once more, in a container that can be reset and reboot.

Its root is an overlay: `/` of this machine below, a tmpfs above, which outlives a reboot. What an
administrator has set up here is not in it: /etc/systemd and /etc/holdstill are empty. Only
basic.target is started. btrfs lies on a loop device of this machine.

It ends with the process that started it, and its mounts live in the tests' own namespace, below the
arena: the guardian detaches what is left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.disks import sh
from tests.kernel.guardian import unmount

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.disks import Arena

Finished = subprocess.CompletedProcess[str]

CHECKOUT = str(Path(__file__).parents[2])
DATA = "/srv/data"
PATIENCE_SECONDS = 60.0

_POLL_SECONDS = 0.05
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# It ends with the tests, however these do: systemd-nspawn alone would leave its container behind.
_LAUNCH = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--pid", "--mount-proc", "--fork", "--kill-child=KILL"),
)
# Who cannot reach the checkout could not even start the program.
_BECOME = (
    *("setpriv", "--clear-groups", "--inh-caps=+dac_read_search"),
    "--ambient-caps=+dac_read_search",
)
_OPTIONS = (
    *("--quiet", "--register=no", "--keep-unit", "--boot", "--capability=all"),
    *("--private-network", "--link-journal=no", "--console=pipe", "--resolv-conf=off"),
    *("--timezone=off", "--machine=holdstill-test"),
)
_EMPTY = ("/etc/systemd", "/etc/holdstill", "/var/lib/systemd", "/var/log/journal")
_MOUNT_UNIT = """\
[Mount]
What={device}
Where={where}
Type=btrfs
Options=subvol=@data

[Install]
WantedBy=local-fs.target
"""
_JOURNALD = "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\nRateLimitIntervalSec=0\n"


class Machine:
    """The container, its root and its disk; `boot` starts it, `kill` is a power cut."""

    def __init__(self, arena: Arena, device: str, restic: str) -> None:
        """Put the root together, with a subvolume `@data` on the disk, mounted at /srv/data."""
        self.device = device
        self._restic = restic
        self._layers = arena.directory(arena.unique("machine"))
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.root = f"{self._layers}/root"
        self.console = f"{self._layers}/console"
        arena.mount_tmpfs(self._layers)
        for name in ("upper", "work", "root"):
            os.mkdir(f"{self._layers}/{name}")
        layers = f"lowerdir=/,upperdir={self._layers}/upper,workdir={self._layers}/work"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        self._furnish()

    def _furnish(self) -> None:
        for path in _EMPTY:
            with suppress(OSError):
                sh("rm", "-rf", self.root + path)
            os.makedirs(self.root + path)
        for name in ("holdstill", "restic"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.root}/usr/local/bin/{name}")
        os.symlink(f"{sys.prefix}/bin/holdstill", f"{self.root}/usr/local/bin/holdstill")
        os.symlink(self._restic, f"{self.root}/usr/local/bin/restic")
        os.makedirs(self.root + DATA, exist_ok=True)
        unit = _MOUNT_UNIT.format(device=self.device, where=DATA)
        self.write("/etc/systemd/system/srv-data.mount", unit)
        self.write("/etc/systemd/journald.conf", _JOURNALD)
        self.write("/etc/hostname", "machine\n")
        sh("systemctl", f"--root={self.root}", "enable", "srv-data.mount")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, whether it runs or not; no path into a mount of its own."""
        assert not path.startswith(("/tmp", "/run", DATA)), "the machine mounts something there"
        place = Path(self.root + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        place.chmod(mode)

    def boot(self) -> None:
        """Start it, unless it runs, and wait until all is started."""
        if self._nspawn is not None:
            return
        with open(self.console, "wb") as console:
            self._nspawn = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": os.environ["PATH"]},
            )
        self.wait_until(self._is_up, "the machine does not boot")

    def _argv(self) -> tuple[str, ...]:
        binds = dict.fromkeys((CHECKOUT, sys.prefix, sys.base_prefix, self._restic))
        return (
            *_LAUNCH,
            "systemd-nspawn",
            *_OPTIONS,
            *(f"--bind-ro={path}" for path in binds if path not in {"/", "/usr"}),
            f"--bind={self.device}",
            f"--directory={self.root}",
            "systemd.unit=basic.target",
        )

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"systemd-nspawn ended:\n{self._seen()}"
        leaders = [one for nspawn in _children(self._nspawn.pid) for one in _children(nspawn)]
        if len(leaders) != 1:
            return False
        self._leader = leaders[0]
        state = self.run("systemctl", "is-system-running").stdout.strip()
        return state in {"running", "degraded"}

    def _seen(self) -> str:
        return Path(self.console).read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Cut the power."""
        if self._nspawn is not None:
            self._nspawn.kill()
            self._nspawn.wait()
            self._nspawn = None
            self.wait_until(self._is_gone, "a process of the machine does not end")

    def _is_gone(self) -> bool:
        return not os.path.exists(f"/proc/{self._leader}/ns/mnt")

    def close(self) -> None:
        """End it for good, and take its root apart."""
        self.kill()
        for path in (self.root, self._layers):
            unmount(path)

    def run(self, *argv: str, stdin: str = "", user: str = "") -> Finished:
        """Run a command in it to its end."""
        become = (*_BECOME, f"--reuid={user}", f"--regid={user}") if user else ()
        enter = ("nsenter", "--target", str(self._leader), *_NAMESPACES, "--root", "--wd=/")
        environment = ("env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8")
        return subprocess.run(
            [*enter, *become, *environment, *argv],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            input=stdin,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )

    def succeed(self, *argv: str, stdin: str = "") -> str:
        """Run a command that must not fail; return what it printed."""
        done = self.run(*argv, stdin=stdin)
        assert done.returncode == 0, f"{argv}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def fail(self, *argv: str, status: int) -> str:
        """Run a command that must end with a status; return what it complained of."""
        done = self.run(*argv)
        assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def shell(self, script: str) -> str:
        """Run lines of shell that must not fail; return what they printed."""
        return self.succeed("sh", "-euc", script)

    def shell_outside(self, script: str) -> None:
        """Run lines of shell in its root while it does not run, with paths relative to that."""
        subprocess.run(["sh", "-euc", script], cwd=self.root, check=True)

    def properties(self, unit: str) -> dict[str, str]:
        """Return what systemd knows of a unit."""
        lines = self.succeed("systemctl", "show", unit).splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def wait_for_unit(self, unit: str, state: str = "active") -> dict[str, str]:
        """Wait until a unit is in a state; return what systemd knows of it then."""
        self.wait_until(
            lambda: self.properties(unit)["ActiveState"] == state, f"{unit} is not {state}"
        )
        return self.properties(unit)

    def wait_until_succeeds(self, *argv: str) -> str:
        """Run a command again and again until it succeeds; return what it printed."""
        self.wait_until(lambda: self.run(*argv).returncode == 0, f"{argv} never succeeds")
        return self.succeed(*argv)

    def wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait for something to become true, or fail with the end of the journal."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                journal = self.run("journalctl", "--no-pager", "--lines=60").stdout
                pytest.fail(f"{otherwise}\n{self._seen()}\n{journal}")
            time.sleep(_POLL_SECONDS)

    def journal(self, unit: str) -> str:
        """Return what a unit has said since the boot."""
        self.succeed("journalctl", "--sync")
        return self.succeed("journalctl", "--no-pager", "--output=cat", "--boot", f"--unit={unit}")


def _children(process: int) -> list[int]:
    with suppress(OSError):  # it has ended
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
        return [int(word) for word in text.split()]
    return []
