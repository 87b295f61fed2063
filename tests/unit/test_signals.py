"""Signals as things to be read."""

from __future__ import annotations

import os
import select
import signal
import threading
import traceback
from functools import wraps
from typing import TYPE_CHECKING

import pytest

from holdstill.linux.signals import TERMINATING, Signals

if TYPE_CHECKING:
    from collections.abc import Callable


def _send(number: signal.Signals) -> None:
    """Send a signal to this thread alone: the tests' runner may have others, which block none."""
    signal.pthread_kill(threading.get_ident(), number)


@pytest.mark.parametrize("number", TERMINATING)
def test_a_terminating_signal_waits_to_be_read(number: signal.Signals) -> None:
    """It ends nothing, and says who sent it: a program, not the terminal."""
    with Signals() as signals:
        _send(number)
        assert select.select([signals], [], [], 1)[0] == [signals]
        received = signals.read()
        assert received is not None
        assert (received.number, received.from_terminal) == (number, False)
        assert signals.last == number
        assert signals.read() is None


def test_nothing_has_arrived_at_first() -> None:
    """Reading never waits."""
    with Signals() as signals:
        assert signals.read() is None
        assert signals.last is None


def test_other_signals_are_left_alone() -> None:
    """Only those that would end the program are blocked."""
    with Signals():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= set(TERMINATING)
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_mask_is_as_before_afterwards() -> None:
    """And the descriptor is closed."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with Signals() as signals:
        descriptor = signals.fileno()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_what_was_not_read_ends_nothing_afterwards() -> None:
    """A signal that came during the clean-up is dropped with its purpose, but remembered."""
    with Signals() as signals:
        _send(signal.SIGTERM)
    assert signals.last == signal.SIGTERM


def test_an_ignored_signal_stays_ignored() -> None:
    """nohup(1): blocked it would queue up, and be acted upon."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            _send(signal.SIGHUP)
            assert signals.read() is None
            assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_child_gets_the_mask_of_before() -> None:
    """A mask survives exec; the command must not start with signals blocked."""
    with Signals() as signals:
        before = signals._previous
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signals.restore_in_child()
            os.write(writer, repr(signal.pthread_sigmask(signal.SIG_BLOCK, []) == before).encode())
            os._exit(0)
        os.waitpid(child, 0)
        answer = os.read(reader, 16)
    os.close(reader)
    os.close(writer)
    assert answer == b"True"


def _in_a_process_of_its_own(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test where there is one thread: a timer's signal goes to any that does not block it."""

    @wraps(test)
    def run() -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                test()
                status = 0
            finally:
                traceback.print_exc()
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    return run


@_in_a_process_of_its_own
def test_a_limit_arrives_like_a_signal() -> None:
    """It can be waited for, is not taken for a signal of somebody's, and ends with its body."""
    with Signals() as signals:
        with signals.limit(0.01):
            assert select.select([signals], [], [], 5)[0] == [signals]
            received = signals.read()
            assert received is not None
            assert (received.number, received.from_terminal) == (signal.SIGALRM, False)
        assert (signals.expired, signals.last) == (True, None)
        with signals.limit(60):
            assert not signals.expired
        assert signals.read() is None
        assert signal.SIGALRM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@_in_a_process_of_its_own
def test_a_limit_that_nobody_noticed_leaves_nothing() -> None:
    """Not even a signal that would end the program later."""
    with Signals() as signals:
        with signals.limit(0.01):
            select.select([signals], [], [], 5)
        assert (signals.read(), signals.expired) == (None, False)


def test_no_limit() -> None:
    """Nothing is set, and what an earlier limit did is forgotten."""
    with Signals() as signals, signals.limit(None):
        assert not signals.expired
        assert select.select([signals], [], [], 0)[0] == []
