"""`pipx install` and `uv tool install`, word for word as docs/install.md says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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


@pytest.mark.parametrize(("tool", "own"), [("pipx", "/opt/pipx/"), ("uv", "/opt/uv/.")])
def test_what_a_tool_installs_it_removes(machine: Machine, tool: str, own: str) -> None:
    """Everything is found after the first, and gone after the second, but the tool's own notes."""
    install, remove = documented(tool)
    machine.succeed(install)
    check_program(machine, "/usr/local/bin/holdstill")
    check_man_pages(machine)
    check_completions(machine)
    check_backup(machine)
    machine.succeed(remove)
    assert machine.made() >= {*CONFIGURATION, HISTORY}
    assert {path for path in machine.made() if not path.startswith((HOME, own, *STAYS))} == set()
    assert machine.succeed(f"find {own}* -path '*/holdstill/*'") == ""


@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_an_upgrade_is_an_installation_with_force(machine: Machine, tool: str) -> None:
    """The second one replaces the first."""
    install, _ = documented(tool)
    machine.succeed(install)
    assert machine.run("rm /usr/local/bin/holdstill; holdstill --version").returncode == 127
    machine.succeed(install.replace(" install ", " install --force ", 1))
    check_program(machine, "/usr/local/bin/holdstill")
