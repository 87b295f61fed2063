"""Calls into the C library and straight into the kernel, every one checked.

`ctypes.CDLL` releases the GIL during a call, which `fcntl.ioctl` does not for large arguments
(before Python 3.14), and knows the calls that Python 3.11 has no name for.
"""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)


def call(name: str, *arguments: object, doing: str, path: str | None = None) -> int:
    """Call a C library function that answers -1 and errno on failure.

    Raises OSError whose text says what was being done (`doing`) and to which `path`.
    """
    return _checked(getattr(_LIBC, name)(*arguments), doing, path)


def system_call(number: int, *arguments: object, doing: str, path: str | None = None) -> int:
    """Make a system call by number: for calls newer than the C library may be."""
    return _checked(_LIBC.syscall(ctypes.c_long(number), *arguments), doing, path)


def ioctl(
    descriptor: int,
    request: int,
    argument: ctypes.Structure,
    *,
    doing: str,
    path: str | None = None,
) -> int:
    """Issue an ioctl with a ctypes structure, which the caller keeps alive; the GIL is released."""
    return call("ioctl", descriptor, request, ctypes.byref(argument), doing=doing, path=path)


def _checked(result: int, doing: str, path: str | None) -> int:
    if result != -1:
        return result
    number = ctypes.get_errno()
    text = f"{os.strerror(number)} (while {doing})"
    raise OSError(number, text, path) if path is not None else OSError(number, text)
