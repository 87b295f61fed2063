"""A program that makes the kernel refuse system calls to another one, through a seccomp filter.

    python refusing.py ERRNO RULE [RULE ...] -- COMMAND...

KILL instead of an errno kills who makes the call. A rule is the name of a system call, or
`ioctl=NUMBER` or `prctl=NUMBER`. What a container's filter or a broken disk would do at a bad
moment cannot be provoked otherwise.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_EVERYWHERE = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
}
_BY_MACHINE = {
    "x86_64": {
        "mount": 165,
        "unshare": 272,
        "ioctl": 16,
        "capset": 126,
        "prctl": 157,
        "inotify_init1": 294,
    },
    "aarch64": {
        "mount": 40,
        "unshare": 97,
        "ioctl": 29,
        "capset": 91,
        "prctl": 167,
        "inotify_init1": 26,
    },
}
NUMBERS = _EVERYWHERE | _BY_MACHINE[platform.machine()]
"""Of the system calls that can be refused."""

NEW_MOUNT_CALLS = tuple(_EVERYWHERE)

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_RETURN_ERRNO = 0x00050000
_RETURN_ALLOW = 0x7FFF0000
_RETURN_KILL = 0x80000000
# <linux/bpf_common.h>: load a word of struct seccomp_data, compare it, answer.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_OFFSET = 0
_ARGUMENT_OFFSETS = {"ioctl": 24, "prctl": 16}

_Instruction = tuple[int, int, int, int]


def wrapper(number: int | None, *rules: str) -> tuple[str, ...]:
    """Return the command line to put before another one; None: kill instead of refusing."""
    answer = "KILL" if number is None else errno.errorcode[number]
    return (sys.executable, "-IS", __file__, answer, *rules, "--")


def _rule(text: str, reply: int) -> list[_Instruction]:
    name, _, argument = text.partition("=")
    answer = (_RETURN, 0, 0, reply)
    load = (_LOAD, 0, 0, _NUMBER_OFFSET)
    if not argument:
        return [load, (_EQUAL, 0, 1, NUMBERS[name]), answer]
    return [
        load,
        (_EQUAL, 0, 3, NUMBERS[name]),
        (_LOAD, 0, 0, _ARGUMENT_OFFSETS[name]),
        (_EQUAL, 0, 1, int(argument, 0)),
        answer,
    ]


def install(answer: str, rules: list[str]) -> None:
    """Refuse from now on, here and in all descendants."""
    reply = _RETURN_KILL if answer == "KILL" else _RETURN_ERRNO | getattr(errno, answer)
    filters = [step for rule in rules for step in _rule(rule, reply)]
    filters.append((_RETURN, 0, 0, _RETURN_ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *f) for f in filters))
    program = struct.pack("@HP", len(filters), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    cut = sys.argv.index("--")
    install(sys.argv[1], sys.argv[2:cut])
    os.execvp(sys.argv[cut + 1], sys.argv[cut + 1 :])  # noqa: S606 - what the caller names
