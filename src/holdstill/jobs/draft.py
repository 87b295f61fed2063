"""A first configuration, with the comments that its owner will read: pure."""

from __future__ import annotations

import re

from msgspec.structs import replace

from holdstill.config.model import NAME_PATTERN, Config, Job, Repository
from holdstill.config.upkeep import Keep, Prune
from holdstill.config.write import Comments, commented_toml
from holdstill.locations import local_path, scheme_of, without_password
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from holdstill.config.origin import Origin
    from holdstill.jobs.proposal import ProposedJob

KEEP: Final = Keep(last=3, daily=14, weekly=8, monthly=12)
SCHEDULE: Final = "*-*-* 03:00:00"
_HEAD: Final = (
    "The configuration of holdstill. What else can be said: holdstill config schema",
    "After a change: holdstill config check",
)
_PASSWORD: Final = ("Keep a copy of this password elsewhere: without it no backup can be read.",)
_ENVIRONMENT: Final = ("Variables for restic, secrets among them.",)
_PATHS: Final = (
    "Frozen together, at one instant, with the subvolumes nested in them.",
    "What that is, and what is left out: holdstill plan",
)
_EXCLUDE: Final = ('exclude = ["*.tmp", "/home/*/.cache"]  # what restic leaves out',)
_SCHEDULE: Final = ("A calendar of systemd (man systemd.time).",)
_KEEP: Final = ("How many backups stay: the last ones, and one for each of so many days ...",)
_PRUNE: Final = ("Data that no backup uses any more are removed after each backup.",)
_NESTED: Final = ('The script\'s --one-file-system left these out; "include" freezes them, too.',)


class Draft(NamedTuple):
    """A configuration that has yet to be written."""

    config: Config
    comments: Comments

    @property
    def text(self) -> str:
        """The file, whose bytes are this text's with surrogateescape."""
        return commented_toml(self.config, self.comments)


def draft(
    jobs: Sequence[ProposedJob], repository: Repository, keep: Keep | None, schedule: str
) -> Draft:
    """Return the configuration of proposed jobs, all of which go to one repository."""
    name = repository_name(repository.url)
    made = {
        job.name: Job(
            paths=job.paths,
            repositories=(name,),
            tags=(job.name,),
            nested_exclude=job.nested_exclude,
            schedule=schedule,
            keep=keep,
            prune=None if keep is None else Prune(),
        )
        for job in jobs
    }
    config = Config(repositories={name: repository}, jobs=made)
    return Draft(config, _comments(config))


def draft_of_origin(origin: Origin, job: str, schedule: str) -> Draft:
    """Return the configuration that goes on where a script's environment file was."""
    name = repository_name(origin.repository.url)
    made = replace(origin.job, repositories=(name,), schedule=schedule)
    config = Config(repositories={name: origin.repository}, jobs={job: made})
    comments = _comments(config)
    comments["jobs", job, "nested"] = _NESTED
    comments.pop(("jobs", job, "exclude"))
    return Draft(config, comments)


def _comments(config: Config) -> Comments:
    comments: Comments = {(): _HEAD}
    for name, repository in config.repositories.items():
        if repository.password_file:
            comments["repositories", name, "password-file"] = _PASSWORD
        if repository.environment_file:
            comments["repositories", name, "environment-file"] = _ENVIRONMENT
    for name, job in config.jobs.items():
        comments["jobs", name, "paths"] = _PATHS
        comments["jobs", name, "exclude"] = _EXCLUDE
        if job.schedule:
            comments["jobs", name, "schedule"] = _SCHEDULE
        comments["jobs", name, "keep"] = _KEEP
        comments["jobs", name, "prune"] = _PRUNE
    return comments


def repository_name(url: str) -> str:
    """Return a short name for a repository: its host's, or what kind of place it is."""
    if local_path(url) is not None:
        return "disk"
    scheme = scheme_of(url)
    address = re.sub(f"^{scheme}:(?:[a-z]+:)?(?://)?", "", without_password(url))
    host = re.match(r"(?:[^/]*@)?([A-Za-z0-9.-]+)", address)
    if scheme not in {"sftp", "rest"} or host is None:
        return scheme
    is_number = re.fullmatch("[0-9.]+", host[1])
    name = host[1] if is_number else host[1].partition(".")[0]
    return name if re.fullmatch(NAME_PATTERN, name) else scheme
