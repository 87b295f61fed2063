"""`make install`, from a source distribution and with the system's Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.packaging.installed import (
    CONFIGURATION,
    HISTORY,
    STAYS,
    check_backup,
    check_completions,
    check_man_pages,
    check_program,
)
from tests.packaging.machine import HOME, documented

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

SOURCE = f"{HOME}/source"
# The wheels at hand were built here in part: their hashes are not those of the lock.
UNPACKED = f"""
mkdir -p {SOURCE}
tar -xf dist/*.tar.gz -C {SOURCE} --strip-components 1
sed -i 's/ --require-hashes//' {SOURCE}/Makefile
sed -i '/--hash=/d; s/ [\\]$//' {SOURCE}/requirements/*.txt
"""


def test_what_make_installs_it_removes(machine: Machine) -> None:
    """All of it lies in one directory and is linked from another."""
    install, remove = documented("make install")
    machine.succeed(f"{UNPACKED}\ncd {SOURCE}\n{install}")
    check_program(machine, "/usr/local/bin/holdstill")
    check_man_pages(machine)
    check_completions(machine)
    check_backup(machine)
    machine.succeed(f"cd {SOURCE}\n{remove}")
    assert machine.made() >= {*CONFIGURATION, HISTORY}
    assert {path for path in machine.made() if not path.startswith((HOME, *STAYS))} == set()
