"""Tells others how a run goes, in a process beside it: no backup waits for their answers."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from holdstill import process
from holdstill.errors import HoldstillError, shown
from holdstill.forks import Aside
from holdstill.records.json_text import text_of, value_of
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

STARTED = "started"
SECONDS = 10.0
"""How long a run that has ended waits for all of them together."""

_OWN_SECONDS = 9.0
"""After which each gives up by itself, and can say why."""
_ANSWER_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_ENDPOINTS = {STARTED: "/start", "ok": "", "skipped": "/log"}

Pause = Callable[[float], bool]
"""Waits so many seconds, and says whether there is something better to do by now."""


class Event(NamedTuple):
    """What has happened to a run."""

    name: str
    """STARTED, or the run's outcome."""
    job: str
    run_id: str
    title: str
    text: str
    record: str
    """As JSON."""


class Channel(NamedTuple):
    """How somebody is told: one of these is set. A URL is a secret."""

    ping_url: str = ""
    ping_url_file: str = ""
    command: tuple[str, ...] = ()
    apprise_url_file: str = ""


class Messenger:
    """Tells one channel of one run, in a process of its own that ends with the last event."""

    def __init__(self, channel: Channel, first: Event | None, death: Event | None) -> None:
        """Tell of the first event now; of the run's death if this process ends without a word."""
        self._last = os.memfd_create("holdstill-event")

        def work(parent: socket) -> None:
            _deliver(channel, first, lambda: _last_event(parent, self._last, death), parent)

        self._aside = Aside(work, (self._last,))

    def finish(self, last: Event | None) -> None:
        """Tell of the last event, if there is anything to tell; does not wait."""
        with open(self._last, "w", encoding="ascii") as file:
            file.write(text_of(last))
        with suppress(OSError):  # it has ended already: its answer says why
            self._aside.channel.send(b".")

    def complaint(self, deadline: float) -> str:
        """Return what could not be told and why, with no URL in it; empty if all could."""
        answer = self._aside.answer(deadline)
        return f"no answer within {SECONDS:.0f} s" if answer is None else answer


def _deliver(
    channel: Channel, first: Event | None, wait_for_last: Callable[[], Event | None], parent: socket
) -> None:
    problems: list[str] = []

    def tell(event: Event | None, pause: Pause) -> None:
        try:
            if event is not None:
                _tell(channel, event, pause)
        except HoldstillError as error:
            problems.append("; ".join(filter(None, (error.message, error.remedy))))

    tell(first, lambda seconds: bool(select.select([parent], [], [], seconds)[0]))
    tell(wait_for_last(), _wait)
    if problems:
        raise HoldstillError("; ".join(dict.fromkeys(problems)))


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _last_event(parent: socket, last: int, death: Event | None) -> Event | None:
    if not parent.recv(1):
        signal.alarm(round(SECONDS))  # there is nobody to end this
        return death
    with open(last, encoding="ascii") as file:
        file.seek(0)
        event = value_of(file.read())
    return None if event is None else Event(*event)


def _tell(channel: Channel, event: Event, pause: Pause) -> None:
    if channel.command:
        _run_command(channel.command, event)
    elif channel.apprise_url_file:
        _ask_apprise(channel.apprise_url_file, event)
    else:
        _ping(channel.ping_url or _content(channel.ping_url_file).strip(), event, pause)


def _run_command(argv: Sequence[str], event: Event) -> None:
    environment = {
        **os.environ,
        "HOLDSTILL_JOB": event.job,
        "HOLDSTILL_RUN_ID": event.run_id,
        "HOLDSTILL_OUTCOME": event.name,
    }
    record = os.memfd_create("holdstill-record")
    os.write(record, event.record.encode())
    os.lseek(record, 0, os.SEEK_SET)
    aside = Aside(lambda _: _run_whole(argv, environment, record), (record,))
    os.close(record)
    answer = aside.answer(time.monotonic() + _OWN_SECONDS)
    if answer is None:
        raise HoldstillError(f"{shown(argv[0])} was killed after {_OWN_SECONDS:.0f} s")
    if answer:
        raise HoldstillError(answer)


def _run_whole(argv: Sequence[str], environment: Mapping[str, str], record: int) -> None:
    """Run it in this process's session, which ends in time with all that it has started."""
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(round(SECONDS))
    os.dup2(record, 0)
    child = process.Child(environment=environment, before_exec=_unblock_signals)
    ended = process.run(argv, child)
    if ended.status:
        raise HoldstillError(f"{shown(argv[0])} ended with {ended.status}")


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _ask_apprise(path: str, event: Event) -> None:
    try:
        import apprise
    except ImportError:
        remedy = "install it: pip install 'holdstill[apprise]'"
        raise HoldstillError("Apprise is not installed", remedy=remedy) from None
    import logging

    logging.disable()  # it names URLs
    everybody = apprise.Apprise()
    for number, url in enumerate(_content(path).splitlines(), 1):
        if url.strip() and not url.startswith("#") and not everybody.add(url.strip()):
            raise HoldstillError(f"{shown(path)}:{number}: Apprise does not know such a URL")
    if not everybody.notify(body=event.text, title=event.title):
        raise HoldstillError("Apprise could not tell everybody")


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise HoldstillError(f"{shown(path)} cannot be read: {error.strerror}") from None


def _ping(url: str, event: Event, pause: Pause) -> None:
    from holdstill.records.ping import PingError, post, target_of

    target, endpoint = target_of(url), _ENDPOINTS.get(event.name, "/fail")
    body = event.text.encode("utf-8", "replace")
    deadline = time.monotonic() + _OWN_SECONDS
    wait = _PAUSE_SECONDS
    while True:
        try:
            return post(target, endpoint, body, min(_ANSWER_SECONDS, deadline - time.monotonic()))
        except PingError as error:
            has_time = time.monotonic() + wait < deadline
            if not (error.may_pass and has_time) or pause(wait):
                raise
        wait *= 2
