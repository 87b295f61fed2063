"""A machine that runs systemd, and jobs on it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import NEWEST
from tests.kernel.conftest import arena, whole_arena
from tests.kernel.disks import sh
from tests.system.jobs import Job
from tests.system.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.disks import Arena

__all__ = ["arena", "whole_arena"]

_DISK_MEGABYTES = 512


@pytest.fixture(scope="session")
def booted(whole_arena: Arena) -> Iterator[Machine]:
    """Boot a machine once for all tests of a process."""
    top = whole_arena.directory(whole_arena.unique("top"))
    with whole_arena.block_device(_DISK_MEGABYTES, "mkfs.btrfs", "-q") as device:
        sh("mount", "-t", "btrfs", device, top)
        sh("btrfs", "subvolume", "create", f"{top}/@data")
        sh("umount", top)
        machine = Machine(whole_arena, device, NEWEST)
        try:
            machine.boot()
            yield machine
        finally:
            machine.close()


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """Lend the machine; afterwards no unit of holdstill is left on it."""
    yield booted
    booted.boot()  # a test may have failed while it was off
    booted.succeed("systemctl", "stop", "holdstill*")
    booted.run("holdstill", "schedule", "remove")
    booted.shell("rm -rf /etc/holdstill /var/lib/holdstill /etc/systemd/system/holdstill*")
    booted.shell("rm -f /var/lib/systemd/timers/stamp-holdstill*; systemctl daemon-reload")
    booted.run("systemctl", "reset-failed")


@pytest.fixture
def job(machine: Machine, template_repository: str) -> Job:
    """Set up a job `data` that backs up /srv/data to a repository of its own."""
    repository = f"{machine.root}/backup"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(template_repository, repository)
    made = Job(machine)
    made.configure()
    machine.shell("find /srv/data -mindepth 1 -delete; echo before >/srv/data/file")
    return made
