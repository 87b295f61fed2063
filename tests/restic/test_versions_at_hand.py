"""The tests of restic run against something."""

from __future__ import annotations


def test_restic_of_this_system_is_found(system_binary: str | None) -> None:
    """Without any restic the other tests would be collected as nothing, and pass."""
    assert system_binary is not None, "install restic: nothing else tests against the real one"
