"""Notifications: what is asked of whom, and that nobody is waited for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.records import notifications
from holdstill.records.notifications import STARTED, Channel, Event, Messenger
from holdstill.records.ping import PingError, Target, post, target_of
from tests.listener import HANG, listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.listener import Listener

SECONDS = 60.0
"""For what takes no time at all on a machine that has some."""


def _event(name: str, text: str = "a text") -> Event:
    return Event(name, "home", "run-1", f"home: {name}", text, json.dumps({"outcome": name}))


@pytest.fixture
def server() -> Iterator[Listener]:
    """Run a server that takes pings."""
    with listener() as own:
        yield own


def _tell(channel: Channel, first: Event | None, last: Event | None) -> str:
    """Tell of two events; return the complaint."""
    messenger = Messenger(channel, first, None)
    messenger.finish(last)
    return messenger.complaint(time.monotonic() + SECONDS)


def test_a_ping_has_the_text_as_its_body(server: Listener) -> None:
    """Also what is not UTF-8 in a path."""
    assert _tell(Channel(ping_url=server.url), None, _event("ok", "ä \udcff")) == ""
    assert [(request.path, request.body) for request in server.requests] == [
        ("/secret-path", "ä ?")
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (STARTED, "/start"),
        ("ok", ""),
        ("partial", "/fail"),
        ("failed", "/fail"),
        ("interrupted", "/fail"),
        ("skipped", "/log"),
    ],
)
def test_each_event_has_its_place(server: Listener, name: str, path: str) -> None:
    """Where healthchecks.io has it; what stands behind a question mark stays there."""
    assert _tell(Channel(ping_url=f"{server.url}?create=1"), None, _event(name)) == ""
    assert server.paths == [f"{path}?create=1"]


def test_both_ends_are_told_by_one_process(server: Listener) -> None:
    """In their order, however soon the end comes."""
    assert _tell(Channel(ping_url=server.url), _event(STARTED), _event("ok")) == ""
    assert server.paths == ["/start", ""]


def test_nothing_is_told_of_an_end_that_nobody_wants(server: Listener) -> None:
    """Its start was all."""
    assert _tell(Channel(ping_url=server.url), _event(STARTED), None) == ""
    assert server.paths == ["/start"]


def test_nobody_waits_for_a_server_that_hangs(
    server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when a run begins, however long the server takes; and not for long when it has ended."""
    monkeypatch.setattr(notifications, "_ANSWER_SECONDS", 3600.0)
    monkeypatch.setattr(notifications, "_OWN_SECONDS", 3600.0)
    server.answers = [HANG]
    messenger = Messenger(Channel(ping_url=server.url), _event(STARTED), None)
    _until(lambda: server.paths == ["/start"])
    messenger.finish(_event("ok"))
    assert messenger.complaint(time.monotonic()) == "no answer within 10 s"


@pytest.mark.parametrize(
    ("patience", "complaint"), [(SECONDS, "sh was killed after 9 s"), (0, "no answer within 10 s")]
)
def test_who_is_late_is_killed(tmp_path: Path, patience: float, complaint: str) -> None:
    """With what it has started; soon also where nobody has waited for that."""
    script = f"echo $$ >{tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; sleep 1000"
    messenger = Messenger(Channel(command=("sh", "-c", f"{script}; true")), None, None)
    messenger.finish(_event("ok"))
    _until((tmp_path / "pid").exists)
    assert messenger.complaint(time.monotonic() + patience) == complaint
    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    _until(lambda: not os.path.exists(f"/proc/{pid}"))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_death_is_told_by_who_outlives_it(server: Listener) -> None:
    """A process that ends without a word leaves its messenger behind, for a moment."""
    child = os.fork()
    if child == 0:
        Messenger(Channel(ping_url=server.url), _event(STARTED), _event("interrupted", "died"))
        os._exit(0)
    os.waitpid(child, 0)
    _until(lambda: len(server.requests) == 2)
    assert (server.paths, server.requests[1].body) == (["/start", "/fail"], "died")


def test_a_messenger_holds_nothing_open(tmp_path: Path) -> None:
    """Least of all a lock: it may live longer than its run."""
    with open(tmp_path / "lock", "w", encoding="ascii") as lock:
        listing = ("sh", "-c", f"ls -l /proc/$PPID/fd /proc/self/fd >{tmp_path}/open")
        assert lock.fileno() > 2
        assert _tell(Channel(command=listing), _event(STARTED), None) == ""
    assert str(tmp_path / "lock") not in (tmp_path / "open").read_text(encoding="utf-8")


def test_a_secret_is_in_no_complaint(tmp_path: Path) -> None:
    """Whatever is wrong with its file."""
    path = tmp_path / "url"
    channel = Channel(ping_url_file=str(path))
    assert _tell(channel, None, _event("ok")) == f"{path} cannot be read: No such file or directory"
    path.write_text("ftp://secret", encoding="ascii")
    complaint = _tell(channel, None, _event("ok"))
    assert complaint == "the URL is none that begins with https:// or http://"


def test_a_program_that_is_no_http_server() -> None:
    """An SSH server, say: its greeting is no answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-Something\r\n")
                connection.recv(1 << 16)

        thread = threading.Thread(target=greet)
        thread.start()
        target = Target("http", "127.0.0.1", server.getsockname()[1], "/", "")
        with pytest.raises(PingError, match="is not HTTP"):
            post(target, "", b"", SECONDS)
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a certificate for localhost, with its key."""
    path = str(tmp_path_factory.mktemp("tls") / "certificate.pem")
    argv = [
        *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", path, "-out", f"{path}.public"),
    ]
    subprocess.run(argv, check=True, capture_output=True)
    with open(path, "a", encoding="ascii") as file:
        file.write(Path(f"{path}.public").read_text(encoding="ascii"))
    return path


def test_tls_is_checked(certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody has vouched for is told nothing."""
    with listener(certificate) as server:
        complaint = _tell(Channel(ping_url=server.url), None, _event("ok"))
        assert complaint == "TLS failed: certificate verify failed"
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.public")
        assert _tell(Channel(ping_url=server.url), _event(STARTED), _event("ok")) == ""
        assert server.paths == ["/start", ""]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hc-ping.com/uuid", Target("https", "hc-ping.com", 443, "/uuid", "")),
        ("http://[::1]:8000/ping/x?a=b&c", Target("http", "::1", 8000, "/ping/x", "?a=b&c")),
        ("http://nas", Target("http", "nas", 80, "", "")),
        ("http://nas?a", Target("http", "nas", 80, "", "?a")),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target) -> None:
    """As it stands in the configuration, which has checked it."""
    assert target_of(url) == target


@pytest.mark.parametrize(
    "url", ["", "https:///", "ftp://x/", "https://me:secret@x/", "http://x/a b", "http://x/#a", "x"]
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    """Without showing it."""
    with pytest.raises(PingError) as caught:
        target_of(url)
    assert not url or url not in caught.value.message
