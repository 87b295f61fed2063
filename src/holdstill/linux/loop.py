"""Loop devices that vanish by themselves (loop(4), <linux/loop.h>)."""

from __future__ import annotations

import ctypes
import errno
import os

from holdstill.linux import libc

_CONTROL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A  # Linux 5.8
_AUTO_CLEAR = 4
_TRIES = 20


class _Info(ctypes.Structure):
    """struct loop_info64."""

    _fields_ = (
        ("device", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("rdevice", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("size_limit", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("encrypt_type", ctypes.c_uint32),
        ("encrypt_key_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("file_name", ctypes.c_char * 64),
        ("crypt_name", ctypes.c_char * 64),
        ("encrypt_key", ctypes.c_ubyte * 32),
        ("init", ctypes.c_uint64 * 2),
    )


class _Configuration(ctypes.Structure):
    """struct loop_config."""

    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _Info),
        ("reserved", ctypes.c_uint64 * 8),
    )


if ctypes.sizeof(_Configuration) != 304:  # noqa: PLR2004 - the kernel's own
    message = "struct loop_config has another size"
    raise AssertionError(message)


def attach(image: int) -> tuple[int, str]:
    """Make an open file a block device; return the open device and its path.

    The device is freed when nothing has it open or mounted any more, however that comes about.
    Raises OSError.
    """
    for _ in range(_TRIES):
        path = f"/dev/loop{_free_number()}"
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        configuration = _Configuration(fd=image, info=_Info(flags=_AUTO_CLEAR))
        try:
            libc.ioctl(device, _CONFIGURE, configuration, doing="attaching an image", path=path)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # somebody else took it in between
                raise
        else:
            return device, path
    raise OSError(errno.EBUSY, "no free loop device", "/dev/loop-control")


def _free_number() -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return libc.call(
            "ioctl",
            control,
            _CONTROL_GET_FREE,
            None,
            doing="looking for a free loop device",
            path="/dev/loop-control",
        )
    finally:
        os.close(control)
