"""`tools/setup` installs what is missing: with every package manager, which is a script here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SETUP = (Path(__file__).parents[2] / "tools/setup").read_text(encoding="utf-8")
SBIN = "\nPATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
"""Where this machine's own programs are, on some all of them."""
INSTALL = {
    "apt-get": "-qq -y --no-install-recommends install restic",
    "dnf": "-q -y install restic",
    "pacman": "-Sy --noconfirm --needed --quiet restic",
    "zypper": "--quiet --non-interactive install --no-recommends restic",
}


@dataclass(frozen=True)
class Machine:
    """A directory that is all of PATH, and a log of what was run."""

    bin: Path
    log: Path

    def has(self, name: str, script: str = "") -> None:
        """Put a program there."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def has_manager(self, name: str) -> None:
        """Put a package manager there: whatever it installs, there is a restic then."""
        restic = self.bin / "restic"
        self.has(name, f'echo "{name} $*" >>{self.log}; echo >{restic}; /bin/chmod +x {restic}')

    def set_up(self, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Run tools/setup as a user."""
        assert SBIN in SETUP
        self.has("id", f"echo {user}")
        return subprocess.run(
            ["/bin/sh", "-c", SETUP.replace(SBIN, "\n")],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """Return what was run."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine that lacks restic, and a package manager."""
    (tmp_path / "bin").mkdir()
    made = Machine(tmp_path / "bin", tmp_path / "log")
    made.has("python3", f'exec {sys.executable} "$@"')
    made.has("env", 'exec /usr/bin/env "$@"')
    for name in ("mkfs.btrfs", "losetup", "mount"):
        made.has(name)
    return made


@pytest.mark.parametrize("manager", INSTALL)
def test_what_is_missing_is_installed(machine: Machine, manager: str) -> None:
    """That alone, with the machine's own package manager."""
    machine.has_manager(manager)
    assert machine.set_up().returncode == 0
    assert machine.calls()[-1] == f"{manager} {INSTALL[manager]}"


@pytest.mark.parametrize("manager", INSTALL)
def test_who_is_not_root_uses_sudo(machine: Machine, manager: str) -> None:
    """For the package manager alone."""
    machine.has_manager(manager)
    machine.has("sudo", f'echo sudo >>{machine.log}; exec "$@"')
    assert machine.set_up(user=1000).returncode == 0
    assert machine.calls()[-2:] == ["sudo", f"{manager} {INSTALL[manager]}"]


def test_where_nothing_is_missing_nothing_is_done(machine: Machine) -> None:
    """Nobody is asked for a password."""
    machine.has_manager("apt-get")
    machine.has("restic")
    assert machine.set_up(user=1000).returncode == 0
    assert machine.calls() == []


@pytest.mark.parametrize(
    ("manager", "words"),
    [("", "no apt, dnf, pacman or zypper"), ("apt-get", "there is no sudo")],
)
def test_what_cannot_be_installed_is_said(machine: Machine, manager: str, words: str) -> None:
    """With what to do instead."""
    if manager:
        machine.has_manager(manager)
    done = machine.set_up(user=1000)
    assert done.returncode != 0
    assert words in done.stderr
    assert machine.calls() == []


def test_a_manager_that_installs_nothing_is_noticed(machine: Machine) -> None:
    """Whatever its exit status says."""
    machine.has("dnf")
    done = machine.set_up()
    assert done.returncode == 1
    assert "restic is still missing" in done.stderr
