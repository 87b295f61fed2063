"""`holdstill schedule` on a booted systemd: real units, written once, others' left alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.system.jobs import SERVICE, TIMER, YEARLY

if TYPE_CHECKING:
    from tests.system.jobs import Job
    from tests.system.machine import Machine

pytest_plugins = ["tests.kernel.backup_fixtures"]

UNITS = "/etc/systemd/system"
DROP_IN = f"{UNITS}/{SERVICE}.d/holdstill.conf"
OURS = [f"{UNITS}/holdstill@.service", f"{UNITS}/{TIMER}", DROP_IN]


def shown(machine: Machine) -> list[dict[str, Any]]:
    """Return what `schedule show` says of each timer."""
    found: list[dict[str, Any]]
    found = json.loads(machine.run("holdstill", "schedule", "show", "--json").stdout)["timers"]
    return found


def done(said: str) -> list[list[str]]:
    """Return what was done about each file, in the lines before the table."""
    return [line.split() for line in said.splitlines() if UNITS in line]


def test_installing_twice_changes_nothing(job: Job, machine: Machine) -> None:
    """The units are written, enabled, and shown; systemd itself finds no fault with them."""
    assert done(job.install()) == [["wrote", path] for path in OURS]
    machine.succeed("systemd-analyze", "verify", "--man=no", *OURS[:2])
    assert machine.properties(TIMER)["UnitFileState"] == "enabled"
    before = machine.shell(f"stat --format='%n %y %i' {UNITS}/holdstill*")
    again = job.install()
    assert done(again) == [["unchanged", path] for path in OURS]
    row = rf"^data  backup  {re.escape(YEARLY)}  in \d+ d +- +waiting$"
    assert re.search(row, again, re.MULTILINE)
    assert machine.shell(f"stat --format='%n %y %i' {UNITS}/holdstill*") == before


def test_a_dry_run_shows_the_units_and_writes_nothing(job: Job, machine: Machine) -> None:
    """Neither for an installation nor for a removal."""
    job.configure()
    said = machine.succeed("holdstill", "schedule", "install", "--dry-run")
    assert "would write" in said
    assert f"  OnCalendar={YEARLY}\n" in said
    assert machine.shell(f"find {UNITS} -name 'holdstill*'") == ""
    job.install()
    assert done(machine.succeed("holdstill", "schedule", "remove", "--dry-run"))
    assert shown(machine)[0]["state"] == "waiting"


def test_an_edited_unit_is_kept_and_named(job: Job, machine: Machine) -> None:
    """A drop-in of somebody else stays, too; the rest is installed and removed around them."""
    job.install()
    machine.shell(f"echo '# mine' >>{UNITS}/{TIMER}")
    machine.shell(f"echo '[Service]' >{UNITS}/{SERVICE}.d/own.conf")
    job.job["schedule"] = "*-02-02 00:00:00"
    job.configure()
    complaint = machine.fail("holdstill", "schedule", "install", status=1)
    assert f"{UNITS}/{TIMER} was edited by hand: it is kept" in complaint
    assert f"systemctl edit {TIMER}" in complaint
    assert shown(machine)[0]["state"] == "edited"
    complaint = machine.fail("holdstill", "schedule", "remove", status=1)
    assert f"{UNITS}/{TIMER} was edited by hand: it is kept" in complaint
    assert f"remove it: rm {UNITS}/{TIMER}" in complaint
    left = machine.shell(f"find {UNITS} -name '*holdstill*' -o -name own.conf").split()
    assert sorted(left) == [
        f"{UNITS}/{SERVICE}.d",
        f"{UNITS}/{SERVICE}.d/own.conf",
        f"{UNITS}/{TIMER}",
    ]
    assert machine.properties(TIMER)["ActiveState"] == "inactive"


def test_units_of_another_configuration_stay(job: Job, machine: Machine) -> None:
    """Its jobs may have the same names; where that file is gone, it has only been moved."""
    job.install()
    other = "/etc/holdstill/other.toml"
    machine.shell(f"cp /etc/holdstill/config.toml {other}")
    install = ("holdstill", "--config", other, "schedule", "install")
    complaint = machine.fail(*install, status=78)
    assert "the units are those of another configuration, /etc/holdstill/config.toml" in complaint
    assert done(job.install()) == [["unchanged", path] for path in OURS]
    machine.shell("rm /etc/holdstill/config.toml")
    assert done(machine.succeed(*install))[0] == ["wrote", OURS[0]]


def test_a_changed_schedule_reaches_a_timer_that_runs(job: Job, machine: Machine) -> None:
    """Until then `show` says that the units are out of date, and fails."""
    job.install()
    job.job["schedule"] = "*-02-02 00:00:00"
    job.configure()
    machine.fail("holdstill", "schedule", "show", status=1)
    assert shown(machine)[0]["state"] == "out of date"
    assert ["wrote", f"{UNITS}/{TIMER}"] in done(job.install())
    assert "-02-02T00:00:00" in shown(machine)[0]["next_start"]
    machine.succeed("holdstill", "schedule", "show")
    status = json.loads(machine.run("holdstill", "status", "--json").stdout)
    assert "-02-02T00:00:00" in status["jobs"][0]["next_start"]


def test_a_timer_of_a_job_that_is_gone_is_shown_and_removed(job: Job, machine: Machine) -> None:
    """A job that has lost its schedule is the same; one without a timer is only mentioned."""
    job.jobs["mail"] = {**job.job, "tags": ["mail"]}
    job.install()
    del job.jobs["data"]
    job.jobs["idle"] = {**job.job, "tags": ["idle"], "schedule": ""}
    job.configure()
    machine.fail("holdstill", "schedule", "show", status=1)
    assert {one["job"]: one["state"] for one in shown(machine)} == {
        "mail": "waiting",
        "data": "stale",
        "idle": "no schedule",
    }
    assert [line[0] for line in done(job.install())] == ["removed", "removed"] + ["unchanged"] * 3
    assert machine.run("systemctl", "cat", TIMER).returncode != 0
    machine.succeed("holdstill", "schedule", "show")


def test_removing_leaves_nothing(job: Job, machine: Machine) -> None:
    """No file, no link, no timer; once more is no error."""
    job.install()
    machine.succeed("holdstill", "schedule", "remove")
    assert machine.shell(f"find {UNITS} -name '*holdstill*'") == ""
    assert machine.run("systemctl", "is-active", TIMER).stdout == "inactive\n"
    assert machine.succeed("holdstill", "schedule", "remove") == "nothing to remove\n"


def test_a_schedule_that_systemd_cannot_read(job: Job, machine: Machine) -> None:
    """Its own words are in the error, and nothing is written."""
    job.jobs["mail"] = {**job.job, "tags": ["mail"], "schedule": "every other day"}
    job.configure()
    complaint = machine.fail("holdstill", "schedule", "install", status=78)
    words = "Failed to parse calendar specification 'every other day': Invalid argument"
    assert f"jobs.mail.schedule: {words}" in complaint
    assert machine.shell(f"find {UNITS} -name 'holdstill*'") == ""


def test_who_may_not_install(job: Job, machine: Machine) -> None:
    """Only root; a job that has no schedule is named."""
    job.configure()
    machine.shell("chmod 755 /etc/holdstill")
    done = machine.run("holdstill", "schedule", "install", user="daemon")
    assert done.returncode == 77
    assert "run it with sudo" in done.stderr
    job.job["schedule"] = ""
    job.configure()
    complaint = machine.fail("holdstill", "schedule", "install", "data", status=78)
    assert "job data has no schedule" in complaint


def test_without_systemd_cron_is_the_remedy(job: Job, machine: Machine) -> None:
    """The line to use is shown."""
    job.configure()
    hide = "mount -t tmpfs tmpfs /run/systemd; exec holdstill schedule install"
    complaint = machine.fail("unshare", "--mount", "sh", "-c", hide, status=1)
    assert "systemd does not run this machine" in complaint
    assert "0 3 * * * root /usr/local/bin/holdstill backup" in complaint
