"""A database that is written to all the time: every backup of it is one that a server starts on."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import make_site
from tests.kernel.disks import sh
from tests.kernel.postgres import EXCLUDE, USER, Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena
    from tests.soaking import Soak

pytest_plugins = ["tests.kernel.backup_fixtures"]

SECONDS = 600.0
EVERY = 10
"""So many backups for each that is restored."""
SLOWLY = "--limit-upload 1000"
"""restic's options to read for some seconds: read live, files do not fit together."""


class Bank:
    """A cluster, and a site that backs it up."""

    def __init__(self, site: Site, cluster: Cluster, scratch: str) -> None:
        """Take over what the fixture has made; `scratch` is where restores go."""
        self.site = site
        self.cluster = cluster
        self.scratch = scratch

    def back_up(self) -> None:
        """Expect a whole backup of one instant."""
        record = self.site.succeed()
        assert record["instant"] in {"one-transaction", "unwritten"}, record["warnings"]

    def restored_transfers(self) -> int:
        """Restore the newest backup, start a server on it, and check all that it holds."""
        self.site.restic("restore", "latest", "--target", self.scratch)
        cluster = self.cluster.moved_to(self.scratch + self.cluster.directory)
        with cluster.running():
            cluster.assert_sound()
            count = cluster.transfers()
        shutil.rmtree(f"{self.scratch}/{self.cluster.directory.split('/')[1]}")
        return count


@pytest.fixture
def bank(
    arena: Arena, quiet: str, tmp_path: Path, restic_path: str, template_repository: str
) -> Bank:
    """Set up a cluster on a disk of its own, below directories that the server's user can enter."""
    disk = arena.disk(8192)
    sh("chmod", "711", quiet)
    source = disk.source("@bank", at=f"{quiet}/bank")
    os.unlink(f"{source}/file")
    disk.create("@bank/wal")
    disk.create("@scratch")
    scratch = disk.mount("@scratch", at=f"{quiet}/scratch")
    for path in ("socket", "socket-restored"):
        os.mkdir(f"{source}-{path}")
        shutil.chown(f"{source}-{path}", USER, USER)
    site = make_site(tmp_path, source, restic_path, template_repository)
    site.add_repository("main")
    site.job.update(exclude=list(EXCLUDE), keep={"last": 3}, prune={})
    cluster = Cluster(source, f"{source}-socket")
    cluster.create(scale=1)
    return Bank(site, cluster, scratch)


def test_a_backup_of_a_busy_database_is_one_that_a_server_starts_on(bank: Bank) -> None:
    """Its data and its WAL lie in two subvolumes; money moves all the time and none is lost."""
    bank.site.install_restic(options=SLOWLY)
    with bank.cluster.running(), bank.cluster.under_load() as load:
        counts = [0]
        for _ in range(2):
            before = bank.cluster.transfers()
            bank.back_up()
            counts.append(bank.restored_transfers())
            assert counts[-1] >= before, "what was synced before the freeze is gone"
        assert load.poll() is None
    assert counts == sorted(set(counts)), "nothing was transferred between the backups"


@pytest.mark.soak
def test_ten_minutes_of_backups_of_a_busy_database(bank: Bank, soak: Soak) -> None:
    """Every tenth is restored: the server starts, pg_amcheck is content, and no money is lost."""
    until = time.monotonic() + soak.share(SECONDS)
    backups = restores = 0
    with bank.cluster.running(), bank.cluster.under_load() as load:
        while backups % EVERY or time.monotonic() < until:
            before = bank.cluster.transfers()
            bank.back_up()
            backups += 1
            if backups % EVERY == 0:
                assert bank.restored_transfers() >= before
                restores += 1
        transfers = bank.cluster.transfers()
        assert load.poll() is None
    soak.note(
        f"PostgreSQL under pgbench: {transfers:,} transfers, {backups} backups, all ok; "
        f"{restores} restored, 0 wrong"
    )
