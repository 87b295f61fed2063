"""restic and the repositories: each is asked once, in a bounded time."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta

from holdstill.errors import shown
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.jobs.checkup.places import SCARCE, mebibytes
from holdstill.jobs.plan import environment_of, find_restic, target_of, user_of
from holdstill.jobs.repository import Outside
from holdstill.locations import local_path
from holdstill.restic.client import Client
from holdstill.restic.outcome import Outcome
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding
    from holdstill.linux.signals import Signals
    from holdstill.restic.binary import Binary
    from holdstill.restic.commands import Target

STALE_AFTER = timedelta(minutes=30)
"""restic refreshes its locks every five minutes, and calls older ones stale itself."""
_LOCKS = 10
"""That are looked at: each costs a restic."""
_WRITABLE = 'for d in "$@"; do [ ! -e "$d" ] || [ -w "$d" ] || printf "%s\\n" "$d"; done'


def restic(config: Config, environment: Mapping[str, str], signals: Signals) -> Iterator[Finding]:
    """Look for restic, and at what its version can do; raises ProgramError, StoppedError."""
    found = find_restic(config, environment, signals)
    about = About(Check.RESTIC)
    yield from (about.warning(text) for text in found.warnings)
    yield from judge_restic(found.binary)


def judge_restic(binary: Binary) -> Iterator[Finding]:
    """Judge what a version lacks."""
    about, version = About(Check.RESTIC), binary.version
    what = f"{version} in {shown(os.path.dirname(binary.path))}"
    lacks = []
    if not version.retry_lock:
        lacks.append("does not wait for locks (0.16)")
    if not version.device_id_for_hardlinks:
        lacks.append("may write unchanged directories anew (0.17)")
    if lacks:
        remedy = remedies.NEWER_RESTIC.format(release="0.17")
        yield about.warning(f"{what}: {' and '.join(lacks)}", remedy)
    else:
        yield about.ok(what)


class Asked(NamedTuple):
    """A repository, as a job reaches it."""

    config: Config
    job: str
    name: str
    environment: Mapping[str, str]
    signals: Signals


def repository(asked: Asked) -> Iterator[Finding]:
    """Ask a repository; raises HoldstillError."""
    about = About(Check.REPOSITORY, asked.name)
    wanted = asked.config.repositories[asked.name]
    if missing := missing_credential(asked.config, asked.job, asked.name):
        yield about.warning("not asked: only its unit has the credential", missing)
        return
    user = user_of(asked.config, asked.job)
    environment = environment_of(user, asked.environment)
    binary = find_restic(asked.config, environment, asked.signals).binary
    target = target_of(asked.config, asked.job, asked.name)
    run = Outside(asked.signals, (), user)
    client = Client(run, binary, environment)
    bad = list(_of_contents(about, client, target, asked.signals))
    if not bad and (path := local_path(wanted.url)):
        bad += _of_local(about, run, path)
    yield from bad or _of_locks(about, client, target)


def missing_credential(config: Config, job: str, only: str = "") -> str:
    """Return the way to have a credential that this process has not; empty if it needs none."""
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        return ""
    names = [only] if only else config.jobs[job].repositories
    wanted = [config.repositories[name].password_credential for name in names]
    return next((remedies.CREDENTIAL.format(name=one) for one in wanted if one), "")


def _of_contents(
    about: About, client: Client, target: Target, signals: Signals
) -> Iterator[Finding]:
    reading, text = client.ask(target, "cat", "config")
    if signals.expired:
        yield about.error("no answer in time", remedies.UNREACHABLE.format(reach=target.reach))
    elif reading.outcome is not Outcome.OK:
        message = reading.message.removeprefix(f"repository {target.name}: ")
        yield about.error(message, reading.remedy)
    elif b'"chunker_polynomial"' not in text:
        yield about.error("what restic printed is no configuration", remedies.ANOTHER_RESTIC)


def _of_local(about: About, run: Outside, path: str) -> Iterator[Finding]:
    """Look whether restic, with what it may, can write to a repository on this machine."""
    closed: list[bytes] = []
    paths = [f"{path}/{name}" for name in ("data", "index", "locks", "snapshots")]
    run(
        ["/bin/sh", "-c", _WRITABLE, "sh", *paths],
        environment={},
        on_stdout=closed.append,
        on_stderr=lambda _: None,
    )
    if closed:
        where = shown(os.fsdecode(closed[0]))
        remedy = remedies.REPOSITORY_OWNER.format(path=shown(path))
        yield about.error(f"restic may not write to {where}", remedy)
    found = os.statvfs(path)
    if (free := found.f_bavail * found.f_frsize) < SCARCE:
        yield about.warning(f"its disk has {mebibytes(free)} left", remedies.REPOSITORY_SPACE)


class Lock(NamedTuple):
    """A lock in a repository, as the restic that holds it describes itself."""

    host: str
    process: int
    refreshed: datetime
    exclusive: bool


def _of_locks(about: About, client: Client, target: Target) -> Iterator[Finding]:
    began = time.monotonic()
    reading, listed = client.ask(target, "list", "locks")
    if reading.outcome is not Outcome.OK:
        yield about.error(reading.message, reading.remedy)
        return
    took = time.monotonic() - began
    found = [_lock(client, target, name.decode()) for name in listed.split()[:_LOCKS]]
    locks = [lock for lock in found if lock is not None]
    now, host = datetime.now(UTC), os.uname().nodename
    stale = [one for one in locks if is_stale(one, now, lives=_lives(one, host))]
    remedy = remedies.UNLOCK.format(reach=target.reach)
    yield from (
        about.warning(f"a lock that looks stale: {_described(one)}", remedy) for one in stale
    )
    if not stale:
        active = next((one for one in locks if one.exclusive), None)
        more = "" if active is None else f"; locked now: {_described(active)}"
        yield about.ok(f"opened in {took:.1f} s{more}")


def _lock(client: Client, target: Target, name: str) -> Lock | None:
    reading, text = client.ask(target, "cat", "lock", name)
    return read_lock(text) if reading.outcome is Outcome.OK else None  # it has gone meanwhile


def read_lock(text: bytes) -> Lock | None:
    """Read what `restic cat lock` prints; None where it is not what it should be."""
    try:
        found = json.loads(text)
        return Lock(
            host=str(found["hostname"]),
            process=int(found["pid"]),
            refreshed=datetime.fromisoformat(found["time"]).astimezone(UTC),
            exclusive=bool(found["exclusive"]),
        )
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None


def _lives(lock: Lock, host: str) -> bool | None:
    """Whether its process lives; None where only another machine knows."""
    return os.path.exists(f"/proc/{lock.process}") if lock.host == host else None


def is_stale(lock: Lock, now: datetime, *, lives: bool | None) -> bool:
    """Whether a lock is what a dead restic has left, by restic's own rules."""
    return lives is False or now - lock.refreshed > STALE_AFTER


def _described(lock: Lock) -> str:
    when = f"{lock.refreshed.astimezone():%Y-%m-%d %H:%M}"
    kind = "exclusive, " if lock.exclusive else ""
    return f"{kind}of process {lock.process} on {shown(lock.host)}, {when}"
