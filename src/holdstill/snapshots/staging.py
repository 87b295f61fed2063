"""The staging directory: where a run's snapshots lie, and what proves whose they are.

    .holdstill/                    below the top level of the file system, root's alone
        20261122T030000Z-6f3a9c/   a run
            lock                   held (flock) by the run and by every process it started
            0/                     one directory a snapshot
                <uuid of source>   the snapshot, named after the subvolume that it is a copy of

The lock lies beside the snapshots, not in a runtime directory: whoever can see a snapshot can see
whether its run is alive, from any container or configuration.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from holdstill.errors import ChangedError, CleanUpError, FreezeError, HoldstillError, shown
from holdstill.linux import btrfs as kernel
from holdstill.linux import locks
from holdstill.snapshots import btrfs, instant
from holdstill.snapshots.model import Leftover, Proof, SnapshotSet
from holdstill.snapshots.turn import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdstill.snapshots.model import Subvolume

DIRECTORY = ".holdstill"
_LOCK = "lock"
_RUN = r"\d{8}T\d{6}Z-[0-9a-f]{6}"
_DIGITS = 6
_NO_UUID = "00000000-0000-0000-0000-000000000000"
"""What old programs gave to the top level."""
_CHANGED = "subvolumes come and go too fast for a plan to hold; try again when they do not"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ANY_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_UNWATCHED = Turn()


def new_run() -> str:
    """Return an id for a run: sortable by time, unique without coordination."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + os.urandom(3).hex()


class Staging:
    """A run's own directory on one file system."""

    def __init__(self, device: str, run: str, top: int, directory: int, lock: int) -> None:
        """Take over the open directories and the lock; `staging` makes them."""
        self.lock = lock
        self._device = device
        self._run = run
        self._top = top
        self._directory = directory
        self._count = 0

    def take(self, subvolumes: Sequence[Subvolume]) -> SnapshotSet:
        """Take snapshots of subvolumes at one instant, as far as that can be had and proven.

        Raises FreezeError, also for a subvolume that is not what was planned.
        """
        with ExitStack() as stack:
            sources = []
            for one in subvolumes:
                sources.append(self._open(one))
                stack.callback(os.close, sources[-1])
            found = self._attempt(subvolumes, sources)
            while found.proof is Proof.SKEWED and found.attempts < instant.ATTEMPTS:
                _empty(self._directory, self._run, self._device)
                attempts = found.attempts + 1
                found = self._attempt(subvolumes, sources)._replace(attempts=attempts)
        return found

    def _attempt(self, subvolumes: Sequence[Subvolume], sources: Sequence[int]) -> SnapshotSet:
        with ExitStack() as stack:
            directories = [stack.enter_context(self._new_directory()) for _ in subvolumes]
            requests = [
                partial(kernel.create_snapshot, source, directory, one.uuid)
                for one, source, directory in zip(subvolumes, sources, directories, strict=True)
            ]
            frozen_at = datetime.now(UTC)
            asked = self._ask(requests)
            for one, failure in zip(subvolumes, asked.failures, strict=True):
                if failure is not None:
                    what = f"cannot take a snapshot of {one.shown}"
                    raise btrfs.failure(failure, what) from failure
            snapshots = tuple(
                btrfs.read_snapshot(one, directory)
                for one, directory in zip(subvolumes, directories, strict=True)
            )
        evidence = [
            instant.Evidence(one.transaction, kernel.subvolume_info(source).generation)
            for one, source in zip(snapshots, sources, strict=True)
        ]
        proof = instant.prove(evidence)
        system = subvolumes[0].file_system
        return SnapshotSet(system, snapshots, proof, frozen_at, asked.began, asked.ended)

    def _ask(self, requests: Sequence[Callable[[], None]]) -> instant.Asked:
        try:
            return instant.ask_together(requests, partial(self._kick, len(requests)))
        except RuntimeError as error:
            message = f"cannot ask for {len(requests)} snapshots at once: {error}"
            remedy = "allow more tasks (TasksMax= of the unit, ulimit -u)"
            raise FreezeError(message, remedy=remedy) from error

    def _kick(self, requests: int) -> None:
        if requests > 1 and instant.kickable(os.uname().release):
            instant.kick(self._directory)

    def _open(self, subvolume: Subvolume) -> int:
        try:
            root = os.open(subvolume.path or ".", _DIRECTORY, dir_fd=self._top)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(f"{subvolume.shown} is gone", remedy=_CHANGED) from error
        except OSError as error:
            raise btrfs.failure(error, f"cannot open {subvolume.shown}") from error
        if subvolume.uuid == _NO_UUID:
            os.close(root)
            what = f"{subvolume.shown} has no uuid, so that no snapshot could be told to be its"
            raise FreezeError(what, remedy="move the data into a subvolume of its own")
        if kernel.subvolume_info(root).uuid != subvolume.uuid:
            os.close(root)
            raise ChangedError(f"{subvolume.shown} is not what it was", remedy=_CHANGED)
        return root

    @contextmanager
    def _new_directory(self) -> Iterator[int]:
        number = str(self._count)
        self._count += 1
        with ExitStack() as stack:
            with _needing_space(self._device):
                os.mkdir(number, 0o700, dir_fd=self._directory)
                directory = stack.enter_context(btrfs.opened(number, self._directory))
            yield directory


@contextmanager
def staging(device: str, run: str, turn: Turn = _UNWATCHED) -> Iterator[Staging]:
    """Make a run's directory on a file system, locked; remove all of it at the end.

    Raises FreezeError where the directory cannot be trusted, or is not free in time, CleanUpError
    where something stays; StoppedError if the `turn` was ended by a signal.
    An error of the body is never replaced by one of the removal, which becomes a note on it.
    """
    with ExitStack() as stack:
        top = stack.enter_context(btrfs.mounted(device, kernel.TOP_LEVEL))
        base = stack.enter_context(_opened_base(top, device))
        with _guarded(base, device, turn):
            directory, lock = _begin(base, run, device)
        stack.callback(os.close, lock)
        stack.callback(os.close, directory)
        try:
            yield Staging(device, run, top, directory, lock)
        except BaseException as error:
            try:
                _remove(base, run, directory, device, turn)
            except HoldstillError as second:
                error.add_note(second.message)
            raise
        _remove(base, run, directory, device, turn)


def _begin(base: int, run: str, device: str) -> tuple[int, int]:
    with _needing_space(device), ExitStack() as undo:
        os.mkdir(run, 0o700, dir_fd=base)
        undo.callback(os.rmdir, run, dir_fd=base)
        directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
        undo.callback(os.close, directory)
        lock = os.open(_LOCK, _NEW_FILE, 0o600, dir_fd=directory)
        undo.pop_all()
    locks.take(lock)
    return directory, lock


@contextmanager
def _needing_space(device: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write to the staging directory {DIRECTORY} on {shown(device)}"
        raise btrfs.failure(error, what) from error


@contextmanager
def _opened_base(top: int, device: str) -> Iterator[int]:
    """Open the staging directory, which is made once and stays.

    Where the data lie directly in the top level it is part of a source, and a directory that came
    and went would move the source's timestamps in every run.
    """
    before = os.fstat(top)
    try:
        os.mkdir(DIRECTORY, 0o700, dir_fd=top)
    except FileExistsError:
        pass
    except OSError as error:
        what = f"cannot make the staging directory {DIRECTORY} on {shown(device)}"
        raise btrfs.failure(error, what) from error
    else:
        os.utime(top, ns=(before.st_atime_ns, before.st_mtime_ns))
    with _opened_own(top, device) as base:
        yield base


@contextmanager
def _opened_own(top: int, device: str) -> Iterator[int]:
    _refuse_foreign(os.stat(DIRECTORY, dir_fd=top, follow_symlinks=False), device)
    with btrfs.opened(DIRECTORY, top) as base:
        _refuse_foreign(os.fstat(base), device)  # again: a name may have changed its meaning
        yield base


def _refuse_foreign(found: os.stat_result, device: str) -> None:
    private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not (private and stat.S_ISDIR(found.st_mode)):
        mode = stat.filemode(found.st_mode)
        message = (
            f"{DIRECTORY} at the top level of {shown(device)} is not safe: "
            f"owner {found.st_uid}, mode {mode}"
        )
        raise FreezeError(message, remedy="remove it, or make it root's with mode 0700")


@contextmanager
def _guarded(base: int, device: str, turn: Turn) -> Iterator[None]:
    """Keep others from making or sweeping runs, for the moment that it takes."""
    with btrfs.opened(".", base) as own:  # a lock belongs to an open file: not to `base`, shared
        turn.wait_for(own, f"{DIRECTORY} on {shown(device)}")
        yield


def sweep(
    device: str,
    on_dead: Callable[[Leftover], None],
    *,
    remove: bool = True,
    turn: Turn = _UNWATCHED,
) -> tuple[str, ...]:
    """Find the runs on a file system that are dead, and remove them unless told not to.

    `on_dead` sees each before it is removed. Returns why something was left alone, in words.
    Raises FreezeError and StoppedError, as `staging` does.
    """
    problems = []
    with (
        btrfs.mounted(device, kernel.TOP_LEVEL) as top,
        _existing_base(top, device) as base,
    ):
        if base is None:
            return ()
        for run in _listed(base):
            if not re.fullmatch(_RUN, run):
                continue
            try:
                _sweep_run(base, run, device, on_dead, remove=remove, turn=turn)
            except CleanUpError as error:
                problems.append(error.message)
            except OSError as error:
                what = f"{error.strerror}: {shown(str(error.filename))}"
                where = f"{DIRECTORY}/{run} on {shown(device)}"
                problems.append(f"left alone: {where} is not as holdstill makes it: {what}")
    return tuple(problems)


@contextmanager
def _opened_lock(directory: int) -> Iterator[int]:
    lock = os.open(_LOCK, _ANY_FILE, 0o600, dir_fd=directory)
    try:
        yield lock
    finally:
        os.close(lock)


def _is_dead(lock: int) -> bool:
    """Whether nobody holds a run's lock, which this process has then; a removed one counts not."""
    return locks.take(lock) and os.fstat(lock).st_nlink > 0


@contextmanager
def _existing_base(top: int, device: str) -> Iterator[int | None]:
    try:
        os.stat(DIRECTORY, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        yield None
        return
    with _opened_own(top, device) as base:
        yield base


def _sweep_run(  # noqa: PLR0913 - what a sweep is told
    base: int,
    run: str,
    device: str,
    on_dead: Callable[[Leftover], None],
    *,
    remove: bool,
    turn: Turn,
) -> None:
    with ExitStack() as stack:
        with _guarded(base, device, turn):
            try:
                directory = stack.enter_context(btrfs.opened(run, base))
                lock = stack.enter_context(_opened_lock(directory))
            except FileNotFoundError:
                return  # its run, or another sweep, has removed it
            if not _is_dead(lock):
                return
        # With its lock held it is ours to remove, and nobody else has to wait while we do.
        on_dead(Leftover(run, device, tuple(_names(directory))))
        if remove:
            _remove(base, run, directory, device, turn)


def _listed(directory: int) -> list[str]:
    """List an open directory.

    Afresh: btrfs shows a directory's descriptor only what was there when it was opened (Linux 6.5).
    """
    with btrfs.opened(".", directory) as fresh:
        return sorted(os.listdir(fresh))


def _numbers(directory: int) -> list[str]:
    return [name for name in _listed(directory) if name.isdecimal() and len(name) <= _DIGITS]


def _names(directory: int) -> Iterator[str]:
    """Yield the snapshots of a run as `number/uuid`."""
    for number in _numbers(directory):
        with btrfs.opened(number, directory) as inner:
            for name in _listed(inner):
                yield f"{number}/{name}"


def _remove(base: int, run: str, directory: int, device: str, turn: Turn) -> None:
    try:
        _empty(directory, run, device)
        with btrfs.opened(".", base) as own:
            # A sweep should not be just at it. One that stands still there sees what is gone.
            turn.try_for(own, f"{DIRECTORY} on {shown(device)}")
            _unlink(base, run, directory)
    except OSError as error:
        message = f"cannot remove {DIRECTORY}/{run} on {shown(device)}: {error.strerror}"
        remedy = "look at what lies in it, then run 'holdstill sweep'"
        raise CleanUpError(message, remedy=remedy) from error


def _empty(directory: int, run: str, device: str) -> None:
    """Delete all snapshots that can be deleted; raises CleanUpError naming the others."""
    problems = []
    for name in list(_names(directory)):
        number, _, own = name.partition("/")
        try:
            with btrfs.opened(number, directory) as inner:
                _delete(inner, own)
            os.rmdir(number, dir_fd=directory)
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
        except CleanUpError as error:
            problems.append(f"{name}: {error.message}")
    if problems:
        where = shown(f"{DIRECTORY}/{run}")
        message = f"left alone in {where} on {shown(device)}: {'; '.join(problems)}"
        raise CleanUpError(message, remedy="look at it; 'holdstill sweep' tries again")


def _delete(directory: int, name: str) -> None:
    """Delete a subvolume that is ours beyond doubt: our name, read-only, a copy of its source."""
    with btrfs.opened(name, directory) as descriptor:
        is_root = os.fstat(descriptor).st_ino == kernel.ROOT_INODE
        info = kernel.subvolume_info(descriptor)
        if not (is_root and info.read_only and info.parent_uuid == name):
            message = "not a snapshot that holdstill took"
            raise CleanUpError(message)
        kernel.allow_deletion(descriptor)
    kernel.delete_subvolume(directory, info.id)


def _unlink(base: int, run: str, directory: int) -> None:
    for number in _numbers(directory):
        os.rmdir(number, dir_fd=directory)  # a run died before the snapshot was in it
    with suppress(FileNotFoundError):
        os.unlink(_LOCK, dir_fd=directory)
    os.rmdir(run, dir_fd=base)
