"""A run that takes longer than its job allows is stopped, and has failed."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from tests.kernel.backups import each_restic, only

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


@each_restic
def test_a_backup_that_takes_too_long(site: Site, disk: Disk) -> None:
    """Restic is asked to stop, nothing stays, and the error names the key; no retention."""
    site.job.update(timeout="2s", keep={"last": 1})
    site.slow_down()
    began = time.monotonic()
    record = site.back_up()
    assert 2 <= time.monotonic() - began < 8
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert "longer than jobs.data.timeout allows (2s)" in record["failure"]["message"]
    assert only(record)["failure"]["message"].endswith("restic was stopped when the time was up")
    assert only(record)["retention"] is None
    assert (disk.runs(), os.listdir(site.path("main/locks"))) == ([], [])
    del site.job["timeout"]
    site.install_restic()
    site.succeed()


def test_a_restic_that_does_not_stop_is_killed(site: Site, disk: Disk) -> None:
    """After its grace: a program in its place that ignores signals."""
    site.job["timeout"] = "1s"
    script = '#!/bin/sh\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\n'
    site.install(f'{script}trap "" INT\nwhile :; do sleep 0.1; done\n')
    began = time.monotonic()
    record = site.back_up()
    assert time.monotonic() - began < 10
    assert "jobs.data.timeout" in record["failure"]["message"]
    assert disk.runs() == []


def test_a_retention_that_takes_too_long(site: Site) -> None:
    """The backup is there; the run has failed all the same."""
    site.job.update(timeout="3s", keep={"last": 1})
    site.install_restic(before='[ "$1" != forget ] || exec sleep 60')
    record = site.back_up()
    assert "jobs.data.timeout" in record["failure"]["message"]
    assert only(record)["outcome"] == "ok"
    assert only(record)["retention"]["outcome"] == "interrupted"
    assert len(site.snapshots()) == 1


def test_the_other_jobs_still_run(site: Site) -> None:
    """Each has a time of its own, and no signal is left over."""
    site.jobs["data"] = {**site.job, "timeout": "1s"}
    site.jobs["second"] = {**site.job, "tags": ["second"], "timeout": "1m"}
    site.jobs["third"] = {**site.job, "tags": ["third"]}
    del site.jobs["third"]["timeout"]
    site.install_restic(before='case "$*" in *--tag*|version) ;; *) exec sleep 60 ;; esac')
    done = site.run("backup", "--json", "data", "second", "third")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["failed", "ok", "ok"]
    assert done.returncode == 1
