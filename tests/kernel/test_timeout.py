"""A run that takes longer than its job allows is stopped, and has failed."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

from tests.kernel.backups import each_restic, only
from tests.kernel.promptness import within

if TYPE_CHECKING:
    from typing import Any

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


LIMITS = {"3s": 3, "12s": 12, "1m": 60}
LONGEST_END_SECONDS = 5.0


def _stopped_in(site: Site, command: str) -> dict[str, Any]:
    """Run a job whose time is up in one of restic's commands: on a slow machine, a longer one."""
    record: dict[str, Any] = {}
    for text, seconds in LIMITS.items():
        site.job["timeout"] = text
        with within(seconds + LONGEST_END_SECONDS):
            record = site.back_up()
        if site.calls(command):
            break
    assert site.calls(command), f"restic has not come to its {command}"
    return record


@each_restic
def test_a_backup_that_takes_too_long(site: Site, disk: Disk) -> None:
    """Restic is asked to stop, nothing stays, and the error names the key; no retention."""
    site.job["keep"] = {"last": 1}
    site.slow_down()
    record = _stopped_in(site, "backup")
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    allowed = f"longer than jobs.data.timeout allows ({site.job['timeout']})"
    assert allowed in record["failure"]["message"]
    assert only(record)["failure"]["message"].endswith("restic was stopped when the time was up")
    assert only(record)["retention"] is None
    assert (disk.runs(), os.listdir(site.path("main/locks"))) == ([], [])
    del site.job["timeout"]
    site.install_restic()
    site.succeed()


@each_restic
def test_a_repository_that_does_not_answer(site: Site, disk: Disk) -> None:
    """Its server takes the connection, and says nothing for ever: the time is up one day."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        site.repositories["main"]["url"] = f"rest:http://127.0.0.1:{server.getsockname()[1]}/"
        record = _stopped_in(site, "backup")
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert "longer than jobs.data.timeout allows" in record["failure"]["message"]
    assert disk.runs() == []


def test_a_restic_that_does_not_stop_is_killed(site: Site, disk: Disk) -> None:
    """After its grace: a program in its place that ignores signals."""
    ignore = 'trap "" INT; while :; do sleep 0.1; done'
    site.install_restic(before=f'[ "$1" != backup ] || {{ {ignore}; }}')
    record = _stopped_in(site, "backup")
    assert "jobs.data.timeout" in record["failure"]["message"]
    assert disk.runs() == []


def test_a_restic_that_does_not_say_its_version(site: Site, disk: Disk) -> None:
    """A program in its place that hangs: the time is up for it, too."""
    site.install("#!/bin/sh\nexec sleep 600\n")
    site.job["timeout"] = "1s"
    with within(LONGEST_END_SECONDS):
        record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert "longer than jobs.data.timeout allows (1s)" in record["failure"]["message"]
    assert disk.runs() == []


def test_a_retention_that_takes_too_long(site: Site) -> None:
    """The backup is there; the run has failed all the same."""
    site.job["keep"] = {"last": 1}
    site.install_restic(before='[ "$1" != forget ] || exec sleep 600')
    record = _stopped_in(site, "forget")
    assert "jobs.data.timeout" in record["failure"]["message"]
    assert only(record)["outcome"] == "ok"
    assert only(record)["retention"]["outcome"] == "interrupted"
    assert only(record)["snapshot_id"] in [one["id"] for one in site.snapshots()]


def test_the_other_jobs_still_run(site: Site) -> None:
    """Each has a time of its own, and no signal is left over."""
    site.jobs["data"] = {**site.job, "timeout": "1s"}
    site.jobs["second"] = {**site.job, "tags": ["second"], "timeout": "1m"}
    site.jobs["third"] = {**site.job, "tags": ["third"]}
    del site.jobs["third"]["timeout"]
    site.install_restic(before='case "$*" in *--tag*|version) ;; *) exec sleep 600 ;; esac')
    done = site.run("backup", "--json", "data", "second", "third")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["failed", "ok", "ok"]
    assert done.returncode == 1
