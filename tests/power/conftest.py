"""A guest for tests that cut its power: made once, and again when a test has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.power.guarded import Guarded, etc
from tests.power.image import build
from tests.power.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.power.kernels import Kernel

_DISK_MEGABYTES = 1024


@pytest.fixture(scope="session")
def guests(
    tmp_path_factory: pytest.TempPathFactory, template_repository: str
) -> Iterator[Callable[[Kernel, str], Guarded]]:
    """Lend a maker of guests, with a kernel and a restic; one runs at a time."""
    machines: list[Machine] = []

    def make(kernel: Kernel, restic: str) -> Guarded:
        for machine in machines:
            machine.destroy()
        place = tmp_path_factory.mktemp("guest")
        initramfs = str(place / "initramfs")
        more = {"/bin/restic": restic, "/template": template_repository, **etc(place)}
        build(initramfs, kernel.modules, more)
        machines.append(Machine(str(place), kernel.image, initramfs, _DISK_MEGABYTES))
        return Guarded(machines[-1])

    yield make
    for machine in machines:
        machine.destroy()
