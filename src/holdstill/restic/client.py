"""Runs restic: one process for a backup, one for a retention, and no other."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from holdstill.errors import ViewError, shown
from holdstill.restic import commands
from holdstill.restic.events import (
    ExitError,
    Forgotten,
    ItemError,
    Status,
    Summary,
    Text,
    decode,
    decode_forget,
    printable,
)
from holdstill.restic.outcome import Evidence, Outcome, Reading, read
from holdstill.restic.redaction import redacted, secrets_in
from holdstill.tuples import NamedTuple

if TYPE_CHECKING:
    from holdstill.process import Ended, Run
    from holdstill.restic.binary import Binary
    from holdstill.restic.commands import Backup, Retention, Target

KEPT = 100
"""Errors and warnings that are kept; the rest is counted."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MISSING = r"(.*) does not exist, skipping"
# What the outcome says better.
_LAST_WORDS = ("Fatal: ", "unable to create lock")
_NOISE = ("signal ", "Warning: at least one source file could not be read")

OnProgress = Callable[[Status], None]
OnWarning = Callable[[str], None]


class BackupResult(NamedTuple):
    """What became of a backup."""

    outcome: Outcome
    message: str
    remedy: str
    locked: bool
    """Whether it failed over another restic's lock."""
    duration: float
    """Seconds, of the whole process."""
    summary: Summary
    """All zeros when there was none; its `snapshot_id` is empty when there is no snapshot."""
    errors: tuple[ItemError, ...]
    """The first hundred."""
    error_count: int
    warnings: tuple[str, ...]
    """The first hundred of what else restic said on its own account."""


class ForgetResult(NamedTuple):
    """What became of a retention."""

    outcome: Outcome
    message: str
    remedy: str
    locked: bool
    """Whether it failed over another restic's lock."""
    duration: float
    """Seconds, of the whole process, prune included."""
    kept: int | None
    """Snapshots; None where it is not known."""
    removed: int | None
    warnings: tuple[str, ...]


class Answer(NamedTuple):
    """What restic has read of a repository."""

    reading: Reading
    text: bytes
    """The first hundred lines."""


Result = TypeVar("Result", BackupResult, ForgetResult, Reading)


class DistrustedSnapshotError(ViewError):
    """restic wrote a snapshot of what it should not have seen."""

    def __init__(self, error: ViewError, snapshot: str) -> None:
        """Say what `error` says, and know the snapshot's id."""
        super().__init__(error.message, remedy=error.remedy)
        self.snapshot = snapshot


class Client(NamedTuple):
    """A restic, where it runs (plainly or inside a view), and the environment it starts from."""

    run: Run
    binary: Binary
    environment: Mapping[str, str]

    def backup(
        self, target: Target, request: Backup, progress: OnProgress, on_warning: OnWarning
    ) -> BackupResult:
        """Make one snapshot; what goes wrong is in the result.

        Raises what `run` raises: restic did not start, or not inside what it should see.
        """

        def attempt(target: Target) -> BackupResult:
            return self._backup(target, request, progress, on_warning)

        return self._insist(target, attempt, on_warning)

    def forget(self, target: Target, retention: Retention, on_warning: OnWarning) -> ForgetResult:
        """Apply a retention, and prune if it says so; what goes wrong is in the result."""

        def attempt(target: Target) -> ForgetResult:
            return self._forget(target, retention, on_warning)

        return self._insist(target, attempt, on_warning)

    def ask(
        self, target: Target, *arguments: str, on_warning: OnWarning = lambda _: None
    ) -> Answer:
        """Let restic read something of a repository: it takes no lock and writes no cache.

        Raises what `run` raises.
        """
        heard, lines = _Heard(target, on_warning), list[bytes]()

        def keep(line: bytes) -> None:
            if len(lines) < KEPT:
                lines.append(line)

        target = target._replace(cache_directory=None, lock_wait=0)
        asked = [*arguments, "--no-lock"]
        command = commands.passthrough(self.binary, target, asked, self.environment)
        ended = self.run(
            command.argv,
            environment=command.environment,
            on_stdout=keep,
            on_stderr=heard.line,
        )
        return Answer(self._read(heard, ended, answered=True), b"\n".join(lines))

    def disown(self, target: Target, snapshot: str, on_warning: OnWarning) -> Reading:
        """Remove one snapshot, by its id, from the list of backups; its data wait for a prune."""
        return self.maintain(target, ["forget", "--", snapshot], lambda _: None, on_warning)

    def maintain(
        self, target: Target, arguments: Sequence[str], say: OnWarning, on_warning: OnWarning
    ) -> Reading:
        """Run a command that makes no snapshot, such as `check`; `say` takes what it prints."""
        target = _with_usable_cache(target, _Heard(target, on_warning))

        def attempt(target: Target) -> Reading:
            return self._plainly(target, arguments, on_warning, say)

        return self._insist(target, attempt, on_warning)

    def create(self, target: Target, on_warning: OnWarning) -> Reading:
        """Create a repository; one that is there is an error, and stays as it is."""
        return self._plainly(target, ("init",), on_warning)

    def _plainly(
        self,
        target: Target,
        arguments: Sequence[str],
        on_warning: OnWarning,
        say: OnWarning = lambda _: None,
    ) -> Reading:
        heard = _Heard(target, on_warning)
        command = commands.passthrough(self.binary, target, arguments, self.environment)
        ended = self.run(
            command.argv,
            environment=command.environment,
            on_stdout=lambda line: say(heard.safe(os.fsdecode(line))),
            on_stderr=heard.line,
        )
        return self._read(heard, ended, answered=True)

    def _insist(
        self, target: Target, attempt: Callable[[Target], Result], on_warning: OnWarning
    ) -> Result:
        """Try once more where a lock was in the way: the dead's is removed, the living's awaited.

        In this order: restic would wait for the dead, too.
        """
        result = attempt(target._replace(lock_wait=0))
        if result.locked and self._unlock(target, on_warning):
            result = attempt(target)
        return result

    def _unlock(self, target: Target, on_warning: OnWarning) -> bool:
        """Let restic remove the locks of its dead: those 30 minutes old, or of a PID that is gone.

        A restic that was killed leaves one, and prune, which wants to be alone, would fail over it
        in every run from then on. The lock of a living one stays.
        """
        at_once = target._replace(lock_wait=0)
        command = commands.passthrough(self.binary, at_once, ["unlock"], self.environment)
        ended = self.run(
            command.argv,
            environment=command.environment,
            on_stdout=lambda _: None,
            on_stderr=lambda _: None,
        )
        if ended.status != 0:
            on_warning(f"repository {target.name} is locked: its locks cannot be removed")
            return False
        again = "trying again"
        if target.lock_wait and self.binary.version.retry_lock:
            again = f"waiting up to {target.lock_wait} s for the others"
        on_warning(
            f"repository {target.name} was locked: removed the locks of dead restics, {again}"
        )
        return True

    def _backup(
        self, target: Target, request: Backup, progress: OnProgress, on_warning: OnWarning
    ) -> BackupResult:
        heard = _Heard(target, on_warning, progress)
        target = _with_usable_cache(target, heard)
        command = commands.backup(self.binary, target, request, self.environment)
        started = time.monotonic()
        try:
            ended = self.run(
                command.argv,
                environment=command.environment,
                on_stdout=heard.line,
                on_stderr=heard.line,
            )
        except ViewError as error:
            if _is_id(heard.summary.snapshot_id):
                raise DistrustedSnapshotError(error, heard.summary.snapshot_id) from error
            raise
        reading = self._read(heard, ended, answered=_is_id(heard.summary.snapshot_id))
        return BackupResult(
            outcome=reading.outcome,
            message=reading.message,
            remedy=reading.remedy,
            locked=reading.locked,
            duration=time.monotonic() - started,
            summary=heard.summary,
            errors=tuple(heard.errors),
            error_count=heard.error_count,
            warnings=tuple(heard.warnings),
        )

    def _forget(self, target: Target, retention: Retention, on_warning: OnWarning) -> ForgetResult:
        heard = _Heard(target, on_warning)
        target = _with_usable_cache(target, heard)
        command = commands.forget(self.binary, target, retention, self.environment)
        started = time.monotonic()
        ended = self.run(
            command.argv,
            environment=command.environment,
            on_stdout=heard.forget_line,
            on_stderr=heard.line,
        )
        reading = self._read(heard, ended, answered=heard.forgotten is not None or heard.silent)
        if reading.outcome is Outcome.OK and heard.forgotten is None:
            heard.forgotten = Forgotten(0, 0)
            reading = Reading(
                Outcome.PARTIAL,
                f"repository {target.name}: the retention matched no snapshot, not even today's",
                f"see what host, tags and paths they have: {target.reach} -- snapshots",
            )
        forgotten = heard.forgotten or Forgotten(None, None)
        return ForgetResult(
            outcome=reading.outcome,
            message=reading.message,
            remedy=reading.remedy,
            locked=reading.locked,
            duration=time.monotonic() - started,
            kept=forgotten.kept,
            removed=forgotten.removed,
            warnings=tuple(heard.warnings),
        )

    def _read(self, heard: _Heard, ended: Ended, *, answered: bool) -> Reading:
        first = heard.errors[0] if heard.errors else None
        reading = read(
            Evidence(
                repository=heard.target.name,
                reach=heard.target.reach,
                version=self.binary.version,
                status=ended.status,
                signal=ended.signal,
                told=ended.told,
                complaint="\n".join(heard.complaint),
                said="\n".join(heard.warnings),
                answered=answered,
                error_count=heard.error_count,
                first_error="" if first is None else first.described(),
            )
        )
        return reading._replace(message=redacted(reading.message, heard.secrets))


class _Heard:
    """What restic has said so far, in bounded memory and without a secret."""

    def __init__(
        self, target: Target, on_warning: OnWarning, progress: OnProgress = lambda _: None
    ) -> None:
        self.target = target
        self.on_warning = on_warning
        self.progress = progress
        self.summary = Summary()
        self.forgotten: Forgotten | None = None
        self.silent = True
        """Nothing came on standard output: `forget` matched no snapshot."""
        self.complaint: list[str] = []
        self.errors: list[ItemError] = []
        self.error_count = 0
        self.warnings: list[str] = []
        self.secrets = secrets_in(target.url, target.environment)

    def line(self, line: bytes) -> None:
        match decode(line):
            case Status() as status:
                self.progress(status)
            case Summary() as summary:
                self.summary = summary
            case ItemError() as error:
                self._error(error)
            case ExitError(message=message):
                self.complaint = [self.safe(part) for part in message.split("\n", KEPT)[:KEPT]]
            case Text(line=text):
                self._text(text)

    def forget_line(self, line: bytes) -> None:
        """Take a line of `forget --json --prune`: before 0.19, prune talks around the answer."""
        self.silent = self.silent and not line
        if self.forgotten is None:
            self.forgotten = decode_forget(line)

    def warn(self, text: str) -> None:
        if len(self.warnings) < KEPT:
            self.warnings.append(self.safe(text))
            self.on_warning(self.warnings[-1])

    def _text(self, text: str) -> None:
        if not text or text.startswith(_NOISE):
            return
        if missing := re.fullmatch(_MISSING, text):
            # Before 0.19 this is all that a missing source leads to: the exit status is 0.
            self._error(ItemError(missing[1], "scan", "does not exist"))
        elif self.complaint or text.startswith(_LAST_WORDS):
            # The last thing restic says before it ends; 0.14 uses several lines for it.
            if len(self.complaint) < KEPT:
                self.complaint.append(self.safe(text))
        else:
            self.warn(text)

    def _error(self, error: ItemError) -> None:
        self.error_count += 1
        if len(self.errors) < KEPT:
            words = (error.item, error.during, error.message)
            self.errors.append(ItemError(*map(self.safe, words)))
            self.on_warning(self.errors[-1].described())
        elif self.error_count == KEPT + 1:
            self.on_warning(f"more than {KEPT} errors: the others are only counted")

    def safe(self, text: str) -> str:
        return redacted(printable(text), self.secrets)


def _is_id(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{8,64}", text) is not None


def _with_usable_cache(target: Target, heard: _Heard) -> Target:
    """Do without a cache that cannot be opened: restic 0.19 fails over it, others are slow."""
    directory = target.cache_directory
    if directory is None:
        return target
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        problem = error.strerror
    else:
        problem = "" if os.access(directory, os.R_OK | os.W_OK | os.X_OK) else "not writable"
    if not problem:
        _mend_cache(directory)
        return target
    heard.warn(f"the cache {shown(directory)} cannot be opened ({problem}): this run is slow")
    return target._replace(cache_directory=None)


def _mend_cache(directory: str) -> None:
    """Remove version files without content: restic 0.19 fails over them, others use no cache.

    restic does not sync them, so a power cut can empty one; a missing one is made anew. Nothing is
    followed: where a job has run-as, what lies there is that user's.
    """
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):  # restic itself says what is wrong with a cache
            inner = os.open(os.path.join(directory, name), _DIRECTORY)
            try:
                if os.stat("version", dir_fd=inner, follow_symlinks=False).st_size == 0:
                    os.unlink("version", dir_fd=inner)
            finally:
                os.close(inner)
