"""The rule that the tests of the kernel's side run, unless the caller says otherwise."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from holdstill.linux import mounts
from tests.kernel import postgres
from tests.power.kernels import kernels
from tests.soaking import FIGURE, Soak

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent
_POWER = _HERE / "power"
_SYSTEM = _HERE / "system"
_PACKAGING = _HERE / "packaging"
_DEB = _PACKAGING / "test_deb.py"
_KERNEL_DIRECTORIES = (_HERE / "kernel", _SYSTEM, _HERE / "faults", _POWER, _PACKAGING)
_PROGRAMS = ("mkfs.btrfs", "btrfs", "mkfs.ext4", "mount", "nsenter", "setpriv")
_POWER_PROGRAMS = ("qemu-system-x86_64", "cryptsetup")
_SYSTEM_PROGRAMS = ("systemd-nspawn", "systemctl", "systemd-analyze", "systemd-creds")
_PACKAGING_PROGRAMS = ("unshare", "bash", "zsh", "fish", "man")
_BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"
_DEB_PROGRAMS = ("apt-get", "dpkg-buildpackage", "dh", "dh_python3", "/usr/bin/pip3", "lintian")
_CAP_SYS_ADMIN = 21

_LEFT_OUT = pytest.StashKey[int]()


def pytest_configure() -> None:
    """Begin as a program on a terminal does.

    A shell's background job ignores these signals, and so would every program that a test starts.
    Its mounts are its own, too: another run of the tests sweeps every disk that it can see.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            is_interrupt = number is signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    # How fast examples are made says something of the machine, and nothing of holdstill.
    settings.register_profile(
        "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any-machine")
    if not list(_missing()):
        mounts.enter_private_namespace()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the way to run without root, btrfs or loop devices."""
    parser.addoption(
        "--without-kernel",
        action="store_true",
        help="leave out the tests that need root, btrfs and loop devices",
    )
    parser.addoption(
        "--percent",
        type=float,
        default=100.0,
        help="how much of their whole length the tests marked as soak take",
    )


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Soak:
    """Tell a long test how long it is to be, and take its figures."""
    return Soak(request.config.getoption("--percent"), request.node.user_properties)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the kernel tests out when told to; refuse to run where they cannot."""
    ours = [item for item in items if any(d in item.path.parents for d in _KERNEL_DIRECTORIES)]
    if config.getoption("--without-kernel"):
        config.stash[_LEFT_OUT] = len(ours)
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]
    elif ours and (
        missing := [
            *_missing(),
            *_missing_for_power(ours),
            *_missing_for_system(ours),
            *_missing_to_install(ours),
        ]
    ):
        message = (
            f"{len(ours)} tests need what is not here: {', '.join(missing)}.\n"
            "Run 'make test' as root, or name --without-kernel to leave them out."
        )
        raise pytest.UsageError(message)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Never let a run without the kernel look like a whole one."""
    if count := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(
            f"--without-kernel: {count} tests of freezing were left out; this proves little",
            yellow=True,
        )
    properties = [
        pair for report in terminalreporter.getreports("passed") for pair in report.user_properties
    ]
    if figures := [str(value) for name, value in properties if name == FIGURE]:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)


def _missing() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "root"
    elif not _effective_capabilities() >> _CAP_SYS_ADMIN & 1:
        yield "the capability cap_sys_admin"
    if not _has("btrfs"):
        yield "btrfs in the kernel"
    if not os.path.exists("/dev/loop-control"):
        yield "loop devices (/dev/loop-control)"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            yield f"the program {program}"
    if postgres.binaries() is None:
        yield "PostgreSQL (the program postgres)"


def _missing_for_power(items: list[pytest.Item]) -> Iterator[str]:
    if not any(_POWER in item.path.parents for item in items):
        return
    for program in _POWER_PROGRAMS:
        if shutil.which(program) is None:
            yield f"the program {program}"
    if not kernels():
        yield (
            "a kernel for a virtual machine (tools/guest-kernels brings Debian's; "
            "--ignore=tests/power leaves its tests out)"
        )


def _missing_to_install(items: list[pytest.Item]) -> Iterator[str]:
    if any(_PACKAGING in item.path.parents for item in items):
        yield from (f"the program {name}" for name in _PACKAGING_PROGRAMS if not shutil.which(name))
        if not os.path.exists(_BASH_COMPLETION):
            yield f"bash-completion ({_BASH_COMPLETION})"
    without = [name for name in _DEB_PROGRAMS if not shutil.which(name)]
    if without and any(item.path == _DEB for item in items):
        yield f"Debian's {', '.join(without)} (--ignore={_DEB} leaves the package's tests out)"


def _missing_for_system(items: list[pytest.Item]) -> Iterator[str]:
    if not any(_SYSTEM in item.path.parents for item in items):
        return
    for program in _SYSTEM_PROGRAMS:
        if shutil.which(program) is None:
            yield f"the program {program}"
    if not _has("overlay"):
        yield "overlay in the kernel"


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("CapEff:")[2].split()[0], 16)


def _has(file_system: str) -> bool:
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    return file_system in known or os.path.exists("/lib/modules/" + os.uname().release)
