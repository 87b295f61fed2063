"""restic's command lines and environments: no secret and no repository stands in an argument."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType

from holdstill.errors import shown
from holdstill.locations import MASK, without_password
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdstill.restic.binary import Binary

_HARDLINKS = "device-id-for-hardlinks"
# Alternatives to what a target names: restic refuses some of them together with ours.
_OVERRIDDEN = ("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE", "RESTIC_CACHE_DIR")
_PASSWORDS = ("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND")
_INHERITED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLUMNS", "TMPDIR", "TZ"),
        *("LANG", "LANGUAGE", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "CREDENTIALS_DIRECTORY"),
        *("GOMAXPROCS", "GOMEMLIMIT", "GOGC"),
    )
)
"""Everything else that restic is to know has to stand in the repository's environment file."""
_SHOWN = (
    "TZ",
    "RESTIC_REPOSITORY",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD_COMMAND",
    "RESTIC_CACHE_DIR",
    "RESTIC_FEATURES",
)


class Target(NamedTuple):
    """A repository, and how restic gets at it."""

    name: str
    url: str
    reach: str
    """How a user runs restic on it, `holdstill restic JOB`: what remedies begin with."""
    cache_directory: str | None
    """None: no cache, which is slow."""
    password_file: str | None = None
    password_command: str | None = None
    lock_wait: int = 0
    """Seconds to wait for another restic's lock, where this restic can (0.16)."""
    environment: Mapping[str, str] = MappingProxyType({})
    """What the repository's environment file says."""


class Backup(NamedTuple):
    """What one snapshot is made of."""

    paths: tuple[str, ...]
    """Absolute and without `..` or a trailing slash, as restic will record them."""
    host: str
    frozen_at: datetime | None
    """The instant that the snapshot carries, with its time zone; None before the freeze."""
    tags: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_files: tuple[str, ...] = ()
    exclude_if_present: tuple[str, ...] = ()
    progress_per_second: float = 0.1
    """How often restic reports where it is; each report costs time here."""


class Retention(NamedTuple):
    """Which of a job's own snapshots stay.

    restic matches snapshots that have at least these paths and tags: what else they have, it does
    not ask. Jobs that share a repository and a host are told apart only by a tag of their own.
    """

    paths: tuple[str, ...]
    host: str
    tags: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ("host", "paths")
    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: str = ""
    prune: bool = False
    max_unused: str = ""

    def policy(self) -> tuple[str, ...]:
        """Return the arguments that say what is kept."""
        rules = {
            "last": self.keep_last,
            "hourly": self.keep_hourly,
            "daily": self.keep_daily,
            "weekly": self.keep_weekly,
            "monthly": self.keep_monthly,
            "yearly": self.keep_yearly,
            "within": self.keep_within,
        }
        return tuple(
            word
            for unit, value in rules.items()
            if value
            for word in (f"--keep-{unit}", str(value))
        )


class Command(NamedTuple):
    """A restic process that can be printed as well as started."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def shown(self) -> str:
        """Return a line for a shell, with the variables that matter and without any password."""
        return " ".join(self.words())

    def words(self) -> list[str]:
        """Return the same, word by word, each quoted."""
        variables = [f"{name}={self._value(name)}" for name in _SHOWN if name in self.environment]
        return variables + [shown(word) if word else "''" for word in self.argv]

    def _value(self, name: str) -> str:
        if name == "RESTIC_PASSWORD_COMMAND":
            return MASK
        value = self.environment[name]
        return shown(without_password(value) if name == "RESTIC_REPOSITORY" else value)


def backup(
    binary: Binary, target: Target, request: Backup, environment: Mapping[str, str]
) -> Command:
    """Return the command that makes one snapshot; `environment` is the caller's."""
    environ = environment_of(binary, target, environment)
    environ["RESTIC_PROGRESS_FPS"] = f"{request.progress_per_second:g}"
    argv = [binary.path, "backup", "--json", *_options(binary, target)]
    argv += ["--host", _host(target, request.host)]
    if request.frozen_at is not None:
        text, zone = time_argument(request.frozen_at, environ)
        argv += ["--time", text]
        environ |= zone
    argv += _each("--tag", request.tags)
    argv += _each("--exclude", request.exclude)
    argv += _each("--exclude-file", request.exclude_files)
    argv += _each("--exclude-if-present", request.exclude_if_present)
    return Command((*argv, "--", *request.paths), environ)


def forget(
    binary: Binary, target: Target, retention: Retention, environment: Mapping[str, str]
) -> Command:
    """Return the command that applies a retention; `environment` is the caller's.

    Raises ValueError for an empty policy, which restic 0.14 takes for a success and others for an
    error.
    """
    if not retention.policy():
        raise ValueError("a retention has to keep something")
    argv = [binary.path, "forget", "--json", *_options(binary, target)]
    argv += ["--host", _host(target, retention.host)]
    # An empty tag is how restic spells "snapshots that have none".
    argv += ["--tag", ",".join(retention.tags)]
    argv += _each("--path", [recorded_path(path) for path in retention.paths])
    argv += ["--group-by", ",".join(retention.group_by), *retention.policy()]
    if retention.prune:
        argv += ["--prune", *(["--max-unused", retention.max_unused] * bool(retention.max_unused))]
    return Command(tuple(argv), environment_of(binary, target, environment))


def passthrough(
    binary: Binary, target: Target, arguments: Sequence[str], environment: Mapping[str, str]
) -> Command:
    """Return a command of the user's own on this repository."""
    argv = (binary.path, *_options(binary, target), *arguments)
    return Command(argv, environment_of(binary, target, environment))


def environment_of(
    binary: Binary, target: Target, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return what restic starts with: of the caller's what is of use, the repository's, ours."""
    own = {"RESTIC_REPOSITORY": target.url}
    if target.cache_directory is not None:
        own["RESTIC_CACHE_DIR"] = target.cache_directory
    if target.password_file is not None:
        own["RESTIC_PASSWORD_FILE"] = target.password_file
    if target.password_command is not None:
        own["RESTIC_PASSWORD_COMMAND"] = target.password_command
    if binary.version.device_id_for_hardlinks:
        own["RESTIC_FEATURES"] = _features(target.environment.get("RESTIC_FEATURES", ""))
    replaced = {*_OVERRIDDEN, *(_PASSWORDS if any(name in own for name in _PASSWORDS) else ())}
    inherited = {
        name: value
        for name, value in environment.items()
        if name in _INHERITED or re.fullmatch("LC_[A-Z]+", name)
    }
    given = {name: value for name, value in target.environment.items() if name not in replaced}
    return inherited | given | own


def exclude_pattern(path: str) -> str:
    r"""Return a pattern for `--exclude` that matches exactly this path (Go's filepath.Match).

    A backslash takes the meaning from the next character; a leading `!` would turn it around.
    """
    escaped = "".join(f"\\{c}" if c in "\\*?[" else c for c in path)
    return f"\\{escaped}" if escaped.startswith("!") else escaped


def exclude_line(pattern: str) -> str:
    """Return a pattern as a line of an exclude file, where `$` and space around have a meaning.

    No line can hold a newline: `?` stands for it.
    """
    line = pattern.replace("$", "$$").replace("\n", "?")
    return line if line == line.rstrip() else f"{line[:-1]}[{line[-1]}]"


def recorded_path(path: str) -> str:
    """Return a path as a snapshot's JSON records it: U+FFFD for each byte that is not UTF-8."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    text = "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in text)
    return os.fsdecode(text.encode())


def time_argument(
    frozen_at: datetime, environment: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Return what `--time` takes, and what restic's environment needs for it to mean that.

    restic reads the text in its own time zone, records that zone, and counts days by it in
    `forget`: so it is the machine's wherever the text says one instant only. Where it would not
    (the hour that comes twice, a TZ that Go may read differently), that process runs in UTC.
    Fractions of a second are read by every version from 0.14 on.
    """
    zone, known = _zone(environment.get("TZ"))
    local = frozen_at.astimezone(zone)
    if not known or _comes_twice(local, zone):
        return _stamp(frozen_at.astimezone(UTC)), {"TZ": "UTC"}
    return _stamp(local), {}


def _stamp(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def _zone(name: str | None) -> tuple[tzinfo | None, bool]:
    """Return the zone that restic will use (None: the machine's), and whether that is certain."""
    if name is None:
        return None, True
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name), True
    except (ValueError, OSError, LookupError):
        return UTC, False


def _comes_twice(local: datetime, zone: tzinfo | None) -> bool:
    clock = local.replace(tzinfo=zone)
    first, second = (clock.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return first != second


def _features(configured: str) -> str:
    """Add ours to what the repository's environment file asks for, unless it has a say on it."""
    if _HARDLINKS in configured:
        return configured
    return f"{configured},{_HARDLINKS}".lstrip(",")


def _host(target: Target, host: str) -> str:
    """Return the host that snapshots carry: backup and forget have to agree, on every version."""
    return target.environment.get("RESTIC_HOST") or host


def _options(binary: Binary, target: Target) -> list[str]:
    """Return the options that every command takes."""
    found = ["--no-cache"] if target.cache_directory is None else []
    if target.lock_wait and binary.version.retry_lock:
        found += ["--retry-lock", f"{target.lock_wait}s"]
    return found


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
