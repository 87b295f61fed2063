"""From a job and what was observed to what will happen: the plan that is printed and executed."""

from __future__ import annotations

import os
import socket

from holdstill.config.durations import seconds_in
from holdstill.config.problems import key_text
from holdstill.errors import ConfigurationError, shown
from holdstill.freeze import plan as plan_freeze
from holdstill.linux import users
from holdstill.linux.mountinfo import is_within
from holdstill.locations import local_path
from holdstill.restic import binary as restic_binary
from holdstill.restic.commands import Backup, Command, Retention, Target, backup, exclude_pattern
from holdstill.restic.commands import forget as forget_command
from holdstill.scope import SYSTEM, Hidden, Submounts, Wishes, unmatched
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from holdstill.config.model import Config, Job, Repository
    from holdstill.linux.signals import Signals
    from holdstill.linux.users import User
    from holdstill.restic.binary import Binary, Found
    from holdstill.scope import FreezePlan

_STAYS_LIVE = "restic writes there: its cache, TMPDIR or a repository"
_MOVE = "put it elsewhere to have the rest of it backed up"
_TO_REACH_OTHERS = {
    "/etc/resolv.conf": "name resolution",
    "/etc/ssl/certs": "certificates",
    "/var/lib/ca-certificates": "certificates",  # openSUSE, whose /var is a mount of its own
}
"""What the network needs, beside the home directory, which has the keys."""
_WATCHED_PER_SECOND = 5.0
_UNWATCHED_PER_SECOND = 1 / 60


class RepositoryPlan(NamedTuple):
    """What happens in one repository."""

    target: Target
    backup: Backup
    retention: Retention | None

    def frozen_at(self, instant: datetime) -> RepositoryPlan:
        """Return the same for snapshots that exist."""
        return self._replace(backup=self.backup._replace(frozen_at=instant))


class Live(NamedTuple):
    """A place that stays as it is in the view, writable."""

    path: str
    what: str
    """Who needs it there."""


class JobPlan(NamedTuple):
    """What a run of a job will do."""

    job: str
    freeze: FreezePlan
    needs: tuple[Live, ...]
    """What restic cannot work without: it stays as it is in the view, and out of the backup."""
    kept_out: tuple[str, ...]
    """Patterns for all that the view shows below the paths and that is not frozen."""
    repositories: tuple[RepositoryPlan, ...]
    binary: Binary
    environment: Mapping[str, str]
    user: User | None = None
    """Who restic runs as; None: root."""

    @property
    def live(self) -> tuple[str, ...]:
        """Where that is."""
        return tuple(one.path for one in self.needs)

    @property
    def handed_in(self) -> tuple[Live, ...]:
        """What is live in the view although a snapshot covers the place that it lies in."""
        outside, needed = set(self.freeze.outside), set(self.live)
        beside = (
            Live(hidden.path, hidden.reason)
            for hidden in self.freeze.hidden
            if hidden.path in outside - needed
        )
        return tuple(one for one in (*self.needs, *beside) if self.freeze.covers(one.path))

    @property
    def left_out(self) -> tuple[Hidden, ...]:
        """What lies below the job's paths and is not in the backup."""
        named = {hidden.path for hidden in self.freeze.left_out}
        ours = (
            Hidden(path, _STAYS_LIVE, _MOVE)
            for path in self.live
            if self.freeze.contains(path) and path not in named
        )
        return (*self.freeze.left_out, *ours)

    def commands(self) -> tuple[Command, ...]:
        """Return the restic processes that a run starts if all goes well: none waits for a lock."""
        plans = [p._replace(target=p.target._replace(lock_wait=0)) for p in self.repositories]
        backups = [backup(self.binary, p.target, p.backup, self.environment) for p in plans]
        retentions = [
            forget_command(self.binary, p.target, p.retention, self.environment)
            for p in plans
            if p.retention is not None
        ]
        return (*backups, *retentions)


def plan_job(
    config: Config,
    name: str,
    environment: Mapping[str, str],
    *,
    watched: bool = False,
    signals: Signals | None = None,
) -> tuple[JobPlan, tuple[str, ...]]:
    """Observe a job's sources and decide what a run does; also return what is to be warned of.

    Raises SourceError, ProgramError, ConfigurationError, NotPermittedError; StoppedError if one of
    the `signals` came before restic had said its version.
    """
    job = config.jobs[name]
    user = user_of(config, name)
    environment = environment_of(user, environment)
    decided = plan_freeze(job.paths, _wishes(job))
    found = find_restic(config, environment, signals)
    targets = [target_of(config, name, repository) for repository in job.repositories]
    _refuse_unreadable(targets)
    written = _written(config, job, targets, environment)
    needs = _needs(decided, written, _read(job, targets, found.binary, environment))
    per_second = _WATCHED_PER_SECOND if watched else _UNWATCHED_PER_SECOND
    kept_out = _kept_out(decided, needs)
    request = _backup_request(job, decided, kept_out)._replace(progress_per_second=per_second)
    plans = tuple(
        RepositoryPlan(target, request, _retention(job, request.paths)) for target in targets
    )
    plan = JobPlan(name, decided, needs, kept_out, plans, found.binary, environment, user)
    return plan, (*unmatched(decided), *found.warnings)


def _wishes(job: Job) -> Wishes:
    return Wishes(
        submounts=Submounts(job.submounts),
        nested=job.nested == "include",
        leave_out=job.nested_exclude,
        include=job.nested_include,
    )


def target_of(config: Config, job: str, name: str) -> Target:
    """Return how restic reaches a repository of a job."""
    repository = config.repositories[name]
    only = len(config.jobs[job].repositories) == 1
    return Target(
        name=name,
        url=repository.url,
        reach=f"holdstill restic {job}" + ("" if only else f" --repository {name}"),
        cache_directory=restic_cache(config, config.jobs[job]),
        password_file=_password_file(name, repository),
        password_command=repository.password_command or None,
        lock_wait=seconds_in(repository.retry_lock) or 0,
        environment=_environment_of(repository),
    )


def user_of(config: Config, name: str) -> User | None:
    """Return who restic runs as in a job; raises ConfigurationError for somebody unknown."""
    wanted = config.jobs[name].run_as
    if not wanted:
        return None
    user = users.find(wanted)
    if user is None:
        message = f"{key_text(('jobs', name, 'run-as'))}: there is no user {shown(wanted)}"
        raise ConfigurationError(message, remedy="create it, as with: useradd --system NAME")
    return user


def environment_of(user: User | None, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment that a user's restic starts from: without what is root's own."""
    if user is None:
        return environment
    shared = {k: v for k, v in environment.items() if k[:4] != "XDG_" and k != "SSH_AUTH_SOCK"}
    return {**shared, "HOME": user.home, "USER": user.name, "LOGNAME": user.name}


def find_restic(
    config: Config, environment: Mapping[str, str], signals: Signals | None = None
) -> Found:
    """Find the restic in PATH, whose version is remembered; raises ProgramError, StoppedError."""
    memory = os.path.join(config.cache_directory, "restic-versions.json")
    return restic_binary.find(environment, memory, signals)


def restic_cache(config: Config, job: Job) -> str:
    """Return where restic's cache lies: each user has one, which nobody else writes to."""
    return os.path.join(config.cache_directory, f"restic-{job.run_as}" if job.run_as else "restic")


def _password_file(name: str, repository: Repository) -> str | None:
    if not repository.password_credential:
        return repository.password_file or None
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        key = f"repositories.{name}.password-credential"
        message = f"{key}: systemd has given this process no credentials"
        raise ConfigurationError(message, remedy="run it from a unit with LoadCredential=")
    return os.path.join(directory, repository.password_credential)


def _refuse_unreadable(targets: Sequence[Target]) -> None:
    """Raise ConfigurationError if no repository's password can be read: nothing could be done."""
    problems = [_unreadable(target.password_file) for target in targets]
    if all(problems):
        message = f"the password file cannot be read: {'; '.join(problems)}"
        raise ConfigurationError(message, remedy="see the repository's password-file")


def _unreadable(path: str | None) -> str:
    try:
        if path is not None:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return f"{shown(str(path))}: {error.strerror}"
    return ""


def _environment_of(repository: Repository) -> dict[str, str]:
    path = repository.environment_file
    if not path:
        return {}
    if os.path.exists(path) and not os.path.isfile(path):
        message = f"environment-file {shown(path)} is not a regular file"
        raise ConfigurationError(message)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        message = f"environment-file {shown(path)} cannot be read: {error.strerror}"
        raise ConfigurationError(message) from error
    from holdstill.config.environment_file import parse  # imported where there is such a file

    return parse(content, path)


def _written(
    config: Config, job: Job, targets: Sequence[Target], environment: Mapping[str, str]
) -> Iterator[Live]:
    """Yield what restic writes to and must find as it is; a run makes the cache, if it can."""
    yield Live(os.path.realpath(restic_cache(config, job)), "restic's cache")
    temporary = {
        # As restic looks for it; the repository's environment file has the last word.
        target.environment.get("TMPDIR") or environment.get("TMPDIR") or "/tmp"  # noqa: S108
        for target in targets
    }
    repositories = [(local_path(config.repositories[n].url), n) for n in job.repositories]
    wanted = [(path, f"the repository {name}") for path, name in repositories]
    for path, what in [*((path, "TMPDIR") for path in sorted(temporary)), *wanted]:
        if path and os.path.exists(path):
            yield Live(os.path.realpath(path), what)


def _read(
    job: Job, targets: Sequence[Target], binary: Binary, environment: Mapping[str, str]
) -> Iterator[Live]:
    """Yield what restic reads: frozen is as good as live, but it has to be in the view."""
    found = [(binary.path, "restic"), *((path, "exclude-files") for path in job.exclude_files)]
    for target in targets:
        own = (target.password_file or "", *(target.password_command or "").split())
        found += [(path, f"the password of {target.name}") for path in own]
        named = target.environment.values()
        found += [(path, f"the environment of {target.name}") for path in named]
    if any(local_path(target.url) is None or target.password_command for target in targets):
        home = environment.get("HOME") or os.path.expanduser("~")  # units may have none
        found += [(home, "HOME"), *_TO_REACH_OTHERS.items()]
    for path, what in found:
        if os.path.isabs(path):
            # A symlink has to be there, and what it leads to.
            yield from (Live(one, what) for one in dict.fromkeys((path, os.path.realpath(path))))


def _needs(decided: FreezePlan, written: Iterable[Live], read: Iterable[Live]) -> tuple[Live, ...]:
    """Return what has to be live, each place once."""
    whats: dict[str, list[str]] = {path: [SYSTEM] for path in decided.system_directories}
    for one in written:
        whats.setdefault(_hidden_around(one.path, decided) or one.path, []).append(one.what)
    known = set(whats)
    for one in read:
        place = _hidden_around(one.path, decided)
        if place and place not in known:
            whats.setdefault(place, []).append(one.what)
    return tuple(Live(path, ", ".join(dict.fromkeys(what))) for path, what in whats.items())


def _hidden_around(path: str, decided: FreezePlan) -> str:
    """Return the place that a path lies in and the view does not show; empty if there is none.

    All of it is handed into the view for the path. Where a nested subvolume or another mount was,
    the snapshot has an empty directory, in which there is nothing to mount the path itself on.
    """
    return next((one.path for one in decided.hidden if is_within(path, one.path)), "")


def _kept_out(decided: FreezePlan, needs: Sequence[Live]) -> tuple[str, ...]:
    stubs = (hidden.path for hidden in decided.stubs)
    ours = dict.fromkeys((*(one.path for one in needs), *decided.staging, *stubs))
    return tuple(exclude_pattern(path) for path in ours if decided.contains(path))


def _backup_request(job: Job, decided: FreezePlan, kept_out: tuple[str, ...]) -> Backup:
    return Backup(
        paths=decided.paths,
        host=socket.gethostname(),
        frozen_at=None,
        tags=job.tags,
        exclude=(*job.exclude, *kept_out),
        exclude_files=job.exclude_files,
        exclude_if_present=job.exclude_if_present,
    )


def _retention(job: Job, paths: tuple[str, ...]) -> Retention | None:
    keep, prune = job.keep, job.prune
    if keep is None:
        return None
    return Retention(
        paths=paths,
        host=socket.gethostname(),
        tags=job.tags,
        group_by=keep.group_by,
        keep_last=keep.last,
        keep_hourly=keep.hourly,
        keep_daily=keep.daily,
        keep_weekly=keep.weekly,
        keep_monthly=keep.monthly,
        keep_yearly=keep.yearly,
        keep_within=keep.within,
        prune=prune is not None and not prune.schedule,
        max_unused=prune.max_unused if prune is not None else "",
    )
