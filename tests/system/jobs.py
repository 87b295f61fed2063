"""A job on a machine: its configuration, and what became of its runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import tomli_w

from tests.kernel.backups import PASSWORD
from tests.system.machine import DATA

if TYPE_CHECKING:
    from tests.system.machine import Machine

SERVICE = "holdstill@data.service"
TIMER = "holdstill@data.timer"
YEARLY = "*-01-01 00:00:00"
"""A schedule under which nothing happens by itself."""


class Job:
    """The job `data`; what is changed in `job` and `repository` takes a `configure`."""

    def __init__(self, machine: Machine) -> None:
        """Prepare a job on a machine."""
        self.machine = machine
        self.repository: dict[str, Any] = {
            "url": "/backup",
            "password-file": "/etc/holdstill/password",
        }
        self.job: dict[str, Any] = {
            "paths": [DATA],
            "repositories": ["main"],
            "schedule": YEARLY,
            "randomized-delay": "0s",
        }
        self.jobs: dict[str, dict[str, Any]] = {"data": self.job}
        self.rest: dict[str, Any] = {}
        """What else stands in the configuration."""

    def configure(self) -> None:
        """Write the configuration and the password."""
        config = {**self.rest, "repositories": {"main": self.repository}, "jobs": self.jobs}
        self.machine.write("/etc/holdstill/config.toml", tomli_w.dumps(config))
        self.machine.write("/etc/holdstill/password", PASSWORD, 0o600)

    def install(self) -> str:
        """Configure and install; return what was said."""
        self.configure()
        return self.machine.succeed("holdstill", "schedule", "install")

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs on record, the newest first."""
        done = self.machine.run("holdstill", "history", "--json", "data")
        return [json.loads(line) for line in reversed(done.stdout.splitlines())]

    def last(self) -> dict[str, Any]:
        """Return the latest run."""
        return self.runs()[0]

    def start(self) -> dict[str, Any]:
        """Start the service, wait for its end, and return the record of the run."""
        before = datetime.now(UTC)
        self.machine.run("systemctl", "start", "--wait", SERVICE)
        runs = self.runs()
        is_new = bool(runs) and datetime.fromisoformat(runs[0]["started"]) > before
        assert is_new, self.machine.journal(SERVICE)
        return runs[0]

    def restic(self, *arguments: str) -> str:
        """Run restic on the repository."""
        return self.machine.succeed("holdstill", "restic", "data", "--", *arguments)

    def snapshots(self) -> list[dict[str, Any]]:
        """Return restic's snapshots, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json"))
        return sorted(found, key=lambda snapshot: str(snapshot["time"]))
