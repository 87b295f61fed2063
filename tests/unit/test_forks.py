"""Work in a forked process: what it hands over, and what its death means."""

from __future__ import annotations

import os
import signal

import pytest

from holdstill.errors import ViewError
from holdstill.forks import descriptor_from_child


def _die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return -1


def test_a_child_hands_over_a_descriptor() -> None:
    """It stays open when the child is gone."""
    descriptor = descriptor_from_child(lambda: os.open("/", os.O_RDONLY))
    try:
        assert os.path.sameopenfile(descriptor, descriptor)
        assert os.readlink(f"/proc/self/fd/{descriptor}") == "/"
    finally:
        os.close(descriptor)


def test_a_child_that_cannot_hand_over_says_why() -> None:
    """Its error comes through as words."""
    with pytest.raises(ViewError, match="No such file or directory: '/nowhere'"):
        descriptor_from_child(lambda: os.open("/nowhere", os.O_RDONLY))


def test_a_child_that_dies_before_it_hands_over_is_an_error() -> None:
    """Not a wait for ever."""
    with pytest.raises(ViewError, match="ended without an answer"):
        descriptor_from_child(_die)
