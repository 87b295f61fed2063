"""A coverage plugin that keeps what a child did between fork and exec.

coverage's own patches save at `os.execv` and `os._exit`. subprocess execs in C, right after its
`preexec_fn`: where namespaces are entered and privileges dropped, which must not go unmeasured.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import coverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from coverage.plugin_support import Plugins


def coverage_init(_registry: Plugins, _options: dict[str, str]) -> None:
    """Wrap Popen in a measured process; coverage calls this at the start of each."""
    popen_init = subprocess.Popen.__init__

    def init(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        if kwargs.get("preexec_fn"):
            kwargs["preexec_fn"] = _saving(kwargs["preexec_fn"])
        popen_init(self, *args, **kwargs)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]


def _saving(preexec_fn: Callable[[], None]) -> Callable[[], None]:
    def measured() -> None:
        try:
            preexec_fn()
        finally:
            # A child that may no longer write there goes on, unmeasured.
            with contextlib.suppress(Exception):
                if current := coverage.Coverage.current():
                    current.save()

    return measured
