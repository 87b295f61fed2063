"""What `holdstill init` has to know: from its flags, from this machine, or from who sits there."""

from __future__ import annotations

import os
import secrets
import shlex

from msgspec.structs import replace

from holdstill.cli import proposal_text
from holdstill.cli.messages import say, warn
from holdstill.cli.plan import printable
from holdstill.config.load import parse
from holdstill.config.model import Repository
from holdstill.config.origin import read as read_origin
from holdstill.config.rules import RULES, normalised
from holdstill.errors import ConfigurationError, ProgramError, SourceError, UsageError, shown
from holdstill.jobs import setup
from holdstill.jobs.draft import KEEP, SCHEDULE, draft, draft_of_origin, repository_name
from holdstill.jobs.plan import find_restic, target_of
from holdstill.jobs.proposal import ProposedJob, job_name
from holdstill.locations import without_password
from holdstill.systemd import control
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from holdstill.cli.questions import Questions
    from holdstill.config.model import Config
    from holdstill.config.origin import Origin
    from holdstill.jobs.draft import Draft
    from holdstill.jobs.setup import Viewed
    from holdstill.restic.binary import Binary
    from holdstill.restic.commands import Target
    from holdstill.scope import Hidden

_WHERE = """\
Where are the backups to go? Whatever restic's --repo takes:
  /mnt/disk/restic         a directory, best on another disk
  sftp:USER@HOST:/PATH     a machine with ssh, which takes a key of root's
  rest:https://HOST:8000/  a rest-server
  s3:https://HOST/BUCKET   with its keys in a file: --environment-file FILE"""
_AS_BEFORE = "As before: tag systemd.timer, groups of paths and tags, --max-unused 5G."
_NESTED = """\
The script's --one-file-system left the nested subvolumes out, and so does
nested = "skip". With "include" they are frozen, too, at the same instant."""
_EITHER = "--password-file FILE or --generate-password"
_TRIES = 3


class Made(NamedTuple):
    """All that is known before anything is written."""

    draft: Draft
    config: Config
    """The draft as it will be loaded."""
    new_password: str = ""
    """What is yet to be stored in the repository's password file; empty where that is there."""
    is_import: bool = False


def url_complaint(text: str) -> str:
    """Say what is wrong with the URL of a repository."""
    return next((one.must + one.hint for one in RULES[Repository]["url"](text)), "")


def reach(config: Config) -> tuple[Binary, Target]:
    """Return restic, and how it reaches the only repository; without a cache."""
    found = find_restic(config, os.environ)
    for text in found.warnings:
        warn(text)
    job = next(iter(config.jobs))
    (name,) = config.repositories
    return found.binary, target_of(config, job, name)._replace(cache_directory=None)


def from_machine(arguments: argparse.Namespace, questions: Questions, output: str) -> Made:
    """Propose what this machine has, and find out the rest; raises UsageError if it cannot."""
    if not questions.possible:
        _refuse_missing(arguments)
    say(f"This writes a first configuration, {shown(output)}.")
    if questions.possible:
        say("Nothing is written before the end; Ctrl-C leaves everything as it is.")
    repository = _repository(arguments, arguments.repository or _asked_url(questions))
    repository, password = _password(arguments, questions, repository, output)
    jobs = _jobs(arguments, questions, repository.url)
    schedule = _schedule(arguments, questions)
    made = draft([one.job for one in jobs], repository, getattr(arguments, "keep", KEEP), schedule)
    return Made(made, _checked(made, output), password)


def _refuse_missing(arguments: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be asked for."""
    missing = [] if arguments.repository else ["--repository URL"]
    if not arguments.yes:
        missing += [] if arguments.path else ["--path PATH"]
        ways = (arguments.password_file, arguments.generate_password, arguments.environment_file)
        missing += [] if any(ways) else [_EITHER]
    if missing:
        raise _missing(missing, asks_nothing=arguments.yes)


def _missing(flags: Sequence[str], *, asks_nothing: bool) -> UsageError:
    why = "--yes asks nothing" if asks_nothing else "standard input is no terminal to ask on"
    rest = "or --yes, which takes what is proposed for the last ones"
    remedy = "it takes what restic's --repo takes" if asks_nothing else rest
    return UsageError(f"{why}, and this is missing: {', '.join(flags)}", remedy=remedy)


def _asked_url(questions: Questions) -> str:
    say(f"\n{_WHERE}")
    while complaint := url_complaint(url := questions.line("repository")):
        say(f"It {complaint}.")
    return url


def _repository(arguments: argparse.Namespace, url: str) -> Repository:
    def absolute(path: str | None) -> str:
        return os.path.abspath(path) if path else ""

    for path in filter(None, (arguments.password_file, arguments.environment_file)):
        if not os.access(path, os.R_OK):
            raise UsageError(f"{shown(path)} cannot be read", remedy="name a file that is there")
    return Repository(
        url=url,
        password_file=absolute(arguments.password_file),
        environment_file=absolute(arguments.environment_file),
    )


def _password(
    arguments: argparse.Namespace, questions: Questions, repository: Repository, output: str
) -> tuple[Repository, str]:
    """Return the repository with a way to its password, and the password if it is a new one."""
    name = repository_name(repository.url)
    path = os.path.join(os.path.dirname(output), f"{name}.password")
    stored = replace(repository, password_file=path)
    if repository.password_file:
        return repository, ""
    if os.path.lexists(path):
        say(f"\n{shown(path)} is there already: its password is used.")
        return stored, ""
    if arguments.dry_run:
        return stored, ""
    say("\nAsking the repository.")
    probe = draft((ProposedJob("probe", ("/",)),), stored, None, "")
    binary, target = reach(_checked(probe, output))
    target = target._replace(password_file=None)
    if setup.has_password(target.environment):
        return repository, ""
    reading = setup.ask(binary, target, warn)
    if reading.wrong_password:
        return stored, _known_password(questions, binary, target)
    if not reading.missing:
        setup.refuse(reading, target)
    return stored, _new_password(arguments, questions)


def _known_password(questions: Questions, binary: Binary, target: Target) -> str:
    """Ask for the password of a repository that exists, until it opens."""
    url = without_password(target.url)
    if not questions.possible:
        message = f"there is a repository already, {url}, and a password of its own"
        raise ProgramError(message, remedy="name the file that holds it: --password-file FILE")
    say(f"There is a repository already, {url}.")
    for _ in range(_TRIES):
        # restic, too, strips what it reads from a password file.
        password = questions.secret("its password").strip()
        environment = {**target.environment, "RESTIC_PASSWORD": password}
        reading = setup.ask(binary, target._replace(environment=environment), warn)
        if not reading.wrong_password and password:
            setup.refuse(reading, target)
            return password
        say("That password does not open it.")
    raise ProgramError(f"no password was right for {url}", remedy="nothing has been written")


def _new_password(arguments: argparse.Namespace, questions: Questions) -> str:
    say("There is no repository yet: it will be created.")
    generate = arguments.generate_password or arguments.yes
    if not generate and not questions.possible:
        raise _missing([_EITHER], asks_nothing=False)
    if generate or questions.yes("Generate a password?"):
        return secrets.token_urlsafe(24)
    while True:
        password = questions.secret("its password").strip()
        if password and password == questions.secret("once more").strip():
            return password
        say("Empty, or not the same twice.")


def _jobs(arguments: argparse.Namespace, questions: Questions, url: str) -> Sequence[Viewed]:
    """Return the jobs, having shown them; whoever is there may choose other paths."""
    if arguments.path:
        paths = [os.path.abspath(path) for path in arguments.path]
        return _shown([_viewed(arguments, paths)], (), url)
    found = setup.survey(url)
    jobs: Sequence[Viewed] = found.jobs
    if arguments.job:
        jobs = [_viewed(arguments, [path for one in jobs for path in one.job.paths])]
    _shown(jobs, found.left_out, url)
    if questions.possible:
        question = "What is to be backed up? Paths, or Enter for the above"
        while answer := questions.line(question):
            try:
                return _shown([_viewed(arguments, shlex.split(answer))], (), url)
            except (ValueError, SourceError) as error:
                say(f"{error}")
    return jobs


def _viewed(arguments: argparse.Namespace, paths: Sequence[str]) -> Viewed:
    clean = tuple(dict.fromkeys(map(normalised, paths)))
    return setup.view(ProposedJob(arguments.job or job_name(clean[0]), clean))


def _shown(jobs: Sequence[Viewed], left_out: Sequence[Hidden], url: str) -> Sequence[Viewed]:
    say(printable("\n" + "\n".join(proposal_text.lines(jobs, left_out)) + "\n"))
    for one in jobs:
        if setup.is_on_the_same_disk(url, one):
            warn(f"job {one.job.name}: the repository is on the same disk: it dies with that")
    return jobs


def _schedule(arguments: argparse.Namespace, questions: Questions) -> str:
    if hasattr(arguments, "schedule") or not questions.possible:
        return _named_schedule(arguments)
    question = "When? A calendar of systemd, or never"
    while complaint := _calendar_complaint(answer := questions.line(question, SCHEDULE)):
        say(complaint)
    return "" if answer == "never" else answer


def _named_schedule(arguments: argparse.Namespace) -> str:
    calendar = str(getattr(arguments, "schedule", SCHEDULE))
    if complaint := _calendar_complaint(calendar):
        raise UsageError(f"--schedule: {complaint}", remedy="see systemd.time(7)")
    return calendar


def _calendar_complaint(calendar: str) -> str:
    """Ask systemd, where it would have to read it."""
    if calendar in {"", "never"} or not control.is_in_charge():
        return ""
    return control.calendar_complaint(calendar)


def from_origin(arguments: argparse.Namespace) -> Made:
    """Translate the environment file of a shell script; raises ConfigurationError."""
    _refuse_own_flags(arguments)
    path = os.path.abspath(arguments.from_env)
    origin = read_origin(_content(path), path, path)
    for text in origin.warnings:
        warn(text)
    origin = origin._replace(repository=_origins_repository(arguments, origin, path))
    name = arguments.job or job_name(origin.job.paths[0])
    made = draft_of_origin(origin, name, _named_schedule(arguments))
    config = _checked(made, path)
    viewed = setup.view(ProposedJob(name, origin.job.paths), nested=False)
    _shown([viewed], (), origin.repository.url)
    say(_AS_BEFORE)
    if viewed.plan.stubs:
        say(_NESTED)
    return Made(made, config, is_import=True)


def _refuse_own_flags(arguments: argparse.Namespace) -> None:
    given = {
        "--path": arguments.path,
        "--generate-password": arguments.generate_password,
        "--environment-file": arguments.environment_file,
        "--keep": hasattr(arguments, "keep"),
    }
    if wrong := [flag for flag, value in given.items() if value]:
        message = f"--from-env takes that from its file: {', '.join(wrong)}"
        raise UsageError(message, remedy="leave it out, and change the configuration afterwards")


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        message = f"{shown(path)} cannot be read: {error.strerror}"
        raise ConfigurationError(
            message, remedy="see the script's unit: EnvironmentFile="
        ) from error


def _origins_repository(arguments: argparse.Namespace, origin: Origin, path: str) -> Repository:
    """Complete what the file says of the repository with what the flags say."""
    found, flags = origin.repository, _repository(arguments, arguments.repository or "")
    url = flags.url or found.url
    if not url and origin.repository_file:
        url = os.fsdecode(_content(origin.repository_file)).strip()
    if not url:
        message = f"{shown(path)} has no RESTIC_REPOSITORY"
        raise ConfigurationError(message, remedy="name it with --repository URL")
    if flags.password_file:
        return replace(found, url=url, password_file=flags.password_file, password_command="")
    if not (found.password_file or found.password_command or found.environment_file):
        message = f"{shown(path)} has no RESTIC_PASSWORD_FILE, _COMMAND or RESTIC_PASSWORD"
        raise ConfigurationError(message, remedy="name a file with --password-file FILE")
    return replace(found, url=url)


def _checked(made: Draft, source: str) -> Config:
    """Return the configuration as it will be loaded; raises ConfigurationError."""
    try:
        return parse(os.fsencode(made.text), source, os.environ)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, remedy="nothing has been written") from None
