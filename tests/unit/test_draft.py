"""The first configuration, before it is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdstill.config.load import parse
from holdstill.config.model import Repository
from holdstill.config.origin import read
from holdstill.config.rules import normalised
from holdstill.jobs.draft import KEEP, draft, draft_of_origin, repository_name
from holdstill.jobs.proposal import ProposedJob, job_name
from tests.unit.test_config_show import LINES, PATHS

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/mnt/disk/restic", "disk"),
        ("local:/mnt/disk", "disk"),
        ("sftp:backup@nas:/srv/restic", "nas"),
        ("sftp:nas.example.org:/srv/restic", "nas"),
        ("sftp://backup@nas:2222//srv/restic", "nas"),
        ("sftp:backup@192.168.1.5:/x", "192.168.1.5"),
        ("rest:https://user:secret@box.local:8000/", "box"),
        ("rest:https://[::1]:8000/", "rest"),
        ("s3:s3.amazonaws.com/bucket", "s3"),
        ("b2:bucket:path", "b2"),
        ("rclone:remote:path", "rclone"),
    ],
)
def test_a_repository_is_named_after_its_host_or_its_kind(url: str, name: str) -> None:
    """Short enough for every line of a report."""
    assert repository_name(url) == name


@given(st.lists(PATHS.map(normalised), min_size=1, max_size=4, unique=True), PATHS, LINES)
def test_a_draft_loads_to_itself_whatever_its_paths(
    paths: Sequence[str], password: str, schedule: str
) -> None:
    """What was proposed is what will be run."""
    names: list[str] = []
    for path in paths:
        names.append(job_name(path, names))
    jobs = [ProposedJob(n, (p,), (p + "/x",)) for n, p in zip(names, map(str, paths), strict=True)]
    jobs = [one._replace(nested_exclude=tuple(map(normalised, one.nested_exclude))) for one in jobs]
    made = draft(jobs, Repository(url="/r", password_file=password), KEEP, schedule)
    assert parse(os.fsencode(made.text), "x.toml", {}) == made.config


def test_a_draft_explains_itself() -> None:
    """Whoever opens it later finds what to know beside each key."""
    made = draft(
        [ProposedJob("data", ("/srv/data",))],
        Repository(url="sftp:backup@nas:/srv/restic", password_file="/etc/holdstill/nas.password"),
        KEEP,
        "*-*-* 03:00:00",
    )
    assert (
        made.text
        == """\
# The configuration of holdstill. What else can be said: holdstill config schema
# After a change: holdstill config check

[repositories.nas]
url = "sftp:backup@nas:/srv/restic"
# Keep a copy of this password elsewhere: without it no backup can be read.
password-file = "/etc/holdstill/nas.password"

[jobs.data]
# Frozen together, at one instant, with the subvolumes nested in them.
# What that is, and what is left out: holdstill plan
paths = ["/srv/data"]
repositories = ["nas"]
tags = ["data"]
# exclude = ["*.tmp", "/home/*/.cache"]  # what restic leaves out
# A calendar of systemd (man systemd.time).
schedule = "*-*-* 03:00:00"

# How many backups stay: the last ones, and one for each of so many days ...
[jobs.data.keep]
last = 3
daily = 14
weekly = 8
monthly = 12

# Data that no backup uses any more are removed after each backup.
[jobs.data.prune]
"""
    )


def test_nothing_is_pruned_where_everything_is_kept() -> None:
    """A prune table without a keep table would be an error."""
    made = draft([ProposedJob("a", ("/a",))], Repository(url="/r", password_file="/p"), None, "")
    assert parse(made.text.encode(), "x.toml", {}) == made.config
    assert "prune" not in made.text


def test_a_draft_of_the_origin_says_what_became_of_nested_subvolumes() -> None:
    """The one thing that holdstill would do otherwise by itself."""
    text = (
        "BACKUP_PATHS=/a\nRETENTION_DAYS=1\nRETENTION_WEEKS=1\nRETENTION_MONTHS=1\n"
        "RETENTION_YEARS=1\nRESTIC_PASSWORD=x\nBACKUP_EXCLUDES=--exclude=y"
    )
    origin = read(text, "x.env", "/x.env")
    origin = origin._replace(repository=replace(origin.repository, url="/r"))
    made = draft_of_origin(origin, "a", "daily")
    assert parse(made.text.encode(), "x.toml", {}) == made.config
    lines = made.text.splitlines()
    assert "--one-file-system" in lines[lines.index('nested = "skip"') - 1]
