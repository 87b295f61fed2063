"""From a shell script under systemd to holdstill, in the same repository: the history goes on.

The yardstick is bench/origin.sh with a unit and an environment file as its users have them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.backups import PASSWORD
from tests.system.jobs import YEARLY
from tests.system.machine import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.jobs import Job
    from tests.system.machine import Machine

pytest_plugins = ["tests.kernel.backup_fixtures"]

_UNIT = """\
[Unit]
Description=Restic backup service

[Service]
Type=oneshot
PrivateMounts=yes
EnvironmentFile=/etc/restic-backup.env
ExecStart=bash {checkout}/bench/origin.sh
"""

_ENVIRONMENT = """\
DEVICE={device}
TOP=/mnt/top
SUBVOLUME=@data
SOURCE=/srv/data
BACKUP_PATHS="/srv/data"
BACKUP_EXCLUDES="--exclude-file /srv/data/.restic_exclude --exclude-if-present .resticignore"
RETENTION_DAYS=14
RETENTION_WEEKS=8
RETENTION_MONTHS=12
RETENTION_YEARS=5
HOME=/root
RESTIC_REPOSITORY=/backup
RESTIC_PASSWORD="{password}"
RESTIC_CACHE_DIR=/mnt/top/@cache/restic
WORK='restic backup --verbose --one-file-system --tag systemd.timer $BACKUP_EXCLUDES $BACKUP_PATHS \
&& restic forget --prune --max-unused 5G --verbose --tag systemd.timer --group-by paths,tags \
--keep-daily $RETENTION_DAYS --keep-weekly $RETENTION_WEEKS --keep-monthly $RETENTION_MONTHS \
--keep-yearly $RETENTION_YEARS'
"""

_IMPORT = "holdstill init --from-env /etc/restic-backup.env --job data --schedule '{schedule}'"


@pytest.fixture
def origin(job: Job, machine: Machine) -> Iterator[Job]:
    """Set the script up as on its author's machine: the top level mounted, a cache on the disk."""
    machine.write("/etc/systemd/system/restic-backup.service", _UNIT.format(checkout=CHECKOUT))
    environment = _ENVIRONMENT.format(device=machine.device, password=PASSWORD)
    machine.write("/etc/restic-backup.env", environment, 0o600)
    machine.shell(
        f"""
        mkdir -p /mnt/top
        mount -o subvolid=5 {machine.device} /mnt/top
        btrfs subvolume create /mnt/top/@cache
        cd /srv/data
        mkdir photos scratch
        echo '*.tmp' >.restic_exclude
        touch scratch/.resticignore scratch/junk a.tmp
        for i in $(seq 50); do echo $i >photos/$i; done
        """
    )
    yield job
    machine.shell("btrfs subvolume delete /mnt/top/@cache; umount /mnt/top")


def run_origin(machine: Machine, job: Job) -> dict[str, Any]:
    """Run the script's unit; return its snapshot."""
    machine.succeed("systemctl", "start", "restic-backup.service")
    return job.snapshots()[-1]


def names(job: Job, snapshot: dict[str, Any]) -> list[str]:
    """Return the paths in a snapshot."""
    lines = job.restic("ls", "--json", str(snapshot["id"])).splitlines()[1:]
    return [json.loads(line)["path"] for line in lines]


def test_the_history_of_the_script_goes_on(origin: Job, machine: Machine) -> None:
    """`init` takes its environment file over: host, paths, tags, parents, excludes, retention.

    All snapshots are of one day, of which restic keeps the latest, and the oldest of all.
    """
    job = origin
    script = run_origin(machine, job)
    machine.shell("rm /etc/holdstill/config.toml")
    machine.shell(_IMPORT.format(schedule=YEARLY))
    machine.succeed("holdstill", "schedule", "install")
    run = job.start()
    assert run["outcome"] == "ok"
    ours = job.snapshots()[-1]
    assert ours["parent"] == script["id"]
    for key in ("hostname", "paths", "tags"):
        assert ours[key] == script[key]
    (main,) = run["repositories"]
    assert (main["files_new"], main["files_changed"], main["files_unmodified"]) == (0, 0, 53)
    assert names(job, ours) == names(job, script) == NAMES

    again = run_origin(machine, job)
    assert again["parent"] == ours["id"]
    assert [one["id"] for one in job.snapshots()] == [script["id"], again["id"]]
    (main,) = job.start()["repositories"]
    assert main["retention"]["removed"] == 1
    first, last = job.snapshots()
    assert first["id"] == script["id"]
    assert last["parent"] == again["id"]


NAMES = [
    *("/srv", "/srv/data", "/srv/data/.restic_exclude", "/srv/data/file", "/srv/data/photos"),
    *sorted(f"/srv/data/photos/{number}" for number in range(1, 51)),
    *("/srv/data/scratch", "/srv/data/scratch/.resticignore"),
]
