"""Backups of files that hold still.

import holdstill

with holdstill.frozen(["/mnt/data"]) as view:
    view.run(["tar", "-cf", "/tmp/data.tar", "/mnt/data"])
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdstill.freeze import frozen

__all__ = ["frozen"]


def __getattr__(name: str) -> object:
    """Import the kernel's edge only for those who use it."""
    if name == "frozen":
        from holdstill.freeze import frozen

        return frozen
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
