"""Whether something keeps the kernel's clock right (adjtimex(2), <linux/timex.h>)."""

from __future__ import annotations

import ctypes

from holdstill.linux import libc

_LARGEST_ERROR = 16_000_000
"""Microseconds: the estimate grows to this where nobody corrects the clock (NTP_PHASE_LIMIT)."""


class _Timex(ctypes.Structure):
    """struct timex; with `modes` 0 nothing is set."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("largest_error", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


def is_synchronised() -> bool:
    """Whether an NTP client, or the like, has set the clock lately; raises OSError."""
    timex = _Timex()
    libc.call("adjtimex", ctypes.byref(timex), doing="asking for the state of the clock")
    return bool(timex.largest_error < _LARGEST_ERROR)
