"""What a configuration holds: one frozen struct per table, each key with its description.

The descriptions and examples serve the error texts, the JSON Schema and the reader alike.
"""

# No annotations as texts, from __future__: msgspec would have to compile each of them.
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from holdstill.config import durations
from holdstill.config.upkeep import Check, Keep, Prune
from holdstill.locations import SCHEMES

NESTED: Final = ("include", "skip")
SUBMOUNTS: Final = ("leave-out", "include", "require")
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"
CHANNEL_KEYS: Final = ("ping-url", "ping-url-file", "command", "apprise-url-file")
EVENTS: Final = ("started", "ok", "warned", "partial", "failed", "interrupted", "skipped")
HIGHEST_DAYS: Final = 36_500
UNIT_PATTERN: Final = (
    r"^[A-Za-z0-9:_.@%\\-]{1,200}\.(service|target|path|socket|timer|mount|automount)$"
)
PASSWORD_KEYS: Final = ("password-file", "password-command", "password-credential")

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Strings = tuple[Annotated[str, Meta(min_length=1)], ...]
Paths = tuple[Annotated[str, Meta(pattern="^/")], ...]


class Repository(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """A restic repository and where its password comes from."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            description="What restic's --repo takes: an absolute path, or "
            + ", ".join(f"{scheme}:" for scheme in SCHEMES),
            examples=["sftp:backup@nas:/srv/restic"],
        ),
    ]
    password_file: Annotated[
        str,
        Meta(
            description="A file that holds the repository's password (an absolute path).",
            examples=["/etc/holdstill/nas.password"],
        ),
    ] = ""
    password_command: Annotated[
        str,
        Meta(
            description="A command that prints the repository's password.",
            examples=["pass show backup/nas"],
        ),
    ] = ""
    password_credential: Annotated[
        str,
        Meta(
            description="The name of a systemd credential that holds the repository's password.",
            examples=["nas-password"],
        ),
    ] = ""
    environment_file: Annotated[
        str,
        Meta(
            description="A file of environment variables for restic, written as for systemd's "
            "EnvironmentFile= (an absolute path).",
            examples=["/etc/holdstill/nas.env"],
        ),
    ] = ""
    retry_lock: Annotated[
        str,
        Meta(
            pattern=f"^{durations.PATTERN}$",
            description="Wait this long for another restic's lock on the repository, 0s not at "
            "all. Needs restic 0.16.",
            examples=["1h"],
        ),
    ] = "5m"


class Notification(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """Somebody who is told how runs go: one of a ping, a command, and Apprise."""

    ping_url: Annotated[
        str,
        Meta(
            pattern="^(https?://.*)?$",
            description="What is asked over HTTP, as healthchecks.io has it: with /start behind it "
            "when a run starts, as it is when it ends well, with /fail behind it when it does not. "
            "Who knows it can ping: ping-url-file keeps it out of this file.",
            examples=["https://hc-ping.com/your-uuid-here"],
        ),
    ] = ""
    ping_url_file: Annotated[
        str,
        Meta(
            description="A file that holds such a URL (an absolute path).",
            examples=["/etc/holdstill/ping.url"],
        ),
    ] = ""
    command: Annotated[
        Strings,
        Meta(
            description="A program and its arguments, which gets the run's record as JSON on "
            "standard input, and HOLDSTILL_JOB, HOLDSTILL_RUN_ID and HOLDSTILL_OUTCOME in its "
            "environment.",
            examples=[["/usr/local/bin/tell-me"]],
        ),
    ] = ()
    apprise_url_file: Annotated[
        str,
        Meta(
            description="A file of Apprise URLs, one on each line (an absolute path). Needs "
            "holdstill[apprise].",
            examples=["/etc/holdstill/apprise.urls"],
        ),
    ] = ""
    on: Annotated[
        tuple[Annotated[str, Meta(extra_json_schema={"enum": list(EVENTS)})], ...],
        Meta(
            description="Of what: `started`, an outcome (`ok`, `partial`, `failed`, `interrupted`, "
            "`skipped`), or `warned`, whatever the outcome. Default for a ping: all but `skipped`; "
            "else `warned`, `partial`, `failed` and `interrupted`.",
            examples=[["failed"]],
        ),
    ] = ()

    @property
    def events(self) -> frozenset[str]:
        """What it is told of."""
        if self.on:
            return frozenset(self.on)
        is_ping = self.ping_url or self.ping_url_file
        unwanted = ("skipped",) if is_ping else ("skipped", "started", "ok")
        return frozenset(EVENTS).difference(unwanted)


class Job(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What is frozen and backed up together, to where, and when."""

    paths: Annotated[
        Paths,
        Meta(
            min_length=1,
            description="What is backed up: absolute paths.",
            examples=[["/srv/data"]],
        ),
    ]
    repositories: Annotated[
        Strings,
        Meta(
            min_length=1,
            description="Names of the repositories that the backup is written to, in turn.",
            examples=[["nas"]],
        ),
    ]
    tags: Annotated[
        Strings,
        Meta(description="Tags of the backups (no commas).", examples=[["nightly"]]),
    ] = ()
    exclude: Annotated[
        Strings,
        Meta(description="Patterns of what is left out (restic's --exclude).", examples=[["*.o"]]),
    ] = ()
    exclude_files: Annotated[
        Paths,
        Meta(
            description="Files of such patterns, at their original paths (absolute).",
            examples=[["/etc/holdstill/excludes"]],
        ),
    ] = ()
    exclude_if_present: Annotated[
        Strings,
        Meta(
            description="Leave out directories that contain one of these file names.",
            examples=[[".resticignore"]],
        ),
    ] = ()
    nested: Annotated[
        str,
        Meta(
            description="Subvolumes nested in the paths: `include` freezes them at the same "
            "instant, `skip` leaves them out. Snapshots that other programs keep, and Docker's "
            "and Podman's layers, are left out in any case, unless nested-include names them.",
            examples=["include"],
            extra_json_schema={"enum": list(NESTED)},
        ),
    ] = "include"
    nested_exclude: Annotated[
        Paths,
        Meta(
            description="Nested subvolumes that are left out, with all below them (absolute).",
            examples=[["/srv/data/scratch"]],
        ),
    ] = ()
    nested_include: Annotated[
        Paths,
        Meta(
            description="Nested subvolumes that are frozen, with all below them, though they would "
            "be left out otherwise (absolute).",
            examples=[["/srv/data/.snapshots/1/snapshot"]],
        ),
    ] = ()
    submounts: Annotated[
        str,
        Meta(
            description="Other mounts below the paths: `leave-out`; `include` freezes those of "
            "btrfs; `require` does, too, and fails if there is one of another file system.",
            examples=["leave-out"],
            extra_json_schema={"enum": list(SUBMOUNTS)},
        ),
    ] = "leave-out"
    require_one_instant: Annotated[
        bool,
        Meta(
            description="Fail before restic starts if it cannot be proven that all subvolumes were "
            "frozen at one instant.",
            examples=[True],
        ),
    ] = False
    run_as: Annotated[
        str,
        Meta(
            description="Run restic as this user, who can read everything (CAP_DAC_READ_SEARCH) "
            "and write only what is the user's own, such as a repository on this machine. Its "
            "cache lies in `restic-USER` of the cache directory. Without it restic runs as root.",
            examples=["backup"],
        ),
    ] = ""
    timeout: Annotated[
        str,
        Meta(
            pattern=f"^({durations.PATTERN})?$",
            description="Stop a run that takes longer, as one that failed: days, hours, minutes "
            "and seconds, as in 1h30m. Without it a run takes as long as it takes.",
            examples=["12h"],
        ),
    ] = ""
    schedule: Annotated[
        str,
        Meta(
            description="When the job is to run, as a systemd calendar expression: "
            "`holdstill schedule install` makes a timer of it. Without a timer it lets `status` "
            "say that the job is overdue.",
            examples=["*-*-* 03:00:00"],
        ),
    ] = ""
    notify: Annotated[
        Strings,
        Meta(
            description="Names of the notifications that tell of the job's runs.",
            examples=[["phone"]],
        ),
    ] = ()
    randomized_delay: Annotated[
        str,
        Meta(
            pattern=f"^{durations.PATTERN}$",
            description="The timer starts up to this much later, by a time that each machine "
            "draws once: not all write to one repository at the same second. 0s: on time.",
            examples=["30m"],
        ),
    ] = "5m"
    require_ac_power: Annotated[
        bool,
        Meta(
            description="The timer starts nothing while the machine runs on battery.",
            examples=[True],
        ),
    ] = False
    on_failure: Annotated[
        tuple[Annotated[str, Meta(pattern=UNIT_PATTERN)], ...],
        Meta(
            description="Units that systemd starts when one of the job's own has failed; "
            "specifiers are systemd's: %n is the unit that failed.",
            examples=[["mail-root@%n.service"]],
        ),
    ] = ()
    minimum_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Warn, and wait with the retention, where a backup has fewer than this "
            "many percent of the files or of the bytes of the last one that had enough. 0: never.",
            examples=[50],
        ),
    ] = 50
    keep: Annotated[
        Keep | None,
        Meta(description="Which backups stay. Without this table nothing is forgotten."),
    ] = None
    prune: Annotated[
        Prune | None,
        Meta(description="Remove unused data after each backup. Needs the keep table."),
    ] = None
    check: Annotated[
        Check | None,
        Meta(description="Check the repositories, at times of its own."),
    ] = None


class Config(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The configuration of holdstill."""

    repositories: Annotated[
        dict[Name, Repository],
        Meta(description="The restic repositories, by name."),
    ]
    jobs: Annotated[dict[Name, Job], Meta(min_length=1, description="The jobs, by name.")]
    state_directory: Annotated[
        str,
        Meta(
            pattern="^/",
            description="Where the history of runs lies. Default: the first directory in "
            "STATE_DIRECTORY, else /var/lib/holdstill.",
            examples=["/var/lib/holdstill"],
        ),
    ] = "/var/lib/holdstill"
    runtime_directory: Annotated[
        str,
        Meta(
            pattern="^/",
            description="For the locks of jobs, which lie in the state and cache directories, too: "
            "two of the three have to be usable. Default: the first directory in "
            "RUNTIME_DIRECTORY, else /run/holdstill.",
            examples=["/run/holdstill"],
        ),
    ] = "/run/holdstill"
    cache_directory: Annotated[
        str,
        Meta(
            pattern="^/",
            description="Where restic's cache lies, in `restic`. Default: the first directory in "
            "CACHE_DIRECTORY, else /var/cache/holdstill.",
            examples=["/var/cache/holdstill"],
        ),
    ] = "/var/cache/holdstill"
    history_days: Annotated[
        int,
        Meta(
            ge=1,
            le=HIGHEST_DAYS,
            description="How many days a run stays in the history. The last success of each job "
            "stays in any case.",
            examples=[400],
        ),
    ] = 400
    metrics_directory: Annotated[
        str,
        Meta(
            pattern="^(/.*)?$",
            description="Where each job leaves its metrics, in `holdstill_JOB.prom`, for the "
            "textfile collector of Prometheus' node_exporter. Without it there are none.",
            examples=["/var/lib/prometheus/node-exporter"],
        ),
    ] = ""
    notifications: Annotated[
        dict[Name, Notification],
        Meta(description="Who is told how runs go, by name; jobs name them in `notify`."),
    ] = msgspec.field(default_factory=dict)
