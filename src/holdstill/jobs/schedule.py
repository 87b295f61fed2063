"""From the configuration to what systemd is to start, and when."""

from __future__ import annotations

import os

from holdstill.config.load import DEFAULT_FILE
from holdstill.config.problems import key_text
from holdstill.errors import ConfigurationError, shown
from holdstill.linux.mountinfo import is_within
from holdstill.locations import local_path, scheme_of
from holdstill.systemd import control, unit_files
from holdstill.systemd.timers import timers_named
from holdstill.systemd.unit_files import Action, Deed, Found, State, timer_of, to_install, to_remove
from holdstill.systemd.units import Credential, Kind, Work, configuration_in, files, told_by
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Final

    from holdstill.config.model import Config, Job, Repository
    from holdstill.systemd.timers import Timer

WAITING: Final = "waiting"
RUNNING: Final = "running"
_INSTALL = "holdstill schedule install"
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - what PrivateTmp= replaces
_HOMES = ("/home", "/root", "/run/user")
_CREDENTIALS = (("/etc/credstore.encrypted", True), ("/etc/credstore", False))


def works(config: Config, used: Sequence[str] = ()) -> tuple[Work, ...]:
    """Return what is scheduled; `used` are paths of which each run makes use, too.

    Looks for the files of credentials, and whether paths are symlinks.
    """
    return tuple(
        _work(config, name, kind, schedule, used)
        for name, job in config.jobs.items()
        for kind, schedule in schedules(job).items()
    )


def schedules(job: Job) -> dict[Kind, str]:
    """Return when each kind of work is done for a job, without those that have no schedule."""
    found = {
        Kind.BACKUP: job.schedule,
        Kind.PRUNE: job.prune.schedule if job.prune is not None else "",
        Kind.CHECK: job.check.schedule if job.check is not None else "",
    }
    return {kind: schedule for kind, schedule in found.items() if schedule}


def _work(config: Config, name: str, kind: Kind, schedule: str, used: Sequence[str]) -> Work:
    job = config.jobs[name]
    repositories = [config.repositories[one] for one in job.repositories]
    local = [path for path in (local_path(one.url) for one in repositories) if path is not None]
    sources = job.paths if kind is Kind.BACKUP else ()
    return Work(
        job=name,
        kind=kind,
        schedule=schedule,
        key=key_text(("jobs", name, *(() if kind is Kind.BACKUP else (kind.value,)), "schedule")),
        delay=job.randomized_delay,
        mounts=tuple(dict.fromkeys((*sources, *local))),
        needs_network=len(local) < len(repositories),
        needs_ac_power=job.require_ac_power,
        on_failure=job.on_failure,
        credentials=tuple(dict.fromkeys(_credentials(job, config))),
        uses_temporary=_touches(_TEMPORARY, (*sources, *used, *_named(config, job))),
        writes_home=_writes_home(config, repositories),
        runs_commands=any(one.password_command for one in repositories)
        or any(config.notifications[one].command for one in job.notify),
        becomes_user=bool(job.run_as),
    )


def _named(config: Config, job: Job) -> Iterator[str]:
    """Yield the paths that a run uses besides its sources."""
    yield from (config.state_directory, config.cache_directory, config.runtime_directory)
    yield from job.exclude_files
    yield from filter(None, (config.metrics_directory,))
    for name in job.repositories:
        one = config.repositories[name]
        yield from filter(None, (local_path(one.url), one.password_file, one.environment_file))


def _touches(places: Sequence[str], paths: Iterable[str]) -> bool:
    """Whether a path lies in one of the places, or one of the places in a path."""
    real = {os.path.realpath(path) for path in paths}
    return any(is_within(a, b) or is_within(b, a) for a in real for b in places)


def _writes_home(config: Config, repositories: Sequence[Repository]) -> bool:
    """Whether a run does: to a repository, rclone to its tokens, ssh to sockets, gpg to locks."""
    written = [config.state_directory, config.cache_directory, config.runtime_directory]
    written += filter(None, (config.metrics_directory,))
    written += [path for path in (local_path(one.url) for one in repositories) if path is not None]
    if any(is_within(os.path.realpath(path), home) for path in written for home in _HOMES):
        return True
    return any(
        one.password_command or scheme_of(one.url) in {"rclone", "sftp"} for one in repositories
    )


def _credentials(job: Job, config: Config) -> Iterator[Credential]:
    for name in job.repositories:
        if wanted := config.repositories[name].password_credential:
            yield _credential(wanted)


def _credential(name: str) -> Credential:
    for directory, encrypted in _CREDENTIALS:
        if os.path.exists(f"{directory}/{name}"):
            return Credential(name, f"{directory}/{name}", encrypted)
    directory, encrypted = _CREDENTIALS[0]
    return Credential(name, f"{directory}/{name}", encrypted)


def refuse_missing_credentials(works: Sequence[Work]) -> None:
    """Raise ConfigurationError where a secret that systemd is to hand out is not there."""
    for work in works:
        for one in work.credentials:
            if not os.path.exists(one.path):
                places = " nor in ".join(directory for directory, _ in _CREDENTIALS)
                message = f"job {work.job}: there is no credential {shown(one.name)} in {places}"
                make = f"systemd-creds encrypt --name={shown(one.name)} FILE {shown(one.path)}"
                raise ConfigurationError(message, remedy=f"make it: {make}")


def refuse_bad_calendars(works: Sequence[Work]) -> None:
    """Raise ConfigurationError with systemd's own words for schedules that it cannot read."""
    complaints = ((work.key, control.calendar_complaint(work.schedule)) for work in works)
    if wrong := [f"{key}: {complaint}" for key, complaint in complaints if complaint]:
        remedy = "see systemd.time(7), and try one with: systemd-analyze calendar '*-*-* 03:00:00'"
        raise ConfigurationError("\n  ".join(wrong), remedy=remedy)


def refuse_other_configuration(config: str, found: Mapping[str, Found]) -> None:
    """Raise ConfigurationError where units run the jobs of another configuration, which exists.

    There is one template for all jobs, and both may have a job of one name.
    """
    templates = (there.text for path, there in found.items() if path.endswith("@.service"))
    for other in (configuration_in(text) or DEFAULT_FILE for text in templates):
        if other != config and os.path.exists(other):
            message = f"the units are those of another configuration, {shown(other)}"
            remedy = "put all jobs into one file, or 'holdstill schedule remove' its units first"
            raise ConfigurationError(message, remedy=remedy)


class Plan(NamedTuple):
    """What an installation or a removal does: printed and executed alike."""

    actions: tuple[Action, ...]
    disable: tuple[str, ...]
    """Timers that are to stop."""
    enable: tuple[str, ...]

    @property
    def kept(self) -> tuple[Action, ...]:
        """What is in the way and somebody else's."""
        return tuple(action for action in self.actions if action.deed is Deed.KEEP)

    @property
    def changes(self) -> tuple[Action, ...]:
        """What is written or removed."""
        return tuple(a for a in self.actions if a.deed in {Deed.WRITE, Deed.REMOVE})


def plan_install(
    works: Sequence[Work],
    chosen: Sequence[str],
    program: Sequence[str],
    found: Mapping[str, Found],
) -> Plan:
    """Decide how the units of the chosen jobs come about; what belongs to no work goes."""
    mine = [work for work in works if work.job in chosen]
    needed = files(works, program)
    stale = {path: there for path, there in found.items() if path not in needed}
    removals = tuple(to_remove(stale))
    return Plan(
        actions=(*removals, *to_install(files(mine, program), found)),
        disable=_timers_in(stale),
        enable=tuple(work.timer for work in mine),
    )


def plan_removal(found: Mapping[str, Found]) -> Plan:
    """Decide how everything of ours goes."""
    return Plan(tuple(to_remove(found)), _timers_in(found), ())


def _timers_in(found: Mapping[str, Found]) -> tuple[str, ...]:
    """Return the timers that we have written, edited since or not."""
    return tuple(
        path
        for path, there in found.items()
        if path.endswith(".timer") and there.state is not State.FOREIGN
    )


def execute(plan: Plan, say: Callable[[Action], None]) -> None:
    """Do it, and `say` what was done; raises HoldstillError."""
    control.disable(plan.disable)
    for action in plan.actions:
        unit_files.execute(action)
        say(action)
    if plan.changes:
        control.reload()
    control.enable(plan.enable)


class Row(NamedTuple):
    """How something that is scheduled, or was, stands."""

    job: str
    kind: str
    schedule: str
    next_start: datetime | None
    last_start: datetime | None
    state: str
    """WAITING and RUNNING are good."""
    remedy: str
    """What to do about it; empty where nothing has to be done."""

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look."""
        return bool(self.schedule) and self.state not in {WAITING, RUNNING}


def observe(config: Config, program: Sequence[str], used: Sequence[str]) -> list[Row]:
    """Look at the unit files, and ask systemd about all units; starts two processes."""
    wanted = works(config, used)
    found = unit_files.observe()
    stale = sorted({*map(timer_of, found)} - {work.timer for work in wanted} - {""})
    told = control.states([name for one in wanted for name in (one.timer, one.service)])
    timers = timers_named([*(one.timer for one in wanted), *stale])
    texts = files(wanted, program)
    rows = [
        _row(
            one.job, one.kind, one.schedule, timers.get(one.timer), _state(one, texts, found, told)
        )
        for one in wanted
    ]
    rows += [_row(*told_by(name), "-", timers.get(name), ("stale", _INSTALL)) for name in stale]
    idle = [name for name, job in config.jobs.items() if not schedules(job)]
    return rows + [_row(name, "", "", None, ("no schedule", "")) for name in idle]


def _row(job: str, kind: str, schedule: str, timer: Timer | None, state: tuple[str, str]) -> Row:
    starts = (None, None) if timer is None else (timer.next_start, timer.last_start)
    return Row(job, kind, schedule, *starts, *state)


def _state(
    work: Work,
    texts: Mapping[str, str],
    found: Mapping[str, Found],
    told: Mapping[str, Mapping[str, str]],
) -> tuple[str, str]:
    """Return how a timer and its service stand, and what to do about it."""
    if work.timer not in found:
        return "not installed", _INSTALL
    there = {path: found.get(path) for path in work.files}
    if edited := [path for path, one in there.items() if one and one.state is not State.OURS]:
        return "edited", edited_remedy(edited[0])
    if any(one is None or one.text != texts[path] for path, one in there.items()):
        return "out of date", _INSTALL
    timer, service = told.get(work.timer, {}), told.get(work.service, {})
    if timer.get("ActiveState") != "active" or timer.get("UnitFileState") != "enabled":
        return "off", _INSTALL
    if service.get("ActiveState") == "failed":
        return "failed", f"journalctl -u {work.service}"
    return (WAITING if service.get("ActiveState") == "inactive" else RUNNING), ""


def edited_remedy(path: str) -> str:
    """Say what to do about a file that somebody has changed."""
    unit = path.partition("/")[0].removesuffix(".d")
    return f"move the change into a drop-in (systemctl edit {unit}), then remove the file"
