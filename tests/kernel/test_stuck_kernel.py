"""A kernel that does not answer: nothing can be done, and that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel.disks import sh
from tests.kernel.program import started

if TYPE_CHECKING:
    from tests.kernel.disks import Arena


def test_a_file_system_that_is_frozen_by_somebody_else(arena: Arena) -> None:
    """As a virtual machine's host or LVM does it: said after some seconds; then all goes well."""
    disk = arena.disk(256)
    source = disk.source()
    with started(source, "cat", f"{source}/file", before=lambda: _freeze(disk.top)) as run:
        assert run.process.stderr is not None
        try:
            said = run.process.stderr.readline()
        finally:
            sh("fsfreeze", "--unfreeze", disk.top)
        done = run.finish()
    assert said.startswith("holdstill: warning: the kernel has not answered for 5 s: ")
    assert disk.device in said
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\n", "")


def _freeze(top: str) -> None:
    sh("fsfreeze", "--freeze", top)
