"""The Debian package: built, installed, used, removed and purged by Debian's own programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.private_root import CHECKOUT
from tests.packaging.installed import (
    CONFIGURATION,
    HISTORY,
    STAYS,
    VERSION,
    check_backup,
    check_completions,
    check_man_pages,
    check_program,
)
from tests.packaging.machine import documented

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

pytestmark = pytest.mark.timeout(900)  # the first of them builds it

SYSTEMS_OWN = ("/var/lib/dpkg/", "/var/lib/apt/", "/var/log/", "/var/cache/", "/etc/apt/")

_NOTE = """\
#!/bin/sh
echo "${0##*/} $*" >>/opt/calls
"""
# A container's policy forbids packages to start and stop anything; a machine that boots has none.
_BOOTED = "mkdir -p /run/systemd/system; rm -f /usr/sbin/policy-rc.d"


def test_lintian_finds_nothing(deb: str) -> None:
    """Debian's own checks, but for the overrides, which say why."""
    lintian = ("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0")
    done = subprocess.run([*lintian, deb], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_fits_the_python_that_it_was_built_for(deb: str) -> None:
    """The libraries are compiled: with another minor version of Python it cannot be installed."""
    asked = ["dpkg-deb", "--field", deb, "Depends", "Version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    minor = int(os.readlink("/usr/bin/python3").removeprefix("python3."))
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)" in done.stdout
    assert "restic (>= 0.14)" in done.stdout
    assert f"Version: {VERSION}" in done.stdout


def test_nothing_in_it_tells_where_it_was_built(deb: str, tmp_path: Path) -> None:
    """No path of the checkout, no notes of pip."""
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tmp_path / "all"], check=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if CHECKOUT.encode() in path.read_bytes()] == []
    assert not any(path.name in {"direct_url.json", "RECORD"} for path in files)


@pytest.mark.usefixtures("deb")
def test_it_is_installed_works_and_is_removed(machine: Machine) -> None:
    """With apt, as docs/install.md says; it makes a backup, and a purge keeps the passwords."""
    install, remove, purge = documented("Debian package")
    machine.succeed("rm -f /etc/dpkg/dpkg.cfg.d/*")  # a container's, which leave out man pages
    machine.write("/etc/apt/apt.conf.d/yes", 'APT::Get::Assume-Yes "true";')
    machine.succeed(install)
    check_program(machine, "/usr/bin/holdstill")
    check_man_pages(machine)
    check_completions(machine)
    check_backup(machine)
    machine.write(f"{HISTORY}.corrupt-20260101T000000Z")
    machine.succeed(remove)
    left = of_holdstill(machine)
    assert left >= {*CONFIGURATION, HISTORY}
    assert {path for path in left if not path.startswith(STAYS)} == set()
    purged = machine.succeed(f"{purge.strip()} 2>&1")
    assert of_holdstill(machine) == CONFIGURATION
    assert "/etc/holdstill stays, with the passwords of your repositories" in purged


def of_holdstill(machine: Machine) -> set[str]:
    """Return what is there that is not the package manager's, and all that has the name."""
    made = machine.made()
    others = {path for path in made if path.startswith(SYSTEMS_OWN) and "holdstill" not in path}
    return {path for path in made - others if "/dpkg/info/holdstill." not in path}


def test_a_purge_removes_nothing_that_is_not_its_own(machine: Machine) -> None:
    """Not a repository that somebody keeps beside the history."""
    machine.write(HISTORY)
    machine.write("/var/lib/holdstill/repository/config")
    _run(machine, "postrm", "purge")
    assert machine.made() == {"/var/lib/holdstill/repository/config"}


def test_a_purge_of_a_machine_without_configuration_leaves_nothing(machine: Machine) -> None:
    """And says nothing."""
    machine.write(HISTORY)
    machine.succeed("mkdir -p /etc/holdstill /var/cache/holdstill")
    assert _run(machine, "postrm", "purge") == ""
    assert machine.made() == set()
    assert machine.run("ls -d /etc/holdstill /var/*/holdstill").stdout == ""


def test_a_removal_stops_runs_and_removes_timers(machine: Machine) -> None:
    """In this order. Programs that note their calls stand for systemd's and for holdstill."""
    _note_calls(machine)
    _run(machine, "prerm", "remove", _BOOTED)
    assert machine.succeed("cat /opt/calls").splitlines() == [
        "systemctl stop holdstill*",
        "holdstill schedule remove --help",
        "holdstill schedule remove",
    ]


@pytest.mark.parametrize(("action", "before"), [("remove", ""), ("upgrade", _BOOTED)])
def test_timers_stay_otherwise(machine: Machine, action: str, before: str) -> None:
    """Where no systemd runs them, and with an upgrade, which they outlive."""
    _note_calls(machine)
    _run(machine, "prerm", action, before)
    assert machine.run("cat /opt/calls").stdout == ""


def _note_calls(machine: Machine) -> None:
    for name in ("holdstill", "systemctl"):
        machine.write(f"/usr/local/bin/{name}", _NOTE, 0o755)


@pytest.mark.parametrize(
    ("systemctl", "holdstill", "complaint"),
    [
        ("exit 0", "exit 2", ""),  # a program that knows no `schedule`, or cannot run any more
        ("exit 1", "exit 0", "holdstill: a run could not be stopped"),
        ("exit 0", '[ "$3" ]', "holdstill: some timers are left"),
    ],
)
def test_a_removal_goes_on(
    machine: Machine, systemctl: str, holdstill: str, complaint: str
) -> None:
    """What it could not do is named."""
    machine.write("/usr/local/bin/systemctl", f"#!/bin/sh\n{systemctl}\n", 0o755)
    machine.write("/usr/local/bin/holdstill", f"#!/bin/sh\n{holdstill}\n", 0o755)
    said = _run(machine, "prerm", "remove", _BOOTED)
    assert said.partition(": see ")[0] == complaint


def _run(machine: Machine, script: str, action: str, before: str = "") -> str:
    """Run a maintainer script as dpkg does; return what it says."""
    text = Path(CHECKOUT, "debian", script).read_text(encoding="utf-8")
    return machine.succeed(f"{before}\nsh -s {action} <<'END' 2>&1\n{text}\nEND")
