"""The units that run jobs: pure, from what is wanted to the texts of their files.

For each kind of work there is one template service, which is the same for every job; each job has a
timer, and a drop-in with what only it needs. docs/systemd.md says why each line is there.
"""

from __future__ import annotations

import re
import shlex
from enum import StrEnum

from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DROP_IN = "holdstill.conf"
"""The name of ours; others lie beside it and stay."""


class Kind(StrEnum):
    """What a timer starts."""

    BACKUP = "backup"
    PRUNE = "prune"
    CHECK = "check"


class Credential(NamedTuple):
    """A secret that systemd hands to a unit."""

    name: str
    path: str
    encrypted: bool


class Work(NamedTuple):
    """What systemd is to start for a job, when, and what it needs for that."""

    job: str
    kind: Kind
    schedule: str
    """When, as a systemd calendar expression."""
    key: str
    """The key of the configuration that says so."""
    delay: str
    """Up to how much later."""
    mounts: tuple[str, ...] = ()
    """Paths whose file systems have to be mounted."""
    needs_network: bool = False
    needs_ac_power: bool = False
    on_failure: tuple[str, ...] = ()
    """Units."""
    credentials: tuple[Credential, ...] = ()
    uses_temporary: bool = False
    """Whether it has to see the machine's own /tmp or /var/tmp."""
    writes_home: bool = False
    runs_commands: bool = False
    """Whether it starts programs of which nothing is known."""
    becomes_user: bool = False
    """Whether restic runs as somebody else than root."""

    @property
    def service(self) -> str:
        """Return the name of what is started."""
        return f"{_prefix(self.kind)}@{self.job}.service"

    @property
    def files(self) -> tuple[str, str, str]:
        """Return the paths of the template, the timer and the drop-in."""
        return f"{_prefix(self.kind)}@.service", self.timer, f"{self.service}.d/{DROP_IN}"

    @property
    def timer(self) -> str:
        """Return the name of what starts it."""
        return f"{_prefix(self.kind)}@{self.job}.timer"


def _prefix(kind: Kind) -> str:
    return "holdstill" if kind is Kind.BACKUP else f"holdstill-{kind}"


PREFIXES = tuple(map(_prefix, Kind))


def files(works: Sequence[Work], program: Sequence[str]) -> dict[str, str]:
    """Return the texts of all unit files, by their paths from the directory of units.

    `program` is how holdstill is started, as words.
    """
    found: dict[str, str] = {}
    for work in works:
        template, timer, drop_in = work.files
        found.setdefault(template, _service(work.kind, program))
        found[timer] = _timer(work)
        found[drop_in] = _drop_in(work)
    return found


def told_by(timer: str) -> tuple[str, Kind]:
    """Return the job and the kind of work that a timer of ours is for."""
    prefix, _, job = timer.removesuffix(".timer").partition("@")
    return job, next(kind for kind in Kind if _prefix(kind) == prefix)


_WORDS = {
    Kind.BACKUP: ("Back up job %i", ("backup", "--wait", "12h", "%i")),
    Kind.PRUNE: (
        "Remove unused data from the repositories of job %i",
        ("maintain", "--wait", "12h", "prune", "%i"),
    ),
    Kind.CHECK: (
        "Check the repositories of job %i",
        ("maintain", "--wait", "12h", "check", "%i"),
    ),
}

_SERVICE = """\
[Unit]
Description={description}
Documentation=man:holdstill(1)

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
# Said, it sets HOME, where ssh, gpg and rclone look for their files.
User=root
WatchdogSec=15min
WatchdogSignal=SIGTERM
# holdstill itself asks restic to stop, removes the snapshots, and says what came of it.
KillMode=mixed
TimeoutStopSec=2min
SuccessExitStatus=143
OOMPolicy=continue

Nice=10
CPUWeight=20
IOWeight=20

StateDirectory=holdstill
StateDirectoryMode=0700
CacheDirectory=holdstill
RuntimeDirectory=holdstill
# It holds the locks of all jobs.
RuntimeDirectoryPreserve=yes

# It mounts and deletes snapshots, reads and keeps everybody's files, and gives restic less.
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETPCAP
NoNewPrivileges=yes
PrivateMounts=yes
ProtectSystem=full
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
ProtectProc=invisible
DevicePolicy=closed
DeviceAllow=block-* rw
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=mnt
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallFilter=~@resources
SystemCallErrorNumber=EPERM
"""


def configuration_in(template: str) -> str:
    """Return the configuration that a template service names; empty where it is the default."""
    found = re.search(r"^ExecStart=(.*)$", template, re.MULTILINE)
    words = shlex.split(found[1]) if found else []
    if "--config" not in words:
        return ""
    return words[words.index("--config") + 1].replace("$$", "$").replace("%%", "%")


def _service(kind: Kind, program: Sequence[str]) -> str:
    description, arguments = _WORDS[kind]
    words = [_command_word(word) for word in program]
    return _SERVICE.format(description=description, command=" ".join((*words, *arguments)))


_TIMER = """\
[Unit]
Description={what} job {job} as {key} says
Documentation=man:holdstill(1)

[Timer]
OnCalendar={schedule}
Persistent=yes
RandomizedDelaySec={delay}
FixedRandomDelay=yes
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _timer(work: Work) -> str:
    return _TIMER.format(
        what={Kind.BACKUP: "Back up", Kind.PRUNE: "Prune", Kind.CHECK: "Check"}[work.kind],
        job=_escaped(work.job),
        key=_escaped(work.key),
        schedule=_escaped(work.schedule),
        delay=work.delay,
    )


def _drop_in(work: Work) -> str:
    unit = "\n".join(("[Unit]", *_conditions(work)))
    service = "\n".join(("[Service]", *_permissions(work)))
    return f"{unit}\n\n{service}\n"


def _conditions(work: Work) -> Iterator[str]:
    for path in work.mounts:
        if _can_be_written(path):
            yield f"RequiresMountsFor={_word(path)}"
    if work.needs_network:
        yield "Wants=network-online.target"
        yield "After=network-online.target nss-lookup.target"
    if work.needs_ac_power:
        yield "ConditionACPower=yes"
    if work.on_failure:
        yield f"OnFailure={' '.join(work.on_failure)}"


def _permissions(work: Work) -> Iterator[str]:
    yield f"ProtectHome={'no' if work.writes_home else 'read-only'}"
    yield f"PrivateTmp={'no' if work.uses_temporary else 'yes'}"
    if work.runs_commands:
        yield "MemoryDenyWriteExecute=no"
    if work.becomes_user:
        yield "CapabilityBoundingSet=CAP_CHOWN CAP_KILL CAP_SETGID CAP_SETUID CAP_SYS_PTRACE"
    for one in work.credentials:
        key = "LoadCredentialEncrypted" if one.encrypted else "LoadCredential"
        yield f"{key}={_escaped(one.name)}:{_escaped(one.path)}"


def _can_be_written(path: str) -> bool:
    """Whether a unit file, which is text in lines, can hold a path."""
    return path.isprintable()


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    r"""Return one word of several: systemd splits at spaces, and `\` and quotes mean something."""
    plain = all(c.isalnum() or c in "/._-+@:,=%~" for c in text)
    escaped = _escaped(text)
    if plain:
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _command_word(text: str) -> str:
    """Return a word of a command line, in which `$` means something, too."""
    return _word(text).replace("$", "$$")
