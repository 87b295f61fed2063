"""Freeze paths, and run commands that see them frozen: all that is not about backups."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress

from holdstill.errors import (
    ChangedError,
    SourceError,
    ViewError,
    shown,
)
from holdstill.linux import mountinfo, privileges
from holdstill.scope import FreezePlan, Wishes, assemble, mounts_to_include, refuse_missing
from holdstill.snapshots.model import Instant, Proof
from holdstill.snapshots.observe import Observer
from holdstill.snapshots.patience import SECONDS, Patience
from holdstill.snapshots.staging import new_run, staging, sweep
from holdstill.snapshots.turn import Turn
from holdstill.tuples import NamedTuple
from holdstill.view.layout import FrozenMount, Layout, live_below
from holdstill.view.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from signal import Signals as Number
    from typing import TypeVar

    from holdstill.linux.signals import Signals
    from holdstill.snapshots.model import Leftover
    from holdstill.snapshots.staging import Staging

    _Frozen = TypeVar("_Frozen")


_OTHER_DESCRIPTORS = 128
_TRIES = 3


class Held(NamedTuple):
    """A view whose snapshots exist."""

    plan: FreezePlan
    """What was frozen, and what else was found below the paths right after it."""
    instant: Instant
    view: View


def plan(paths: Sequence[str], wishes: Wishes = Wishes()) -> FreezePlan:  # noqa: B008 - frozen
    """Look at the paths and decide what to freeze; raises SourceError, NotPermittedError."""
    privileges.require()
    observer = Observer(mountinfo.read())
    named = observer.sources(dict.fromkeys(paths))
    below = observer.sources(
        mount.mount_point
        for mount in mounts_to_include(named, wishes)
        if os.path.isdir(mount.mount_point)  # a single file can be bound, too
    )
    decided = assemble([source.path for source in named], [*named, *below], wishes)
    refuse_missing(decided)
    return decided


@contextmanager
def hold(  # noqa: PLR0913 - independent properties of a run
    plan: FreezePlan,
    run: str,
    *,
    live: tuple[str, ...] = (),
    locks: tuple[int, ...] = (),
    working_directory: str = "/",
    signals: Signals | None = None,
    ask_with: Number | None = None,
    grace: float | None = None,
    sweeps: bool = True,
    warn: Callable[[str], None],
) -> Iterator[Held]:
    """Freeze what was planned, and remove the snapshots at the end.

    `live` paths stay writable in the view; its commands inherit `locks`. Leftovers of dead runs
    are swept first, with a warning, unless told not to.

    Raises ChangedError, FreezeError, CleanUpError; StoppedError if one of the `signals` came while
    another holdstill was waited for.
    """
    patience = Patience(_unanswered(plan), warn)
    turn = Turn(signals, warn, patience)
    with ExitStack() as stack:
        stack.callback(patience.stop)
        patience.start()
        for device in plan.devices.values() if sweeps else ():
            for problem in sweep(device, lambda leftover: warn(_found(leftover)), turn=turn):
                warn(problem)
        stagings = {
            file_system: stack.enter_context(staging(device, run, turn))
            for file_system, device in plan.devices.items()
        }
        instant = _freeze(plan, stagings)
        if instant.proof is Proof.SKEWED:
            warn(f"not frozen at one instant, but up to {instant.hold_ms:.0f} ms apart")
        plan = _observed_again(plan)
        layout = _layout(plan, instant, live, working_directory)
        inherited = (*locks, *(own.lock for own in stagings.values()))
        patience.stop()
        stack.callback(patience.start)  # the removal is watched, too
        yield Held(plan, instant, View(layout, inherited, signals, ask_with, grace))


def settled(freeze: Callable[[], _Frozen]) -> _Frozen:
    """Plan and freeze anew, a few times, where subvolumes came or went in between.

    Raises ChangedError if they never stop.
    """
    for _ in range(_TRIES - 1):
        with suppress(ChangedError):
            return freeze()
    return freeze()


def _unanswered(plan: FreezePlan) -> str:
    devices = ", ".join(map(shown, plan.devices.values()))
    return (
        f"the kernel has not answered for {SECONDS:.0f} s: {devices} may be frozen (fsfreeze -u) "
        "or its disk stuck (see dmesg); nothing can be done until it answers"
    )


def _found(leftover: Leftover) -> str:
    count = len(leftover.snapshots)
    what = f"{count} snapshot{'' if count == 1 else 's'}"
    return f"removing what the dead run {leftover.run} left on {shown(leftover.device)}: {what}"


def _freeze(plan: FreezePlan, stagings: dict[str, Staging]) -> Instant:
    _allow_descriptors(2 * len(plan.subvolumes))
    return Instant(
        tuple(
            own.take([one for one in plan.subvolumes if one.file_system == file_system])
            for file_system, own in stagings.items()
        )
    )


def _allow_descriptors(count: int) -> None:
    """Raise this process's soft limit where hundreds of subvolumes are open at once."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + _OTHER_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _observed_again(decided: FreezePlan) -> FreezePlan:
    """Return the plan as it would be made now; raise ChangedError if other snapshots were needed.

    A subvolume that was made since would be missing in silence.
    """
    now = plan(decided.paths, decided.wishes)
    if (now.layers, now.stubs) != (decided.layers, decided.stubs):
        message = "subvolumes were made, removed or renamed below the paths while they were frozen"
        raise ChangedError(message, remedy="try again when that has ended")
    return now


def _layout(
    plan: FreezePlan, instant: Instant, live: tuple[str, ...], working_directory: str
) -> Layout:
    ids = {snapshot.subvolume: snapshot.id for snapshot in instant.snapshots}
    frozen = tuple(
        FrozenMount(layer.target, layer.subvolume.device, ids[layer.subvolume], layer.directory)
        for layer in plan.layers
    )
    paths = tuple(source.path for source in plan.sources)
    live = live_below((*plan.system_directories, *live), frozen)
    outside = live_below(tuple(path for path in plan.outside if path not in live), frozen)
    return Layout(paths, frozen, live, outside, working_directory)


def working_directory() -> str:
    """Return where this process stands; raises ViewError if that is no path any more."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        message = "the working directory has been removed"
        raise ViewError(message, remedy="start from a directory that exists") from None


def not_shown(decided: FreezePlan) -> tuple[str, ...]:
    """Return a warning for each place below the sources that the view does not show."""
    return tuple(
        f"{shown(hidden.path)} is not in the view: {hidden.reason}"
        for hidden in decided.left_out
        if not hidden.is_system
    )


@contextmanager
def frozen(paths: Sequence[str | os.PathLike[str]]) -> Iterator[View]:
    """Freeze paths for the body; `run` of what it gives runs commands that see them frozen.

    Raises HoldstillError: SourceError, NotPermittedError, FreezeError, CleanUpError.
    """
    import logging

    if isinstance(paths, str) or not paths:
        message = f"a list of paths is needed, not {paths!r}"
        raise SourceError(message, remedy='as in frozen(["/srv/data"])')
    named = [os.fspath(path) for path in paths]
    warn = logging.getLogger("holdstill").warning
    here = working_directory()
    with ExitStack() as stack:
        held = settled(
            lambda: stack.enter_context(
                hold(plan(named), new_run(), working_directory=here, warn=warn)
            )
        )
        for text in not_shown(held.plan):
            warn(text)
        yield held.view
