"""How long something took of its own doing: a machine that is busy otherwise proves nothing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRESSURE = Path("/proc/pressure")
_LONGEST_WAIT = 3.0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the body takes longer, and it was not for others at the processors and the disks.

    The kernel tells for how long somebody had to wait for them (Documentation/accounting/psi.rst);
    where it does not, all of the time counts. However busy a machine is, four times as long is too
    long.
    """
    began, stalled = time.monotonic(), _stalled()
    yield
    took, waited = time.monotonic() - began, _stalled() - stalled
    own = took - min(waited, _LONGEST_WAIT * seconds)
    assert own < seconds, f"{took:.1f} s, {waited:.1f} of them waiting for others"


def _stalled() -> float:
    try:
        rows = [(_PRESSURE / name).read_text(encoding="ascii") for name in ("cpu", "io")]
    except OSError:
        return 0.0
    return sum(int(row.partition("total=")[2].split()[0]) for row in rows) / 1e6
