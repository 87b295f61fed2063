"""The kernels that tools/guest-kernels has unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_CACHE = Path(__file__).parents[2] / ".cache/kernels"


class Kernel(NamedTuple):
    """A kernel, and the directory with its modules."""

    release: str
    image: str
    modules: str


def kernels() -> list[Kernel]:
    """Return every kernel at hand, the newest last."""
    images = _CACHE.glob("*/boot/vmlinuz-*")
    found = [_kernel(image) for image in images]
    return sorted(found, key=lambda kernel: [int(n) for n in kernel.release.split(".")[:2]])


def _kernel(image: Path) -> Kernel:
    unpacked = image.parent.parent
    (modules,) = [*unpacked.glob("lib/modules/*"), *unpacked.glob("usr/lib/modules/*")]
    return Kernel(modules.name, str(image), str(modules))
