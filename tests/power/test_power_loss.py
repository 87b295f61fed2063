"""The power fails while a job runs: nothing is lost, and the next run cleans up and succeeds."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import NEWEST, RESTICS
from tests.power.guarded import Guarded, function, packs
from tests.power.kernels import Kernel, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soaking import Soak

    Make = Callable[[Kernel, str], Guarded]

pytest_plugins = ["tests.kernel.backup_fixtures"]

MOMENTS = {
    "snapshotting": function("return", "linux.btrfs:create_snapshot", 2),
    "backing-up": packs("written", 1),
    "deleting": function("call", "linux.btrfs:delete_subvolume", 3),
    "pruning": packs("removed", 1),
}
"""In the middle of each phase: two of four snapshots have been taken, or deleted."""

CUTS = 10
"""For each pair of a kernel and a restic in the long version."""


@pytest.fixture(scope="module")
def _made() -> list[Guarded]:
    return []


@pytest.fixture
def guest(_made: list[Guarded], guests: Make) -> Guarded:
    """Lend the guest that the test before has left running; a new one if it has failed."""
    if not _made or not _made[-1].is_settled:
        _made.append(guests(kernels()[-1], NEWEST))
    return _made[-1]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MOMENTS)
def test_the_power_fails(guest: Guarded, name: str) -> None:
    """What was synced is there, file system and repository are whole, the next run is good."""
    guest.back_up_until(MOMENTS[name], stay=True)
    guest.lose_power(random.Random(name))  # noqa: S311 - the same loss in each run
    left = guest.assert_unharmed()
    # What was deleted shortly before comes back: so can the snapshots of a run that had ended.
    assert name == "pruning" or left[-1] > guest.last_run
    guest.assert_next_run_succeeds(left)


@pytest.mark.soak
@pytest.mark.parametrize("oldest", [True, False], ids=["oldest", "newest"])
def test_the_power_fails_again_and_again(guests: Make, soak: Soak, oldest: bool) -> None:
    """At random moments of every phase, on the oldest and the newest kernel and restic at hand."""
    which = 0 if oldest else -1
    guest = guests(kernels()[which], list(RESTICS.values())[which])
    chance = random.Random(which)  # noqa: S311 - the same moments in each run
    cuts = soak.count(CUTS)
    for cut in range(cuts):
        moment = list(MOMENTS.values())[cut % len(MOMENTS)]
        guest.back_up_until(moment, stay=False)
        time.sleep(chance.uniform(0.0, 0.5))
        guest.lose_power(chance)
        guest.assert_next_run_succeeds(guest.assert_unharmed())
    soak.note(f"power cuts on kernel {kernels()[which].release}: {cuts}; 0 lost, 0 leftovers")
