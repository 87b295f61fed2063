"""What a value must be beyond its type: pure checks of single keys, and between keys.

A rule yields complaints: what the value must be, and which value (of a list, the element) is
refused. restic's syntax is that of its versions 0.14 to 0.19.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from holdstill.config.durations import EXPECTED, seconds_in
from holdstill.config.model import (
    CHANNEL_KEYS,
    EVENTS,
    HIGHEST_DAYS,
    NAME_PATTERN,
    NESTED,
    PASSWORD_KEYS,
    SUBMOUNTS,
    UNIT_PATTERN,
    Config,
    Job,
    Notification,
    Repository,
)
from holdstill.config.problems import listing, suggestion
from holdstill.config.upkeep import (
    DURATION_PATTERN,
    GROUPINGS,
    HIGHEST_COUNT,
    MAX_UNUSED_PATTERN,
    READ_DATA_SUBSET_PATTERN,
    Check,
    Keep,
    Prune,
)
from holdstill.locations import HTTP_URL, SCHEMES, local_path
from holdstill.tuples import NamedTuple

LONGEST_NAME: Final = 100
COUNTS: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


class Complaint(NamedTuple):
    """What a value must be, the value that is not, where in a list it stands, and a hint."""

    must: str
    value: object
    position: int | None = None
    hint: str = ""


Rule = Callable[[Any], Iterator[Complaint]]


def name_complaint(name: str) -> str:
    """Say what is wrong with the name of a job or repository, which becomes a file name."""
    if not re.fullmatch(NAME_PATTERN, name):
        return "the name must start with a letter or digit and hold only letters, digits and ._@-"
    if len(name) > LONGEST_NAME:
        return f"the name must have at most {LONGEST_NAME} characters"
    return ""


def normalised(path: str) -> str:
    """Return an absolute path without `.`, doubled or trailing slashes; others as they are."""
    if not path.startswith("/") or ".." in path.split("/"):
        return path
    return "/" + posixpath.normpath(path).lstrip("/")


def _absolute(value: str) -> Iterator[Complaint]:
    if value and not value.startswith("/"):
        yield Complaint("must be an absolute path", value)


def _directory(value: str) -> Iterator[Complaint]:
    if not value.startswith("/"):
        yield Complaint("must be an absolute path", value)
    elif ".." in value.split("/"):
        yield Complaint("must be a path without `..`", value)


def _url(value: str) -> Iterator[Complaint]:
    if not value:
        yield Complaint("must name a repository, like sftp:backup@nas:/srv/restic", value)
        return
    path = local_path(value)
    if path is not None and not path.startswith("/"):
        known = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        word, colon, _ = value.partition(":")
        hint = suggestion(word, SCHEMES) if colon else ""
        yield Complaint(f"must be an absolute path or start with one of {known}", value, hint=hint)


def _credential(value: str) -> Iterator[Complaint]:
    if "/" in value or value in {".", ".."}:
        yield Complaint("must be the name of a systemd credential, not a path", value)


def _one_of(*allowed: str) -> Rule:
    def rule(value: str) -> Iterator[Complaint]:
        if value not in allowed:
            must = f"must be one of {', '.join(allowed)}"
            yield Complaint(must, value, hint=suggestion(value, allowed))

    return rule


def _one_line(value: str) -> Iterator[Complaint]:
    if not value.isprintable():
        yield Complaint("must be one line of printable text", value)


def _number(lowest: int, highest: int) -> Rule:
    def rule(value: int) -> Iterator[Complaint]:
        if not lowest <= value <= highest:
            yield Complaint(f"must be from {lowest} to {highest}", value)

    return rule


def _within(value: str) -> Iterator[Complaint]:
    if not re.fullmatch(DURATION_PATTERN, value):
        yield Complaint("must be years, months, days and hours, like 1y5m7d2h", value)
    elif value and not re.search("[1-9]", value):
        yield Complaint("must be longer than nothing", value)


def _duration(value: str) -> Iterator[Complaint]:
    if seconds_in(value) is None:
        yield Complaint(EXPECTED, value)


def _time_span(value: str) -> Iterator[Complaint]:
    if value and not seconds_in(value):
        yield Complaint(f"{EXPECTED}, and more than nothing", value)


def _max_unused(value: str) -> Iterator[Complaint]:
    if not re.fullmatch(MAX_UNUSED_PATTERN, value):
        yield Complaint("must be a size like 5G, a share below 100% like 5%, or unlimited", value)


def _read_data_subset(value: str) -> Iterator[Complaint]:
    if not re.fullmatch(READ_DATA_SUBSET_PATTERN, value):
        yield Complaint("must be a share like 5%, a size like 10G, or a part like 1/12", value)


def _schedule(value: str) -> Iterator[Complaint]:
    if not value.strip():
        yield Complaint("must be a systemd calendar expression, like Sat *-*-* 05:00:00", value)
    yield from _one_line(value)


def _units(values: tuple[str, ...]) -> Iterator[Complaint]:
    for position, value in enumerate(values):
        if not re.fullmatch(UNIT_PATTERN, value):
            yield Complaint("must be the name of a systemd unit, like x.service", value, position)


def _filled(values: tuple[str, ...]) -> Iterator[Complaint]:
    for position, value in enumerate(values):
        if not value:
            yield Complaint("must not be empty", value, position)


def _distinct(values: tuple[str, ...]) -> Iterator[Complaint]:
    for position, value in enumerate(values):
        if value in values[:position]:
            yield Complaint("must be listed once only", value, position)


def _tags(values: tuple[str, ...]) -> Iterator[Complaint]:
    for position, value in enumerate(values):
        if "," in value or not value.strip():
            yield Complaint("must be a tag that has no comma and is not empty", value, position)


def _some_of(*allowed: str) -> Rule:
    def rule(values: tuple[str, ...]) -> Iterator[Complaint]:
        for position, value in enumerate(values):
            for complaint in _one_of(*allowed)(value):
                yield complaint._replace(position=position)
        yield from _distinct(values)

    return rule


def _paths(values: tuple[str, ...]) -> Iterator[Complaint]:
    for position, value in enumerate(values):
        for complaint in _directory(value):
            yield complaint._replace(position=position)
    yield from _distinct(values)


def _sources(values: tuple[str, ...]) -> Iterator[Complaint]:
    if not values:
        yield Complaint('must list at least one path, like ["/srv/data"]', values)
    yield from _paths(values)


def _targets(values: tuple[str, ...]) -> Iterator[Complaint]:
    if not values:
        yield Complaint("must name at least one repository", values)
    yield from _distinct(values)


def _optional_directory(value: str) -> Iterator[Complaint]:
    if value:
        yield from _directory(value)


def _ping_url(value: str) -> Iterator[Complaint]:
    if value and not re.fullmatch(HTTP_URL, value):
        yield Complaint("must be a URL like https://hc-ping.com/your-uuid-here", value)


RULES: Final[Mapping[type, Mapping[str, Rule]]] = {
    Repository: {
        "url": _url,
        "password-file": _absolute,
        "password-credential": _credential,
        "environment-file": _absolute,
        "retry-lock": _duration,
    },
    Keep: {
        **dict.fromkeys(COUNTS, _number(0, HIGHEST_COUNT)),
        "within": _within,
        "group-by": _some_of(*GROUPINGS),
    },
    Prune: {"max-unused": _max_unused, "schedule": _one_line},
    Check: {"schedule": _schedule, "read-data-subset": _read_data_subset},
    Job: {
        "paths": _sources,
        "repositories": _targets,
        "tags": _tags,
        "exclude": _filled,
        "exclude-files": _paths,
        "exclude-if-present": _filled,
        "nested": _one_of(*NESTED),
        "submounts": _one_of(*SUBMOUNTS),
        "nested-exclude": _paths,
        "nested-include": _paths,
        "run-as": _one_line,
        "timeout": _time_span,
        "schedule": _one_line,
        "notify": _distinct,
        "randomized-delay": _duration,
        "on-failure": _units,
        "minimum-percent": _number(0, 100),
    },
    Notification: {
        "ping-url": _ping_url,
        "ping-url-file": _absolute,
        "command": _filled,
        "apprise-url-file": _absolute,
        "on": _some_of(*EVENTS),
    },
    Config: {
        "metrics-directory": _optional_directory,
        **dict.fromkeys(("state-directory", "runtime-directory", "cache-directory"), _directory),
        "history-days": _number(1, HIGHEST_DAYS),
    },
}


def contradictions(kind: type, table: Mapping[str, object]) -> Iterator[str]:
    """Check the keys of one table, as they stand in the file, against each other."""
    if kind is Notification:
        yield from _channel_contradictions(table)
    elif kind is Repository:
        yield from _password_contradictions(table)
    elif kind is Keep and not any(table.get(key) for key in (*COUNTS, "within")):
        yield f"must set at least one of {', '.join(COUNTS)} and within: it would keep nothing"
    elif kind is Job and "prune" in table and "keep" not in table:
        yield "has a prune table but no keep table: without retention there is nothing to prune"


def _password_contradictions(table: Mapping[str, object]) -> Iterator[str]:
    given = [key for key in PASSWORD_KEYS if table.get(key)]
    if len(given) > 1:
        yield f"must have only one of {' and '.join(given)}"
    if not given and not table.get("environment-file"):
        yield f"must have one of {', '.join(PASSWORD_KEYS)}, or an environment-file"


def _channel_contradictions(table: Mapping[str, object]) -> Iterator[str]:
    given = [key for key in CHANNEL_KEYS if table.get(key)]
    if len(given) != 1:
        found = f"it has {' and '.join(given)}" if given else "it has none"
        yield f"must have one of {', '.join(CHANNEL_KEYS)}: {found}"


def unknown_names(names: Collection[str], kind: str, known: Collection[str]) -> Iterator[Complaint]:
    """Check the tables of a kind that a job names against those that there are."""
    for position, name in enumerate(names):
        if name not in known:
            must = f"must be the name of a [{kind}.NAME] table"
            yield Complaint(must, name, position, suggestion(name, known) or listing(known))


_REACHES: Final = (
    "would also apply to the backups of job {}, which have the same paths and tags, or more of "
    "them: give this job a tag of its own"
)


def common_retentions(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each job whose retention would apply to another job's backups, and why.

    restic's filters mean "at least these paths and tags", or no tag at all.
    """
    for name, job in config.jobs.items():
        for other_name, other in config.jobs.items():
            if job.keep is not None and other is not job and _retention_reaches(job, other, config):
                yield name, _REACHES.format(other_name)


def _retention_reaches(job: Job, other: Job, config: Config) -> bool:
    tags = set(job.tags) <= set(other.tags) if job.tags else not other.tags
    return (
        tags
        and set(job.paths) <= set(other.paths)
        and not _urls(job, config).isdisjoint(_urls(other, config))
    )


def _urls(job: Job, config: Config) -> set[str]:
    return {config.repositories[name].url.rstrip("/") for name in job.repositories}
