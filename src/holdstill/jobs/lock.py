"""One run at a time per job."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from contextlib import ExitStack, contextmanager, suppress

from holdstill.errors import HoldstillError, JobActiveError, shown
from holdstill.linux import locks
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdstill.config.model import Config
    from holdstill.linux.signals import Signals

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_POLL_SECONDS = 0.1


class JobLock(NamedTuple):
    """A job's lock, held for as long as any process has these descriptors."""

    descriptors: tuple[int, ...]
    problems: tuple[str, ...]
    """Where it could not be taken, and why."""


class _Busy(NamedTuple):
    path: str


@contextmanager
def job_lock(
    directories: Sequence[str],
    job: str,
    *,
    wait: float,
    signals: Signals,
    say: Callable[[str], None],
) -> Iterator[JobLock | None]:
    """Hold a job's lock, which its processes are to inherit; wait for it up to `wait` seconds.

    It lies in each of the directories and counts where it was taken in most of them, so that any
    two runs have one in common: a directory that cannot be written, or is removed while a run goes
    on, neither fails a backup nor lets two runs meet. The files stay: unlinking one would let two
    runs lock two files of one name.

    Yields None if a signal ended the wait. Raises JobActiveError if another run, or an orphaned
    process of one, still holds it then; HoldstillError if it cannot be taken in enough places.
    """
    # A directory that two keys name would be in its own way.
    paths = [f"{place}/{job}.lock" for place in dict.fromkeys(map(os.path.realpath, directories))]
    found: JobLock | _Busy | None = _attempt(paths, job)
    if isinstance(found, _Busy) and wait:
        say(f"waiting for another run to end: {locks.named_holders(found.path)}")
        found = _wait(paths, job, time.monotonic() + wait, signals)
    if isinstance(found, _Busy):
        message = f"another run of job {job} is active: {locks.named_holders(found.path)}"
        raise JobActiveError(message, remedy="wait for its end (--wait 10m), or stop it")
    try:
        yield found
    finally:
        for descriptor in found.descriptors if found is not None else ():
            os.close(descriptor)


def lock_places(config: Config) -> tuple[str, ...]:
    """Return the directories that a job's lock lies in."""
    return (config.runtime_directory, config.state_directory, config.cache_directory)


def is_held(directories: Sequence[str], job: str) -> bool:
    """Whether a run of a job, or an orphaned process of one, is alive."""
    paths = (f"{directory}/{job}.lock" for directory in directories)
    return any(locks.holders(path) for path in paths if os.path.exists(path))


def _wait(
    paths: Sequence[str], job: str, deadline: float, signals: Signals
) -> JobLock | _Busy | None:
    while True:
        found = _attempt(paths, job)
        left = deadline - time.monotonic()
        if isinstance(found, JobLock) or left <= 0:
            return found
        signals.pulse()
        select.select([signals], [], [], min(left, _POLL_SECONDS))
        if signals.read() is not None:
            return None


def _attempt(paths: Sequence[str], job: str) -> JobLock | _Busy:
    """Take the lock in as many places as can be, or in none if it is taken in one of them."""
    taken: list[int] = []
    problems: list[str] = []
    with ExitStack() as undo:
        for path in paths:
            try:
                descriptor = _opened(path)
                undo.callback(os.close, descriptor)
                if not locks.take(descriptor):
                    return _Busy(path)
            except OSError as error:
                problems.append(f"{shown(path)} cannot be locked: {error.strerror}")
            else:
                taken.append(descriptor)
        if len(taken) <= len(problems):
            raise _too_few(job, problems)
        undo.pop_all()
    return JobLock(tuple(taken), tuple(problems))


def _opened(path: str) -> int:
    descriptor = _open(path)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is not a file of this user", path)
    return descriptor


def _open(path: str) -> int:
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    except OSError:
        # What is there already can be locked, also where nothing can be written.
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | _FLAGS)
        raise


def _too_few(job: str, problems: Sequence[str]) -> HoldstillError:
    message = f"job {job} cannot be locked against a second run: {'; '.join(problems)}"
    remedy = (
        "make most of 'runtime-directory', 'state-directory' and 'cache-directory' "
        "of the configuration writable"
    )
    return HoldstillError(message, remedy=remedy)
