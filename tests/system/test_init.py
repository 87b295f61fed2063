"""`holdstill init` on a booted systemd: it knows calendars, and offers the timer."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.system.jobs import TIMER
from tests.system.machine import DATA

if TYPE_CHECKING:
    from tests.system.machine import Machine

FLAGS = f"--path {DATA} --job data --repository /backup --generate-password"


@pytest.fixture
def new_machine(machine: Machine) -> Machine:
    """Lend a machine without a configuration or a repository."""
    shutil.rmtree(f"{machine.root}/backup", ignore_errors=True)
    return machine


def test_the_timer_is_offered_and_installed(new_machine: Machine) -> None:
    """On a terminal: a calendar that systemd cannot read is asked for again."""
    answers = "".join(f"{line}\n" for line in ("at night", "*-*-* 04:00:00", "yes", "yes"))
    command = f"script --quiet --return --command 'holdstill init {FLAGS}' /dev/null"
    said = new_machine.succeed("sh", "-c", command, stdin=answers)
    assert "Failed to parse calendar" in said
    assert "Let systemd start it then?" in said
    assert new_machine.properties(TIMER)["UnitFileState"] == "enabled"
    assert "04:00:00" in new_machine.succeed("systemctl", "cat", TIMER)
    new_machine.succeed("holdstill", "backup")


def test_without_a_terminal_the_timer_is_only_named(new_machine: Machine) -> None:
    """Nothing is asked, and nothing is enabled that no flag has asked for."""
    said = new_machine.shell(f"holdstill init {FLAGS} --yes")
    assert "holdstill schedule install" in said
    assert new_machine.run("systemctl", "cat", TIMER).returncode != 0


def test_a_calendar_that_systemd_cannot_read_is_refused(new_machine: Machine) -> None:
    """Before anything is written, in systemd's own words."""
    wrong = ("holdstill", "init", *FLAGS.split(), "--yes", "--schedule", "at night")
    complaint = new_machine.fail(*wrong, status=2)
    assert "Failed to parse calendar" in complaint
    assert new_machine.run("test", "-e", "/etc/holdstill/config.toml").returncode != 0
