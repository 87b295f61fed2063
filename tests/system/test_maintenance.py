"""Timers of their own for pruning and checking, beside backups that only forget."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.system.jobs import SERVICE, YEARLY

if TYPE_CHECKING:
    from tests.system.jobs import Job
    from tests.system.machine import Machine

pytest_plugins = ["tests.kernel.backup_fixtures"]

PRUNE = "holdstill-prune@data.service"
CHECK = "holdstill-check@data.service"


@pytest.fixture
def maintained(job: Job) -> Job:
    """Schedule all three kinds of work."""
    job.job |= {"keep": {"last": 1}, "minimum-percent": 0}
    job.job["prune"] = {"schedule": YEARLY, "max-unused": "0"}
    job.job["check"] = {"schedule": YEARLY, "read-data-subset": "100%"}
    job.install()
    return job


def packs(machine: Machine) -> set[str]:
    """Return the files that hold the repository's data."""
    return set(machine.shell("find /backup/data -type f").split())


def result(machine: Machine, unit: str) -> str:
    """Start a unit, and return how it ended."""
    machine.run("systemctl", "start", "--wait", unit)
    return machine.properties(unit)["Result"]


def test_a_backup_forgets_and_another_timer_prunes(maintained: Job, machine: Machine) -> None:
    """The data that nobody uses any more lie there until then."""
    machine.shell("head -c 1M /dev/urandom >/srv/data/large")
    maintained.start()
    machine.shell("rm /srv/data/large")
    before = packs(machine)
    maintained.start()
    assert len(maintained.snapshots()) == 1
    assert before <= packs(machine)
    assert result(machine, PRUNE) == "success"
    assert not before <= packs(machine)
    assert "data: prune of main: ok" in machine.journal(PRUNE)
    rows = json.loads(machine.run("holdstill", "schedule", "show", "--json").stdout)["timers"]
    assert [row["kind"] for row in rows] == ["backup", "prune", "check"]
    assert {row["state"] for row in rows} == {"waiting"}


def test_a_damaged_repository_fails_the_check(maintained: Job, machine: Machine) -> None:
    """Loudly: the unit has failed, and `show` says where to look."""
    maintained.start()
    assert result(machine, CHECK) == "success"
    assert "data: check of main: ok" in machine.journal(CHECK)
    for pack in packs(machine):
        machine.shell(f"chmod u+w {pack}; printf x | dd of={pack} conv=notrunc status=none")
    assert result(machine, CHECK) == "exit-code"
    said = machine.run("holdstill", "schedule", "show").stdout
    assert f"data: check: failed: journalctl -u {CHECK}" in said


def test_a_backup_waits_for_maintenance_of_the_same_job(maintained: Job, machine: Machine) -> None:
    """It neither fails nor disturbs it; by hand it would end with 75 at once."""
    machine.shell("mkdir -p /run/holdstill; touch /run/holdstill/data.lock")
    locks = " ".join(f"{d}/data.lock" for d in ("/run/holdstill", "/var/cache/holdstill"))
    machine.shell(f"mkdir -p /var/cache/holdstill; touch {locks}")
    hold = "exec flock /run/holdstill/data.lock flock /var/cache/holdstill/data.lock sleep 600"
    machine.succeed("systemd-run", "--quiet", "--unit=holdstill-holder", "sh", "-c", hold)
    machine.wait_until(
        lambda: machine.run("holdstill", "backup", "data").returncode == 75, "nobody has the lock"
    )
    machine.fail("holdstill", "maintain", "prune", "data", status=75)
    runs = len(maintained.runs())
    machine.succeed("systemctl", "start", SERVICE)
    machine.wait_until(
        lambda: "waiting for another run" in machine.properties(SERVICE).get("StatusText", ""),
        "the backup does not wait",
    )
    machine.succeed("systemctl", "stop", "holdstill-holder")
    machine.wait_for_unit(SERVICE, "inactive")
    assert len(maintained.runs()) == runs + 1
    assert maintained.last()["outcome"] == "ok"
