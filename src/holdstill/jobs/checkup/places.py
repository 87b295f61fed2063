"""The directories that a run writes to."""

from __future__ import annotations

import os
import tempfile

from holdstill.errors import shown
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.jobs.lock import lock_places
from holdstill.jobs.plan import restic_cache, user_of
from holdstill.linux import locks
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding

SCARCE = 64 << 20
"""Bytes: with less, the next run may well find none."""


class Place(NamedTuple):
    """A directory that is written to, or the one that it would be made in."""

    key: str
    """What names it in the configuration; TMPDIR for what the environment names."""
    path: str
    problem: str
    """Why nothing can be written and locked there; empty where it can."""
    free: int
    """Bytes."""


def directories(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Try all of them; nothing stays there."""
    keys = ("runtime-directory", "state-directory", "cache-directory")
    own = [place(key, path) for key, path in zip(keys, lock_places(config), strict=True)]
    temporary = place("TMPDIR", environment.get("TMPDIR") or tempfile.gettempdir())
    yield from judge_places(own, temporary)
    yield from _caches(config)


def place(key: str, path: str) -> Place:
    """Write to a directory, and lock what was written: an unnamed file, if that can be had."""
    existing = path
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            problem = "" if locks.take(file.fileno()) else "it knows no locks"
        found = os.statvfs(existing)
    except OSError as error:
        return Place(key, path, error.strerror or str(error), 0)
    return Place(key, path, problem, found.f_bavail * found.f_frsize)


def judge_places(own: Sequence[Place], temporary: Place) -> Iterator[Finding]:
    """Judge them: a job's lock needs most of its places, and the rest is a matter of degree."""
    about = About(Check.DIRECTORIES)
    places = list({os.path.realpath(one.path): one for one in own}.values())
    usable = [one for one in places if not one.problem]
    if len(usable) <= len(places) - len(usable):
        named = ", ".join(f"{shown(one.path)} ({one.problem})" for one in places if one.problem)
        yield about.error(f"jobs cannot be locked against a second run: {named}", remedies.LOCKS)
    findings = [*(_of_own(one) for one in places), _of_temporary(temporary)]
    bad = [one for one in findings if one is not None]
    yield from bad
    if not bad:
        yield about.ok("writable, with room")


def _of_own(one: Place) -> Finding | None:
    about, remedy = About(Check.DIRECTORIES), remedies.DIRECTORY.format(key=one.key)
    if one.problem:
        lost = {
            "cache-directory": ": restic works without a cache, slowly",
            "state-directory": ": runs cannot be put on record",
        }
        text = f"{shown(one.path)} cannot be written to: {one.problem}"
        return about.warning(text + lost.get(one.key, ""), remedy)
    if one.free < SCARCE:
        text = f"{shown(one.path)} has {mebibytes(one.free)} left"
        return about.warning(text, remedies.FREE_DISK)
    return None


def _of_temporary(one: Place) -> Finding | None:
    about = About(Check.DIRECTORIES)
    if one.problem:
        text = f"{shown(one.path)}, restic's TMPDIR, cannot be written to: {one.problem}"
        return about.error(text, remedies.TEMPORARY)
    if one.free < SCARCE:
        text = f"{shown(one.path)}, restic's TMPDIR, has {mebibytes(one.free)} left"
        return about.warning(text, remedies.TEMPORARY)
    return None


def _caches(config: Config) -> Iterator[Finding]:
    for name, job in config.jobs.items():
        path, user = restic_cache(config, job), user_of(config, name) if job.run_as else None
        uid = os.geteuid() if user is None else user.uid
        if os.path.isdir(path) and os.stat(path).st_uid != uid:
            text = f"restic's cache {shown(path)} belongs to another user than job {name} runs as"
            remedy = remedies.CACHE_OWNER.format(path=shown(path))
            yield About(Check.DIRECTORIES).warning(text, remedy)


def mebibytes(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count >> 20:,} MiB"
