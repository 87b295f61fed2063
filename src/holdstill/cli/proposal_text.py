"""What of a machine could be backed up, as a text to read."""

from __future__ import annotations

from itertools import islice

from holdstill.cli.format import count
from holdstill.cli.plan_text import aligned, branches, grouped, joined, section
from holdstill.errors import shown
from holdstill.linux.mountinfo import is_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.jobs.setup import Viewed
    from holdstill.scope import Hidden

_LONGEST_TREE = 12


def lines(jobs: Sequence[Viewed], left_out: Sequence[Hidden]) -> Iterator[str]:
    """Yield what each job would freeze, and what is in none of them, with the reason."""
    for one in jobs:
        layers = one.plan.layers
        devices = ", ".join(map(shown, one.plan.devices.values()))
        title = f"job {one.job.name}: {count(len(one.plan.subvolumes), 'snapshot')} of {devices}"
        tree = aligned(islice(branches(layers), _LONGEST_TREE))
        yield from section(title, (*tree, *_rest(len(layers) - _LONGEST_TREE)))
    places = {one.path: one for one in _missing(jobs, left_out)}
    named = [(joined(one.reason, one.remedy), path) for path, one in sorted(places.items())]
    yield from section(f"left out: {count(len(named), 'place')}", grouped(named))
    notes = [note for one in jobs for note in one.notes]
    yield from section("notes", grouped((joined(n.text, n.remedy), n.path) for n in notes))


def _rest(number: int) -> Iterator[str]:
    if number > 0:
        yield f"… and {count(number, 'place')} more: see `holdstill plan`"


def _missing(jobs: Sequence[Viewed], left_out: Sequence[Hidden]) -> Iterator[Hidden]:
    """Yield what no job has; the reason why a mount was not proposed is the better one."""
    paths = [path for one in jobs for path in one.plan.paths]
    below = [hidden for one in jobs for hidden in one.plan.left_out if not hidden.is_system]
    for hidden in below:
        holders = [path for path in paths if is_within(hidden.path, path)]
        if hidden.path not in holders:
            yield hidden
    yield from left_out
    for one in jobs:
        yield from one.left_out
