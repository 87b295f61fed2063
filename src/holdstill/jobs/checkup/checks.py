"""All checks of some jobs, in order; each has a process of its own, which may hang."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial

import msgspec

from holdstill import forks
from holdstill.config.warnings import warnings
from holdstill.errors import HoldstillError, shown
from holdstill.jobs.checkup import machine, places, remedies, repositories, secrets, space, traces
from holdstill.jobs.checkup.finding import About, Check, Finding, Level
from holdstill.jobs.checkup.trial import Trial, dry_freeze
from holdstill.linux import privileges
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from holdstill.config.model import Config
    from holdstill.errors import ConfigurationError
    from holdstill.linux.signals import Signals

_PATIENCE_SECONDS = 10.0
"""For a check to say that its time is up, and to clean up, before it is given up."""


class Examination(NamedTuple):
    """A check that can be made."""

    about: About
    look: Callable[[], Iterable[Finding]]
    """May raise HoldstillError."""


def of_machine(config: Config | None, path: str) -> Iterator[Examination]:
    """Yield what can be looked at by everybody, also where there is no usable configuration.

    `path` is that of the configuration.
    """
    if config is not None:
        look = partial(of_configuration, path, config)
        yield Examination(About(Check.CONFIGURATION), look)
    yield Examination(About(Check.PRIVILEGES), partial(machine.privileges_of_run, config))
    yield Examination(About(Check.KERNEL), partial(machine.kernel, config))


def of_jobs_in(
    config: Config, environment: Mapping[str, str], signals: Signals
) -> Iterator[Examination]:
    """Yield what root can look at, for the jobs of a configuration."""
    now = datetime.now(UTC)
    yield Examination(About(Check.CLOCK), partial(machine.clock_of, config, now))
    yield Examination(About(Check.DIRECTORIES), partial(places.directories, config, environment))
    yield Examination(
        About(Check.RESTIC), partial(repositories.restic, config, environment, signals)
    )
    for name, one in config.repositories.items():
        yield Examination(About(Check.SECRETS, name), partial(secrets.secrets, name, one))
    for job, name in _ways(config):
        asked = repositories.Asked(config, job, name, environment, signals)
        yield Examination(About(Check.REPOSITORY, name), partial(repositories.repository, asked))
    yield Examination(About(Check.LEFTOVERS), partial(traces.leftovers, signals))
    yield Examination(About(Check.RECORDS), partial(traces.records, config, now))
    yield Examination(About(Check.TIMER), partial(traces.timers_of, config))
    yield Examination(About(Check.SPACE), partial(space.spaces, config))
    for job in config.jobs:
        trial = Trial(config, job, environment, signals)
        yield Examination(trial.about, partial(dry_freeze, trial))


def _ways(config: Config) -> list[tuple[str, str]]:
    """Return a job for each repository: another for each user that restic runs as there."""
    found: dict[tuple[str, str], str] = {}
    for name, job in config.jobs.items():
        for repository in job.repositories:
            found.setdefault((repository, job.run_as), name)
    return [(job, repository) for (repository, _), job in found.items()]


def examine(one: Examination, seconds: float, signals: Signals) -> list[Finding]:
    """Make a check, in a process of its own; what goes wrong, or takes too long, is a finding."""
    done = forks.apart(
        partial(_examined, one, seconds, signals), seconds + _PATIENCE_SECONDS, signals
    )
    if done.answer is None:
        text = (
            f"no answer within {seconds:.0f} s: process {done.process} waits for the kernel, and "
            "cleans up when that answers"
        )
        return [one.about.error(text, remedies.HUNG)]
    if not done.answer:
        return [one.about.error("unexpected error, see the traceback", remedies.REPORT)]
    return [
        Finding(Level(level), Check(check), *rest)
        for level, check, *rest in json.loads(done.answer)
    ]


def _examined(one: Examination, seconds: float, signals: Signals) -> bytes:
    privileges.adopt_orphans()
    found: list[Finding] = []
    try:
        with signals.limit(seconds):
            found.extend(one.look())
    except HoldstillError as error:
        found.append(one.about.failure(error))
    if signals.expired:  # an ssh that tries to reach a host outlives its restic
        forks.end_children()
    return json.dumps(found).encode()


def of_configuration(path: str, config: Config) -> Iterator[Finding]:
    """Judge a configuration that can be used."""
    about = About(Check.CONFIGURATION)
    found = list(judge_warnings(path, warnings(config)))
    found += secrets.judge_owner(about, secrets.observe(path))
    yield from found
    if not found:
        jobs, many = len(config.jobs), len(config.repositories)
        of = f"{jobs} job{'' if jobs == 1 else 's'}, {many} "
        yield about.ok(f"{shown(path)}: {of}{'repository' if many == 1 else 'repositories'}")


def judge_warnings(path: str, texts: Sequence[str]) -> Iterator[Finding]:
    """Judge what is suspicious: a run of a job without its user or its exclude files fails.

    What is said of a repository's secrets has a check of its own.
    """
    about, remedy = About(Check.CONFIGURATION), remedies.CONFIGURATION.format(path=shown(path))
    for text in texts:
        if text.startswith("jobs."):
            yield about.error(text, remedy)
        elif not text.startswith("repositories."):
            yield about.warning(text, remedy)


def of_refused_configuration(error: ConfigurationError) -> Iterator[Finding]:
    """Yield each of the problems that an error lists."""
    first, *problems = error.message.split("\n")
    for text in problems or [first]:
        yield About(Check.CONFIGURATION).error(text.strip(), error.remedy, error.exit_status)


def narrowed(config: Config, jobs: Sequence[str]) -> Config:
    """Return the part of a configuration that some jobs use."""
    used = {name for job in jobs for name in config.jobs[job].repositories}
    return msgspec.structs.replace(
        config,
        jobs={name: config.jobs[name] for name in jobs},
        repositories={k: v for k, v in config.repositories.items() if k in used},
    )
