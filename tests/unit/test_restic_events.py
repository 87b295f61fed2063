"""restic's JSON lines, as its versions print them and as nobody should."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.process import LONGEST_LINE
from holdstill.restic.events import (
    LONGEST_TEXT,
    ExitError,
    Forgotten,
    ItemError,
    Status,
    Summary,
    Text,
    decode,
    decode_forget,
    printable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
KINDS = st.sampled_from(["status", "verbose_status", "summary", "error", "exit_error", "new"])
FIELDS = st.sampled_from(
    ["percent_done", "files_new", "snapshot_id", "data_added_packed", "error", "item", "code"]
)


def test_status_says_how_far_it_is() -> None:
    """Fields that are missing at the start are zeros."""
    line = b'{"message_type":"status","percent_done":0.5,"total_files":2,"current_files":["/a"]}'
    assert decode(line) == Status(percent_done=0.5, total_files=2, current_files=("/a",))


def test_summary_of_0_14_has_no_packed_size() -> None:
    """What a version does not tell is unknown, not zero."""
    line = (
        b'{"message_type":"summary","files_new":1,"dirs_new":3,"data_blobs":1,"tree_blobs":4,'
        b'"data_added":1400,"total_files_processed":1,"total_bytes_processed":2,'
        b'"total_duration":0.211736859,"snapshot_id":"bdcd962d"}'
    )
    assert decode(line) == Summary(
        snapshot_id="bdcd962d",
        files_new=1,
        dirs_new=3,
        data_added=1400,
        data_added_packed=None,
        total_files_processed=1,
        total_bytes_processed=2,
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            '{"message":"failed to save /x: permission denied"}',
            "failed to save /x: permission denied",
        ),
        ('{"Op":"read","Path":"/x","Err":5}', "read: Input/output error"),
        ('{"Op":"read","Path":"/x","Err":9999}', "read: 9999"),
        ('"plain"', "plain"),
        ("{}", "could not be read"),
        ("null", "could not be read"),
        ("[1]", "could not be read"),
    ],
)
def test_error_has_a_message_on_every_version(error: str, message: str) -> None:
    """Before 0.17 an error is whatever Go's type is made of."""
    line = f'{{"message_type":"error","error":{error},"during":"archival","item":"/x"}}'.encode()
    event = decode(line)
    assert isinstance(event, ItemError)
    assert (event.item, event.during, event.message) == ("/x", "archival", message)


def test_exit_error_says_why() -> None:
    """The last line of a restic from 0.18 on."""
    line = b'{"message_type":"exit_error","code":12,"message":"Fatal: wrong password"}'
    assert decode(line) == ExitError(12, "Fatal: wrong password")


def test_kinds_of_no_interest_are_ignored() -> None:
    """Those of -vv and those of versions to come."""
    assert decode(b'{"message_type":"verbose_status","action":"unchanged"}') is None
    assert decode(b'{"message_type":"from the future","files_new":"x"}') is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain words", "plain words"),
        (b"\x1b[2Ksignal interrupt received\r", "signal interrupt received"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[1]", "[1]"),
        (b'{"no":"kind"}', '{"no":"kind"}'),
        (b'{"message_type":7}', '{"message_type":7}'),
        (b'{"message_type":"summary","files_new":"many"}',) * 2,
        (b"", ""),
    ],
)
def test_rubbish_is_a_text(line: bytes, text: str | bytes) -> None:
    """It is shown as it came, without anything that a terminal obeys."""
    assert decode(line) == Text(text if isinstance(text, str) else text.decode())


def test_deep_rubbish_is_a_text() -> None:
    """Nesting deeper than Python's stack is no reason to fail."""
    assert isinstance(decode(b'{"message_type":"status","x":' + b"[" * 100_000), Text)


@given(st.binary())
def test_no_bytes_raise(line: bytes) -> None:
    """Whatever stands in restic's place may print whatever it likes."""
    decode(line)
    decode(b"{" + line)
    decode_forget(line)
    decode_forget(b"[{" + line)


@given(KINDS, st.dictionaries(FIELDS | st.text(), JSON))
def test_no_json_raises(kind: str, fields: dict[str, object]) -> None:
    """Fields of any type under any known kind."""
    event = decode(json.dumps(fields | {"message_type": kind}).encode())
    if isinstance(event, ItemError):
        clipped = event.clipped()
        assert clipped.message.isprintable()
        assert clipped.item.isprintable()


@given(st.text())
def test_shown_text_is_one_short_printable_line(text: str) -> None:
    """A file's name cannot forge a line or fill the memory."""
    assert printable(text).isprintable()
    assert len(printable(text * 1000)) <= LONGEST_TEXT


def test_forget_counts_over_all_groups() -> None:
    """The answer says null where a group has nothing to remove."""
    groups: list[dict[str, object]] = [
        {"tags": None, "keep": [{}, {}], "remove": None, "reasons": []},
        {"tags": None, "keep": [{}], "remove": [{}, {}, {}], "reasons": []},
    ]
    assert decode_forget(json.dumps(groups).encode()) == Forgotten(kept=3, removed=3)


@pytest.mark.parametrize(
    "line",
    [b"[0:00] 100.00%  52 / 52 packs repacked", b"repacking packs", b"", b"{}", b'[{"keep":1}]'],
)
def test_words_of_prune_are_no_answer(line: bytes) -> None:
    """Before 0.19 they follow the JSON, and some begin with a bracket."""
    assert decode_forget(line) is None


def test_answer_that_was_cut_off_is_an_answer_with_unknown_counts() -> None:
    """Thousands of snapshots make a line longer than what is kept of one."""
    line = b'[{"keep":[' + b" " * LONGEST_LINE
    assert decode_forget(line[:LONGEST_LINE]) == Forgotten(None, None)
