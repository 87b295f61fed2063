"""The machine: privileges, the kernel, the clock."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta

from holdstill.errors import HistoryError, NotPermittedError
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.linux import clock, mounts, privileges
from holdstill.records.past import past
from holdstill.snapshots.instant import kickable
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding

OLDEST_KERNEL = (5, 15)
_TOLERANCE = timedelta(minutes=1)

_NEEDED = {
    "SYS_ADMIN": (privileges.CAP_SYS_ADMIN, "snapshots can neither be taken nor mounted"),
    "SETPCAP": (privileges.CAP_SETPCAP, "restic cannot be kept from mounting"),
    "DAC_READ_SEARCH": (privileges.CAP_DAC_READ_SEARCH, "files of others cannot be read"),
}
_NEEDED_FOR_USERS = {
    "SETUID": (privileges.CAP_SETUID, "restic cannot run as another user (run-as)"),
    "SETGID": (privileges.CAP_SETGID, "restic cannot run as another user (run-as)"),
}
_USEFUL_FOR_USERS = {
    "CHOWN": (privileges.CAP_CHOWN, "the cache cannot be given to the user of run-as"),
    "KILL": (privileges.CAP_KILL, "a restic of another user (run-as) cannot be stopped"),
}


class Powers(NamedTuple):
    """What this process may do."""

    effective: Collection[int]
    in_user_namespace: bool


def privileges_of_run(config: Config | None) -> Iterator[Finding]:
    """Look for what the kernel must allow."""
    users = config is not None and any(job.run_as for job in config.jobs.values())
    known = _NEEDED | _NEEDED_FOR_USERS | _USEFUL_FOR_USERS
    numbers = [number for number, _ in known.values()]
    effective = {number for number in numbers if privileges.effective(number)}
    if privileges.effective(privileges.CAP_DAC_OVERRIDE) and not users:
        effective.add(privileges.CAP_DAC_READ_SEARCH)  # a part of that
    yield from judge_powers(Powers(effective, privileges.in_user_namespace()), users=users)


def judge_powers(powers: Powers, *, users: bool) -> Iterator[Finding]:
    """Judge it; `users`: whether a job runs restic as another user."""
    about = About(Check.PRIVILEGES)
    needed = _NEEDED | (_NEEDED_FOR_USERS if users else {})
    useful = _USEFUL_FOR_USERS if users else {}
    if not powers.effective:
        text = "no capability of root: snapshots can neither be taken nor mounted"
        yield about.error(text, remedies.SUDO, 77)
        return
    missing = [n for n, (number, _) in (needed | useful).items() if number not in powers.effective]
    for name in missing:
        remedy = remedies.CAPABILITY.format(capability=name)
        if name in needed:
            yield about.error(f"CAP_{name} is missing: {needed[name][1]}", remedy, 77)
        else:
            yield about.warning(f"CAP_{name} is missing: {useful[name][1]}", remedy)
    if powers.in_user_namespace:
        text = "a user namespace: what capabilities are here, the file systems do not know them"
        yield about.error(text, remedies.NAMESPACE, 77)
    elif not missing:
        yield about.ok("all that a run needs")


class Kernel(NamedTuple):
    """What the kernel can do."""

    release: str
    has_btrfs: bool
    new_calls_work: bool


def kernel(config: Config | None) -> Iterator[Finding]:
    """Look at the kernel: its release, and what works when it is tried."""
    jobs = config.jobs.values() if config is not None else ()
    strict = any(job.require_one_instant for job in jobs)
    found = Kernel(os.uname().release, has_btrfs=True, new_calls_work=True)
    if privileges.effective(privileges.CAP_SYS_ADMIN):  # others may not try
        try:
            found = found._replace(new_calls_work=mounts.new_calls_work())
        except OSError:
            found = found._replace(has_btrfs=False)
    return judge_kernel(found, strict=strict)


def nothing_else() -> Finding:
    """Return what is said where the other checks cannot be made."""
    return About(Check.PRIVILEGES).warning("the other checks were not made", remedies.SUDO)


def judge_kernel(found: Kernel, *, strict: bool) -> Iterator[Finding]:
    """Judge it; `strict`: whether a job requires one instant for all of its subvolumes."""
    about = About(Check.KERNEL)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if not found.has_btrfs:
        yield about.error(f"Linux {found.release} has no btrfs", remedies.BTRFS)
    elif _numbers(found.release) < OLDEST_KERNEL:
        text = f"Linux {found.release} is older than {oldest}, the oldest that is tested"
        yield about.error(text, remedies.NEWER_KERNEL.format(release=oldest))
    elif strict and not kickable(found.release):
        text = (
            f"Linux {found.release}: before 6.6 several subvolumes share one instant less often, "
            "which require-one-instant asks for"
        )
        yield about.warning(text, remedies.NEWER_KERNEL.format(release="6.6"))
    else:
        way = "" if found.new_calls_work else ", mounting by mount(2): newer calls are refused"
        yield about.ok(f"Linux {found.release}{way}")


def _numbers(release: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Clock(NamedTuple):
    """What time it is, and what is known of it."""

    now: datetime
    last_run: datetime | None
    """When the last run on record began."""
    synchronised: bool


def clock_of(config: Config, now: datetime) -> Iterator[Finding]:
    """Look at the clock, and at what the records say of it."""
    return judge_clock(Clock(now, _last_start(config), clock.is_synchronised()))


def _last_start(config: Config) -> datetime | None:
    try:
        with past(config.state_directory) as runs:
            return max((run.started for run in runs.last_of_all(1)), default=None)
    except (HistoryError, NotPermittedError):  # which the records' own check names
        return None


def judge_clock(found: Clock) -> Iterator[Finding]:
    """Judge it: a run must not seem to be older than the one before."""
    about = About(Check.CLOCK)
    if found.last_run is not None and found.now < found.last_run - _TOLERANCE:
        text = f"it is {moment(found.now)}, and the last run began at {moment(found.last_run)}"
        yield about.error(f"the clock is wrong: {text}", remedies.SET_CLOCK)
    elif not found.synchronised:
        text = f"{moment(found.now)}, and not synchronised (NTP)"
        yield about.warning(text, remedies.SET_CLOCK)
    else:
        yield about.ok(f"{moment(found.now)}, synchronised")


def moment(instant: datetime) -> str:
    """Return a time to the minute, as the machine's clock on the wall shows it."""
    return f"{instant.astimezone():%Y-%m-%d %H:%M}"
