"""Reads the environment file of a shell script that backs up with restic, as the script would.

The script is one of snapshot, mount and `restic backup --one-file-system --tag systemd.timer
$BACKUP_EXCLUDES $BACKUP_PATHS`, then `restic forget --prune --max-unused 5G --group-by paths,tags`
with four numbers of RETENTION_. What of its file has no equal here is an error, never dropped.
"""

from __future__ import annotations

import re
import shlex

from msgspec.structs import replace

from holdstill.config.environment_file import Assignment, assignments
from holdstill.config.model import Job, Repository
from holdstill.config.rules import normalised
from holdstill.config.upkeep import HIGHEST_COUNT, Keep, Prune
from holdstill.errors import ConfigurationError, shown
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

TAGS: Final = ("systemd.timer",)
MAX_UNUSED: Final = "5G"
_RETENTION: Final = {
    "RETENTION_DAYS": "daily",
    "RETENTION_WEEKS": "weekly",
    "RETENTION_MONTHS": "monthly",
    "RETENTION_YEARS": "yearly",
}
_NEEDED: Final = ("BACKUP_PATHS", *_RETENTION)
_TRANSLATED: Final = {
    "RESTIC_REPOSITORY",
    "RESTIC_REPOSITORY_FILE",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD_COMMAND",
    "BACKUP_EXCLUDES",
    *_NEEDED,
}
_OPTIONS: Final = {
    "--exclude": "exclude",
    "-e": "exclude",
    "--iexclude": "iexclude",
    "--exclude-file": "exclude_files",
    "--exclude-if-present": "exclude_if_present",
}
_CACHES: Final = "CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55"
"""What restic's --exclude-caches looks for (restic's cmd/restic/exclude.go)."""
_NO_EFFECT: Final = {"--one-file-system", "-x"}
"""The script says this itself."""
_FOREVER: Final = {"-1", "unlimited"}


class Origin(NamedTuple):
    """What the file says, in holdstill's words."""

    job: Job
    """It names no repository yet."""
    repository: Repository
    """Its url is empty where the file has none."""
    repository_file: str
    """A file that holds the url instead; empty where there is none."""
    warnings: tuple[str, ...]


def read(content: bytes | str, source: str, path: str) -> Origin:
    """Return what `content` says, the text of the file at `path` that errors call `source`.

    Raises ConfigurationError: all problems, each with its line.
    """
    return _Reading(content, source).origin(path)


class _Reading:
    """One pass over a file: what was wrong and what is doubtful so far."""

    def __init__(self, content: bytes | str, source: str) -> None:
        self._source = source
        self._found = {one.name: one for one in assignments(content, source)}
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def origin(self, path: str) -> Origin:
        values = {name: one.value for name, one in self._found.items()}
        self._refuse_swallowed()
        self._check_names()
        job = self._job()
        if values.get("RESTIC_REPOSITORY") and values.get("RESTIC_REPOSITORY_FILE"):
            self._refuse("RESTIC_REPOSITORY_FILE", "RESTIC_REPOSITORY is there, too")
        self._raise_problems()
        return Origin(
            job,
            _repository(values, path),
            values.get("RESTIC_REPOSITORY_FILE", ""),
            tuple(self._warnings),
        )

    def _raise_problems(self) -> None:
        if self._problems:
            raise ConfigurationError(
                "\n  ".join(self._problems),
                remedy=f"correct {shown(self._source)}; nothing has been written",
            )

    def _refuse_swallowed(self) -> None:
        """Raise before a value is shown that may have a password in it."""
        for one in self._found.values():
            if re.search(r"\n[ \t]*[A-Za-z_]+[ \t]*=", one.value):
                self._refuse(one.name, "its quote ends in a later assignment: it was not closed")
        self._raise_problems()

    def _check_names(self) -> None:
        for name in _NEEDED:
            if not self._found.get(name, Assignment(name, "", 0)).value:
                self._problems.append(f"{shown(self._source)}: {name} is missing")
        for name in self._found:
            if name.startswith(("BACKUP_", "RETENTION_")) and name not in _TRANSLATED:
                self._refuse(name, "the script knows no such variable")

    def _job(self) -> Job:
        excludes = self._excludes()
        return Job(
            paths=tuple(map(normalised, self._paths())),
            repositories=(),
            tags=TAGS,
            exclude=tuple(excludes["exclude"]),
            exclude_files=tuple(map(normalised, excludes["exclude_files"])),
            exclude_if_present=tuple(excludes["exclude_if_present"]),
            nested="skip",
            keep=replace(Keep(), **dict(self._retention())),
            prune=Prune(max_unused=MAX_UNUSED),
        )

    def _paths(self) -> Iterator[str]:
        for word in self._words("BACKUP_PATHS"):
            if word.startswith("-"):
                self._refuse("BACKUP_PATHS", f"{shown(word)} is no path")
            elif re.search(r"[*?\[]", word):
                self._refuse("BACKUP_PATHS", f"{shown(word)} is a pattern: name the paths")
            else:
                yield word

    def _retention(self) -> Iterator[tuple[str, int]]:
        for name, unit in _RETENTION.items():
            text = self._found[name].value if name in self._found else "0"
            if text in _FOREVER:
                yield unit, HIGHEST_COUNT
            elif re.fullmatch("[0-9]{1,9}", text):
                yield unit, int(text)
            elif text:
                self._refuse(name, f"{shown(text)} is no number of backups to keep")

    def _excludes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"exclude": [], "exclude_files": [], "exclude_if_present": []}
        words = iter(self._words("BACKUP_EXCLUDES"))
        for word in words:
            option, value = _option(word)
            if option == "--exclude-caches" and value is None:
                found["exclude_if_present"].append(_CACHES)
            elif option in _OPTIONS:
                value = next(words, None) if value is None else value
                self._exclude(found, option, value)
            elif option not in _NO_EFFECT:
                self._refuse("BACKUP_EXCLUDES", f"{shown(word)} cannot be translated")
        return {key: list(dict.fromkeys(values)) for key, values in found.items()}

    def _exclude(self, found: dict[str, list[str]], option: str, value: str | None) -> None:
        kind = _OPTIONS[option]
        if value is None:
            self._refuse("BACKUP_EXCLUDES", f"{option} is the last word: its value is missing")
        elif kind != "iexclude":
            found[kind].append(value)
        elif (pattern := in_any_case(value)) is None:
            self._refuse("BACKUP_EXCLUDES", f"{option} {shown(value)} cannot be translated")
        else:
            found["exclude"].append(pattern)

    def _words(self, name: str) -> list[str]:
        """Split a value; quotes in it mean what they were meant to, not what they did."""
        value = self._found[name].value if name in self._found else ""
        try:
            words = shlex.split(value)
        except ValueError:
            self._refuse(name, "a quote in its value is never closed")
            return []
        if words != value.split():
            self._warnings.append(
                f"{name}: the script's shell takes quotes and backslashes in it for parts of the "
                f"words; here they quote: {', '.join(map(shown, words))}"
            )
        return words

    def _refuse(self, name: str, reason: str) -> None:
        line = self._found[name].line
        self._problems.append(f"{shown(self._source)}:{line}: {name}: {reason}")


def _option(word: str) -> tuple[str, str | None]:
    """Take `--option=value`, `-evalue` and `-e=value` apart; the value may be the next word."""
    if word.startswith("-e"):
        return "-e", word[2:].removeprefix("=") or None
    option, equals, value = word.partition("=")
    return option, value if equals else None


def in_any_case(pattern: str) -> str | None:
    """Return a pattern for --exclude that matches what --iexclude would; None where none does."""
    if re.search(r"[\[\\]", pattern) or pattern.startswith("!"):
        return None
    pairs = [(c.lower(), c.upper()) for c in pattern]
    if any(len(lower) != 1 or len(upper) != 1 for lower, upper in pairs):
        return None
    return "".join(low if low == up else f"[{low}{up}]" for low, up in pairs)


def _repository(values: Mapping[str, str], path: str) -> Repository:
    """Refer to secrets where they are: in their own files, or in this one, which stays."""
    others = values.keys() - _TRANSLATED
    return Repository(
        url=values.get("RESTIC_REPOSITORY", ""),
        password_file=values.get("RESTIC_PASSWORD_FILE", ""),
        password_command=values.get("RESTIC_PASSWORD_COMMAND", ""),
        environment_file=path if others else "",
    )
