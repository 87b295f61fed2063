"""The disks of the kernel's tests, of which processes die here, and what is at stake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.kernel.conftest import arena, disk, session_disk, source, whole_arena
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from tests.kernel.backups import Site

__all__ = ["arena", "disk", "session_disk", "source", "whole_arena"]


@pytest.fixture
def at_risk(site: Site) -> Site:
    """Set up a job with a nested subvolume, retention and pruning, and a good backup."""
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    site.write("nested/note", "nested\n")
    site.write("large", os.urandom(1 << 20))
    site.job.update(keep={"last": 2}, prune={})
    site.succeed()
    return site
