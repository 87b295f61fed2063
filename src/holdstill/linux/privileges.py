"""What a process gives up before it runs somebody else's program (capabilities(7), prctl(2))."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import contextmanager

from holdstill.errors import HoldstillError, NotPermittedError
from holdstill.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from holdstill.linux.users import User

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

# <linux/capability.h>
CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_SYS_ADMIN = 21
DANGEROUS = {
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_ptrace": 19,
    "sys_admin": CAP_SYS_ADMIN,
    "sys_boot": 22,
    "mknod": 27,
    "mac_override": 32,
    "mac_admin": 33,
    "perfmon": 38,
    "bpf": 39,
    "checkpoint_restore": 40,
}
"""Capabilities to mount, load code into the kernel, trace, or touch raw devices."""

_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def require() -> None:
    """Raise NotPermittedError where nothing of this could work, HoldstillError without /proc."""
    if not os.path.exists("/proc/self/mountinfo"):
        raise HoldstillError("/proc is not there", remedy="mount it: mount -t proc proc /proc")
    if not effective(CAP_SYS_ADMIN):
        message = "taking snapshots and mounting them need root (CAP_SYS_ADMIN)"
        raise NotPermittedError(message, remedy="run it with sudo")


def effective(capability: int) -> bool:
    """Whether this process may use a capability now."""
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    libc.call("capget", ctypes.byref(header), data, doing="capget")
    return bool(data[capability // 32].effective >> capability % 32 & 1)


_ALL_USERS = ["0", "0", str((1 << 32) - 1)]


def in_user_namespace() -> bool:
    """Whether capabilities here have no power over the machine (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map", encoding="utf-8") as file:
            return file.read().split() != _ALL_USERS
    except FileNotFoundError:  # a kernel without CONFIG_USER_NS
        return False


GiveUp = Callable[[int, signal.Signals], None]
"""Takes powers from this process: `parent` is its parent, whose death sends the signal."""


def give_up(parent: int, on_death: signal.Signals) -> None:
    """Become a process that can do no more than read, write and run programs.

    It is sent `on_death` when `parent` dies.
    """
    no_new_privileges()
    drop(DANGEROUS)
    die_with(parent, on_death)  # last: a change of credentials clears it


def read_as(user: User | None) -> GiveUp:
    """Return what makes a process fit for restic: its files are private, its powers few.

    As a user it keeps CAP_DAC_READ_SEARCH alone: to read everything and write what is the user's.
    """

    def fit(parent: int, on_death: signal.Signals) -> None:
        os.umask(0o077)
        if user is None:
            give_up(parent, on_death)
            return
        no_new_privileges()
        kept = {CAP_DAC_READ_SEARCH}
        with _needing("CAP_SETPCAP", "give up capabilities"):
            for number in set(range(_last_capability() + 1)) - kept:
                _prctl(_PR_CAPBSET_DROP, number, doing="emptying the bounding set")
        become(user, kept)
        die_with(parent, on_death)

    return fit


def become(user: User, capabilities: Collection[int] | None = None) -> None:
    """Be another user, with these capabilities; None: with all of before.

    They are ambient, so that the program that is run next has them, too. Raises NotPermittedError.
    """
    last = _last_capability()
    kept = [n for n in range(last + 1) if effective(n)] if capabilities is None else capabilities
    with _needing("CAP_SETGID", f"become the user {user.name}"):
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
    _prctl(_PR_SET_KEEPCAPS, 1, doing="keeping capabilities")
    with _needing("CAP_SETUID", f"become the user {user.name}"):
        os.setresuid(user.uid, user.uid, user.uid)
    with _needing("CAP_DAC_READ_SEARCH", f"keep capabilities as {user.name}"):
        _keep(kept)


def _keep(capabilities: Collection[int]) -> None:
    data = (_Data * 2)()
    for number in capabilities:
        word = data[number // 32]
        for field in ("effective", "permitted", "inheritable"):
            setattr(word, field, getattr(word, field) | 1 << number % 32)
    header = _Header(_VERSION_3, 0)
    libc.call("capset", ctypes.byref(header), data, doing="capset")
    for number in capabilities:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, doing="raising ambient capabilities")


@contextmanager
def _needing(capability: str, what: str) -> Iterator[None]:
    """Name what is refused, and what it takes."""
    try:
        yield
    except OSError as error:
        remedy = (
            f"it needs {capability} (CapabilityBoundingSet= of a unit, --cap-add of a container), "
            "and no filter that refuses system calls"
        )
        raise NotPermittedError(f"cannot {what}: {error.strerror}", remedy=remedy) from error


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        return int(file.read())


def drop(capabilities: dict[str, int]) -> None:
    """Give up capabilities for good: bounding set, ambient set, and the three ordinary sets.

    Raises NotPermittedError.
    """
    with _needing("CAP_SETPCAP", "give up capabilities"):
        last = _last_capability()
        for name, number in capabilities.items():
            if number <= last:
                _prctl(_PR_CAPBSET_DROP, number, doing=f"dropping cap_{name} from the bounding set")
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, doing="clearing ambient capabilities")
        header = _Header(_VERSION_3, 0)
        data = (_Data * 2)()
        libc.call("capget", ctypes.byref(header), data, doing="capget")
        for number in capabilities.values():
            word = data[number // 32]
            for field in ("effective", "permitted", "inheritable"):
                setattr(word, field, getattr(word, field) & ~(1 << number % 32))
        libc.call("capset", ctypes.byref(header), data, doing="capset")


def no_new_privileges() -> None:
    """Make set-uid programs and file capabilities without effect, here and in all descendants."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, doing="setting no_new_privs")


def die_with(parent: int, with_signal: signal.Signals) -> None:
    """Ask for `with_signal` when `parent` dies, also if it has died already.

    Changing credentials clears this (prctl(2)), so it comes last before exec.
    """
    _prctl(_PR_SET_PDEATHSIG, with_signal, doing="setting the parent-death signal")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, doing="becoming the parent of orphans")


def _prctl(option: int, argument: int, second: int = 0, *, doing: str) -> None:
    libc.call(
        "prctl",
        option,
        *(ctypes.c_ulong(value) for value in (argument, second, 0, 0)),
        doing=doing,
    )
