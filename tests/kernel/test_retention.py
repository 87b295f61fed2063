"""The retention: what stays, what goes, and when nothing does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.backups import each_restic, host_mounts, only

if TYPE_CHECKING:
    from tests.kernel.backups import Site

pytest_plugins = ["tests.kernel.backup_fixtures"]


def _earlier(site: Site, *ages: timedelta, tag: str = "") -> None:
    """Make backups of the past with the plain restic."""
    now = datetime.now().astimezone().replace(hour=12, tzinfo=None)
    for age in ages:
        when = (now - age).isoformat(sep=" ", timespec="seconds")
        tags = ["--tag", tag] if tag else []
        site.restic("backup", "--time", when, *tags, site.source)


DAY = timedelta(days=1)


@each_restic
def test_keeps_and_removes_by_the_policy(site: Site) -> None:
    """One a day for three days: five of the past become two, and the new one stays."""
    _earlier(site, *(age * DAY for age in (1, 2, 3, 4)))
    site.job["keep"] = {"daily": 3}
    retention = only(site.succeed())["retention"]
    assert (retention["outcome"], retention["kept"], retention["removed"]) == ("ok", 3, 2)
    assert len(site.snapshots()) == 3


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({"last": 2}, 2),
        ({"hourly": 3}, 3),
        ({"daily": 3}, 3),
        ({"weekly": 2}, 2),
        ({"monthly": 2}, 2),
        ({"yearly": 2}, 2),
        ({"within": "36h"}, 2),
        ({"last": 1, "yearly": 2, "within": "1h"}, 2),
    ],
    ids=str,
)
def test_every_rule_keeps_what_it_says(site: Site, keep: dict[str, Any], left: int) -> None:
    """The counts are those of restic for backups of now, and 1, 40 and 400 days ago."""
    _earlier(site, DAY, 40 * DAY, 400 * DAY)
    site.job["keep"] = keep
    retention = only(site.succeed())["retention"]
    assert (retention["kept"], len(site.snapshots())) == (left, left)


def test_only_the_jobs_own_backups_are_touched(site: Site) -> None:
    """Another host's, another path's and those without its tag stay, whatever their age."""
    site.restic("backup", "--host", "elsewhere", "--tag", "mine", site.source)
    site.restic("backup", "--tag", "mine", site.path("password"))
    _earlier(site, 9 * DAY)
    _earlier(site, 8 * DAY, tag="mine")
    site.job.update(tags=["mine"], keep={"last": 1})
    retention = only(site.succeed())["retention"]
    assert (retention["kept"], retention["removed"]) == (1, 1)
    assert len(site.snapshots()) == 4


@each_restic
def test_the_command_is_the_configurations(site: Site) -> None:
    """group-by, max-unused and every rule reach restic, in one process with the prune."""
    site.job.update(
        tags=["a", "b"],
        keep={"last": 1, "daily": 14, "within": "1y5m7d2h", "group-by": ["host", "tags"]},
        prune={"max-unused": "5G"},
    )
    site.succeed()
    (call,) = site.calls("forget")
    assert call.value("--group-by") == "host,tags"
    assert call.value("--tag") == "a,b"
    assert call.values("--path") == [site.source]
    assert [call.value(f"--keep-{rule}") for rule in ("last", "daily", "within")] == [
        "1",
        "14",
        "1y5m7d2h",
    ]
    assert "--prune" in call.argv
    assert call.value("--max-unused") == "5G"


@each_restic
def test_prune_removes_the_data(site: Site) -> None:
    """What only the forgotten backup had is gone, and the repository is whole."""
    path = site.write("only-once", bytes(range(256)) * 4000)
    site.job.update({"keep": {"last": 1}, "prune": {"max-unused": "0"}, "minimum-percent": 0})
    site.succeed()
    before = site.restic("stats", "--mode", "raw-data", "--json")
    with open(path, "wb") as file:
        file.write(b"short")
    assert only(site.succeed())["retention"]["pruned"] is True
    assert site.restic("stats", "--mode", "raw-data", "--json") != before
    site.restic("check", "--read-data")


def test_without_keep_nothing_is_forgotten(site: Site) -> None:
    """A job without a keep table starts no second process."""
    assert only(site.succeed())["retention"] is None
    assert site.commands() == ["version", "backup"]


def test_a_retention_that_fails_fails_the_run(site: Site) -> None:
    """The backup is ok and stays; the run is failed, and says which part of it was."""
    site.job["keep"] = {"last": 1}
    site.install_restic(before='[ "$1" != forget ] || { echo "Fatal: no" >&2; exit 1; }')
    record = site.back_up()
    result = only(record)
    assert (record["outcome"], record["exit_status"], result["outcome"]) == ("failed", 1, "ok")
    assert result["retention"]["outcome"] == "failed"
    assert "restic ended with 1: no" in result["retention"]["failure"]["message"]
    assert len(site.snapshots()) == 1


def test_the_retention_runs_when_the_snapshots_are_gone(site: Site) -> None:
    """It may take long: nothing is held on the disk, and nothing is frozen, meanwhile."""
    site.job["keep"] = {"last": 1}
    seen = site.path("seen")
    site.install_restic(before=f'[ "$1" != forget ] || cp /proc/self/mountinfo {seen}')
    site.succeed()
    assert host_mounts(seen) == host_mounts()
