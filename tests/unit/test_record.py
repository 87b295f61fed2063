"""A run's record as JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from holdstill.records.json_text import text_of, value_of
from holdstill.records.record import Failure, LeftOutRecord, Outcome, RunRecord, as_json

ZONE = timezone(timedelta(hours=2))
RECORD = RunRecord(
    job="home",
    run_id="20261122T030000Z-6f3a9c",
    outcome=Outcome.FAILED,
    exit_status=1,
    started=datetime(2026, 11, 22, 5, 0, 0, tzinfo=ZONE),
    finished=datetime(2026, 11, 22, 5, 1, 2, 500000, tzinfo=ZONE),
    left_out=(LeftOutRecord("/a\udcff\n", "another mount", ""),),
    failure=Failure("it\nfailed", "try again"),
)


def test_is_one_line() -> None:
    """Whatever the texts hold."""
    assert "\n" not in as_json(RECORD)


def test_times_are_utc() -> None:
    """In RFC 3339 with microseconds, so that they sort as text."""
    record = json.loads(as_json(RECORD))
    assert record["started"] == "2026-11-22T03:00:00.000000Z"
    assert record["finished"] == "2026-11-22T03:01:02.500000Z"
    assert RECORD.seconds == 62.5


def test_bytes_that_are_not_utf_8_survive() -> None:
    """They are escapes in the JSON, and the same path again when it is read."""
    text = as_json(RECORD)
    assert text.isascii()
    assert json.loads(text)["left_out"][0]["path"] == "/a\udcff\n"


@pytest.mark.parametrize("text", ["plain", '\x00\n"\\', "é", "/a\udcff", "é\udcff"])
def test_every_text_is_the_same_again(text: str) -> None:
    """And ASCII in between, whatever reads it."""
    value = {text: [text, 1, 0.5, None, True]}
    assert text_of(value).isascii()
    assert value_of(text_of(value)) == json.loads(text_of(value)) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", "\udcff"])
def test_what_is_no_json_is_an_error(text: str) -> None:
    """Of the kind that the reader of the history names the row for."""
    with pytest.raises(ValueError, match=r"."):
        value_of(text)


def test_what_did_not_happen_is_null() -> None:
    """A run without a freeze has no instant."""
    record = json.loads(as_json(RECORD))
    assert record["frozen_at"] is record["hold_ms"] is record["instant"] is None
    assert (record["outcome"], record["snapshots"]) == ("failed", [])
