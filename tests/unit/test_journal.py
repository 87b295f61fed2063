"""The journal: what is said there, and what happens where it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.cli import messages
from holdstill.errors import HoldstillError
from holdstill.systemd import journal
from tests.journal import Journal, decoded
from tests.journal import journal as journal_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


Said = Callable[[Callable[[], None]], str]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Return what an action writes to standard error, a file that systemd calls the journal's."""

    def run(action: Callable[[], None]) -> str:
        kept = os.dup(2)  # only now: pytest moves it between a fixture and its test
        with open(tmp_path / "stderr", "w+", encoding="utf-8") as file:
            os.dup2(file.fileno(), 2)
            monkeypatch.setattr("sys.stderr", file)
            try:
                action()
            finally:
                os.dup2(kept, 2)
                os.close(kept)
            file.seek(0)
            return file.read()

    (tmp_path / "stderr").touch()
    found = os.stat(tmp_path / "stderr")
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    return run


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """Take entries where holdstill looks for the journal."""
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "socket"))
    with journal_at(journal.SOCKET) as found:
        yield found


def test_a_message_is_an_entry_with_its_priority(said: Said, entries: Journal) -> None:
    """And with the fields of the run; it stands nowhere else."""

    def action() -> None:
        messages.say("data: frozen", fields=messages.fields_of("data", "run-1"))
        messages.warn("something")
        messages.say_error(HoldstillError("it failed", remedy="do this"))

    assert said(action) == ""
    plain, warned, failed = entries.entries()
    assert plain == {
        "MESSAGE": "data: frozen",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "holdstill",
        "HOLDSTILL_JOB": "data",
        "HOLDSTILL_RUN_ID": "run-1",
    }
    assert (warned["PRIORITY"], warned["MESSAGE"]) == ("4", "warning: something")
    assert (failed["PRIORITY"], failed["MESSAGE"]) == ("3", "error: it failed\n  do this")


def test_without_a_socket_each_line_has_its_priority(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd reads it from standard error."""
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "nowhere"))
    text = said(lambda: messages.say_failure("it failed", "do this"))
    assert text == "<3>error: it failed\n<3>  do this\n"


@pytest.mark.parametrize("stream", ["", "0:0", "nonsense"])
def test_a_redirected_standard_error_is_no_journal(
    said: Said, entries: Journal, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """The variable is inherited, the file is another one: who has redirected it wants to see it."""
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert said(lambda: messages.warn("something")) == "holdstill: warning: something\n"
    assert entries.entries() == []


def test_a_message_beyond_all_measure_is_cut(said: Said, entries: Journal) -> None:
    """A datagram has a limit, and an entry without its end is better than none."""
    assert said(lambda: messages.say("x" * 10_000_000)) == ""
    (entry,) = entries.entries()
    assert len(entry["MESSAGE"]) == 1 << 16


VALUES = st.text(st.characters(exclude_categories=["Cs"])) | st.binary().map(os.fsdecode)


@given(entry=st.dictionaries(st.from_regex("[A-Z][A-Z_]{0,9}", fullmatch=True), VALUES))
def test_whatever_a_field_holds_arrives(entry: dict[str, str]) -> None:
    """Line feeds, equals signs, bytes that are not UTF-8."""
    assert decoded(journal.encoded(entry)) == entry
