"""How much an unchanged tree adds when an unrelated subvolume was mounted since the last backup.

That moves the device number that the kernel gives to the next snapshot. A plain restic reads the
live path, whose number stays until it is mounted anew.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from bench.contenders import NAMES, Repository
from bench.process import captured, tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.process import Restic
    from bench.stage import Source, Stage

_WORK = 'restic backup --json "$SOURCE"'


def data_added(stage: Stage, source: Source, restic: Restic, version: str) -> dict[str, int]:
    """Return the bytes that the second backup of each contender adds."""
    commands = _commands(stage, source, restic, version)
    for command in commands.values():
        captured(*command)
    _mount_unrelated(stage, version)
    return {name: _added(captured(*command)) for name, command in commands.items()}


def _commands(
    stage: Stage, source: Source, restic: Restic, version: str
) -> dict[str, tuple[Sequence[str], Mapping[str, str]]]:
    def initialized(name: str) -> Repository:
        made = Repository(stage, source, restic, f"{version}-{name}")
        made.initialize()
        return made

    own = {name: initialized(name) for name in NAMES}
    return {
        "holdstill": own["holdstill"].holdstill(),
        "script": own["script"].script(_WORK),
        "restic": own["restic"].plain(_WORK),
    }


def _mount_unrelated(stage: Stage, name: str) -> None:
    subvolume, target = f"@unrelated-{name}", f"{stage.elsewhere}/{name}"
    tool("btrfs", "subvolume", "create", f"{stage.top}/{subvolume}")
    os.mkdir(target)
    tool("mount", "-t", "btrfs", "-o", f"subvol={subvolume}", stage.device, target)


def _added(output: str) -> int:
    """Read the bytes from the summary of restic, or of holdstill."""
    answer = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    summary = answer["repositories"][0] if "repositories" in answer else answer
    return int(summary["data_added"])
