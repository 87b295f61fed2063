"""What systemd is told of a run."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from holdstill.cli.progress import Service, reporter
from holdstill.restic.events import Status
from holdstill.systemd.notify import notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen where systemd would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{tmp_path}/notify")
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    """Return what has been told so far."""
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def variables(manager: socket.socket, **more: str) -> dict[str, str]:
    """Return the environment of a unit."""
    return {"PATH": "/bin", "NOTIFY_SOCKET": manager.getsockname(), **more}


def test_systemd_learns_of_the_beginning_and_the_end(manager: socket.socket) -> None:
    """And nobody that is started inherits the variables with which it could speak up."""
    environment = variables(manager, WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid()))
    with notifier(environment) as told:
        assert environment == {"PATH": "/bin"}
        assert heard(manager) == ["READY=1"]
        told.status("one\ntwo")
        assert heard(manager) == ["STATUS=one two"]
    assert heard(manager) == ["STOPPING=1"]


def test_a_pulse_is_sent_no_more_often_than_needed(manager: socket.socket) -> None:
    """A third of the time after which systemd would act; then the waiting goes on."""
    with notifier(variables(manager, WATCHDOG_USEC="9000000")) as told:
        first = told.pulse()
        assert first is not None
        assert first == pytest.approx(3, abs=0.01)
        told.pulse()
        assert heard(manager) == ["READY=1", "WATCHDOG=1"]


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}])
def test_no_pulse_where_none_is_expected(manager: socket.socket, more: dict[str, str]) -> None:
    """Without a watchdog, or with one that watches somebody else."""
    with notifier(variables(manager, **more)) as told:
        assert told.pulse() is None


def test_nobody_has_to_listen(manager: socket.socket, tmp_path: Path) -> None:
    """Without systemd, or after its socket is gone, a run goes on."""
    with notifier({}) as told:
        assert not told.is_heard
        told.status("x")
    environment = variables(manager)
    os.unlink(f"{tmp_path}/notify")
    with notifier(environment) as told:
        told.status("x")


def test_an_abstract_socket_is_reached() -> None:
    """`@` stands for the zero byte that such names begin with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel gives it an abstract name
        listening.setblocking(False)
        name = listening.getsockname()
        with notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()}):
            assert heard(listening) == ["READY=1"]


def test_phases_and_progress_are_shown(
    manager: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    """In `systemctl status`; the log gets the phases alone."""
    with notifier(variables(manager)) as told, reporter(told) as watcher:
        assert isinstance(watcher, Service)
        watcher.phase("data", "backing up to nas")
        watcher.progress("data", "nas", Status(percent_done=0.25, bytes_done=512, total_bytes=2048))
        assert heard(manager)[1:] == [
            "STATUS=data: backing up to nas",
            "STATUS=data: backing up to nas: 25%, 512 B of 2.0 KiB",
        ]
    assert capsys.readouterr().err == "holdstill: data: backing up to nas\n"
