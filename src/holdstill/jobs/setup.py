"""Looks at the machine and at a repository, for a first configuration."""

from __future__ import annotations

import os
import secrets
from signal import SIGINT, SIGKILL

from holdstill import process
from holdstill.errors import HoldstillError, ProgramError, SourceError, shown
from holdstill.freeze import plan as plan_freeze
from holdstill.jobs.proposal import ProposedJob, nearest, propose, swap_places
from holdstill.linux import mountinfo, privileges
from holdstill.locations import local_path, without_password
from holdstill.restic.client import Client
from holdstill.restic.outcome import Outcome, Reading
from holdstill.scope import FreezePlan, Hidden, Wishes
from holdstill.snapshots.notes import look
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdstill.restic.binary import Binary
    from holdstill.restic.client import OnWarning
    from holdstill.restic.commands import Target
    from holdstill.snapshots.notes import Note

ANSWER_SECONDS = 30.0
"""How long a repository may take to be opened: newer restics try for a quarter of an hour."""


class Viewed(NamedTuple):
    """A job that could be, and what freezing it would be."""

    job: ProposedJob
    plan: FreezePlan
    notes: tuple[Note, ...]
    left_out: tuple[Hidden, ...] = ()
    """Nested subvolumes that cannot be frozen, which the job excludes."""


class Survey(NamedTuple):
    """What of this machine could be backed up."""

    jobs: tuple[Viewed, ...]
    left_out: tuple[Hidden, ...]
    """Other mounts, and why they are not proposed."""


def survey(url: str) -> Survey:
    """Look at all mounts; raises SourceError where nothing can be frozen, NotPermittedError."""
    proposal = propose(_visible_mounts(), _real_path(url))
    left_out = list(proposal.left_out)
    jobs = [
        view(proposed._replace(paths=paths))
        for proposed in proposal.jobs
        if (paths := tuple(_freezable(proposed.paths, left_out)))
    ]
    if not jobs:
        raise SourceError(
            "nothing that is mounted here can be frozen"
            + "".join(f"\n  {shown(one.path)}: {one.reason}" for one in left_out),
            remedy="holdstill takes snapshots of btrfs: name a path on one with --path",
        )
    return Survey(tuple(jobs), tuple(left_out))


def view(job: ProposedJob, *, nested: bool = True) -> Viewed:
    """Look at what freezing a job would be; nested subvolumes with active swap files are excluded.

    Raises SourceError, NotPermittedError.
    """
    plan = plan_freeze(job.paths, Wishes(nested=nested, leave_out=job.nested_exclude))
    notes = look(plan.sources, plan.layers)
    places = tuple(swap_places(plan, notes))
    if not places:
        return Viewed(job, plan, notes)
    viewed = view(job._replace(nested_exclude=(*job.nested_exclude, *places)), nested=nested)
    hidden = (
        Hidden(place, "an active swap file, which btrfs does not freeze", "") for place in places
    )
    return viewed._replace(left_out=(*viewed.left_out, *hidden))


def is_on_the_same_disk(url: str, viewed: Viewed) -> bool:
    """Whether a repository lies on a file system that is backed up into it."""
    path = _real_path(url)
    home = None if path is None else nearest(path, _visible_mounts())
    return home is not None and any(one.mount.device == home.device for one in viewed.plan.sources)


def _real_path(url: str) -> str | None:
    path = local_path(url)
    return None if path is None else os.path.realpath(path)


def _visible_mounts() -> list[mountinfo.Mount]:
    mounts = mountinfo.read()
    top = next((mount for mount in reversed(mounts) if mount.mount_point == "/"), None)
    seen = mounts if top is None else (top, *mountinfo.visible_below(top, mounts))
    return [mount for mount in seen if os.path.isdir(mount.mount_point)]  # a file can be bound, too


def _freezable(paths: Sequence[str], left_out: list[Hidden]) -> Iterator[str]:
    """Yield the paths that can be frozen by themselves, and note the others."""
    for path in paths:
        try:
            view(ProposedJob("", (path,)))
        except SourceError as error:
            left_out.append(Hidden(path, error.message, error.remedy))
        else:
            yield path


def ask(binary: Binary, target: Target, on_warning: OnWarning) -> Reading:
    """Open a repository, with its own password or one that cannot be right."""
    known = target.password_file or target.password_command or has_password(target.environment)
    if not known:
        guess = {"RESTIC_PASSWORD": secrets.token_urlsafe(24)}
        target = target._replace(environment={**target.environment, **guess})
    client = _client(binary, ANSWER_SECONDS)
    return client.ask(target, "cat", "config", on_warning=on_warning).reading


def has_password(environment: Mapping[str, str]) -> bool:
    """Whether variables for restic tell it a password."""
    return any(name.startswith("RESTIC_PASSWORD") for name in environment)


def open_or_create(binary: Binary, target: Target, on_warning: OnWarning) -> bool:
    """Open a repository, or create it where there is none; return whether it was created.

    Raises ProgramError: its password is wrong, or it cannot be reached.
    """
    reading = ask(binary, target, on_warning)
    if created := reading.missing:
        reading = _client(binary, None).create(target, on_warning)
    refuse(reading, target)
    return created


def open_existing(binary: Binary, target: Target, on_warning: OnWarning) -> None:
    """Open a repository that has to be there; raises ProgramError."""
    refuse(ask(binary, target, on_warning), target)


def refuse(reading: Reading, target: Target) -> None:
    """Raise ProgramError unless a repository was opened."""
    if reading.outcome is Outcome.OK:
        return
    if reading.wrong_password:
        message = f"the password does not open the repository {without_password(target.url)}"
        remedy = "give the password that it was created with, in a file: --password-file FILE"
        raise ProgramError(message, remedy=remedy)
    remedy = "see that its url is right, its host up, and its keys in the environment file"
    raise ProgramError(reading.message, remedy=remedy)


def _client(binary: Binary, limit: float | None) -> Client:
    def run(
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_stdout: process.OnLine,
        on_stderr: process.OnLine,
    ) -> process.Ended:
        parent, give_up = os.getpid(), privileges.read_as(None)
        child = process.Child(
            environment=environment,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            before_exec=lambda: give_up(parent, SIGINT),
            limit=limit,
        )
        ended = process.run(argv, child)
        if limit is not None and ended.signal == SIGKILL:
            raise HoldstillError(
                f"the repository has not answered within {limit:.0f} s",
                remedy="see that its host is up and its url right",
            )
        return ended

    return Client(run, binary, os.environ)
