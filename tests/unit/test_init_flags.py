"""What the flags of `init` take, and what it prints for cron."""

from __future__ import annotations

import argparse

import pytest

from holdstill.cli import init
from holdstill.cli.init import _calendar, _keep, _name, _url, cron_line
from holdstill.cli.interview import Made
from holdstill.config.model import Repository
from holdstill.config.upkeep import Keep
from holdstill.jobs.draft import draft
from holdstill.jobs.proposal import ProposedJob


def test_a_retention_is_counts_of_units() -> None:
    """With those of the configuration's keep table."""
    assert _keep("daily=7, yearly=2") == Keep(daily=7, yearly=2)
    assert _keep("everything") is None


@pytest.mark.parametrize(
    "text", ["", "daily", "daily=x", "days=7", "daily=7,", "daily=0", "last=-1"]
)
def test_a_retention_that_makes_no_sense_is_refused(text: str) -> None:
    """None of these is a way to say "keep everything"."""
    with pytest.raises(argparse.ArgumentTypeError):
        _keep(text)


def test_names_urls_and_calendars_are_checked_before_anything_is_looked_at() -> None:
    """By the rules of the configuration."""
    for kind, text in ((_name, "a b"), (_url, "relative"), (_url, ""), (_calendar, "a\nb")):
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)
    assert _calendar("never") == ""
    assert _calendar("daily") == "daily"


def test_the_last_line_makes_the_first_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it stands the way to systemd's timer, or to cron where systemd is not in charge."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = draft(
        [ProposedJob("a", ("/a",))], Repository(url="/r", password_file="/p"), None, "1:02"
    )
    known = Made(made, made.config)
    for can_schedule in (True, False):
        monkeypatch.setattr(init, "_can_schedule", lambda can=can_schedule: can)
        steps = list(init._next_steps(known, "/etc/holdstill/config.toml", ["1:02"]))
        assert steps[-1].split() == ["holdstill", "backup", "the", "first", "backup"]
        text = "\n".join(steps)
        assert ("  holdstill schedule install  " in text) == can_schedule
        assert ("    2 1 * * * root /" in text) != can_schedule
    monkeypatch.setenv("SUDO_USER", "me")
    *_, last = init._next_steps(known, "/a b", [])
    assert last.startswith("  sudo holdstill --config '/a b' backup  ")


@pytest.mark.parametrize(
    ("calendar", "times"),
    [
        ("*-*-* 03:00:00", "0 3"),
        ("*-*-* 4:05", "5 4"),
        ("23:59", "59 23"),
        ("Sun 04:00", "0 3"),
        ("weekly", "0 3"),
    ],
)
def test_cron_gets_the_time_of_a_daily_calendar(calendar: str, times: str) -> None:
    """Any other becomes every night at three."""
    line = cron_line(calendar, "/usr/local/bin/holdstill --config /x")
    assert line == f"{times} * * * root /usr/local/bin/holdstill --config /x backup"
