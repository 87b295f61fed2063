"""What a run that systemd has started leaves for others: journal entries, metrics, a command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.system.jobs import SERVICE

if TYPE_CHECKING:
    from tests.system.jobs import Job
    from tests.system.machine import Machine

pytest_plugins = ["tests.kernel.backup_fixtures"]

METRICS = "/var/lib/prometheus/node-exporter"
COMMAND = "/usr/local/bin/tell"


def entries(machine: Machine, *fields: str) -> list[dict[str, Any]]:
    """Return the entries of the journal that have these fields."""
    machine.succeed("journalctl", "--sync")
    done = machine.succeed("journalctl", "--boot", "--output=json", *fields)
    return [json.loads(line) for line in done.splitlines()]


def test_the_journal_tells_jobs_runs_and_outcomes(job: Job, machine: Machine) -> None:
    """And errors from the rest, by their priorities; all of it belongs to the unit."""
    job.install()
    good = job.start()
    of_run = f"HOLDSTILL_RUN_ID={good['run_id']}"
    (end,) = entries(machine, "HOLDSTILL_JOB=data", of_run, "HOLDSTILL_OUTCOME=ok")
    assert end["PRIORITY"] == "6"
    assert {one["_SYSTEMD_UNIT"] for one in entries(machine, of_run)} == {SERVICE}
    machine.shell("rm /etc/holdstill/password")
    bad = job.start()
    assert bad["outcome"] == "failed"
    told = entries(machine, f"HOLDSTILL_RUN_ID={bad['run_id']}", "PRIORITY=3")
    assert any("/etc/holdstill/password" in one["MESSAGE"] for one in told)


def test_a_unit_leaves_metrics_and_runs_the_command(job: Job, machine: Machine) -> None:
    """Whatever it is forbidden; the record is the command's input."""
    machine.write(COMMAND, "#!/bin/sh\ncat >/var/lib/told.json\n", 0o755)
    machine.shell(f"mkdir -p {METRICS}; rm -f {METRICS}/* /var/lib/told.json")
    job.rest["metrics-directory"] = METRICS
    job.rest["notifications"] = {"mine": {"command": [COMMAND], "on": ["ok"]}}
    job.job["notify"] = ["mine"]
    job.install()
    record = job.start()
    assert (record["outcome"], record["warnings"]) == ("ok", [])
    metrics = machine.succeed("cat", f"{METRICS}/holdstill_data.prom")
    assert 'holdstill_run_outcome{job_name="data",outcome="ok"} 1' in metrics
    assert json.loads(machine.succeed("cat", "/var/lib/told.json"))["run_id"] == record["run_id"]
