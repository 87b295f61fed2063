"""Configurations are written with comments, and load to exactly what was meant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.load import parse
from holdstill.config.model import Config, Job, Repository
from holdstill.config.upkeep import Keep
from holdstill.config.write import commented_toml
from tests.unit.test_config_show import CONFIGS

if TYPE_CHECKING:
    from holdstill.config.problems import Key

KEYS: st.SearchStrategy[Key] = st.sampled_from(
    [
        (),
        ("repositories", "nas"),
        ("repositories", "nas", "url"),
        ("jobs", "home"),
        ("jobs", "home", "exclude"),
        ("jobs", "home", "keep"),
        ("jobs", "home", "keep", "daily"),
    ]
)
LINES = st.lists(st.text() | st.binary().map(os.fsdecode), max_size=2).map(tuple)


@given(CONFIGS, st.dictionaries(KEYS, LINES, max_size=7))
def test_what_is_written_loads_to_the_same(
    config: Config, comments: dict[Key, tuple[str, ...]]
) -> None:
    """Whatever bytes its paths have, and whatever its comments say."""
    text = commented_toml(config, comments)
    assert parse(os.fsencode(text), "x.toml", {}) == config


def test_only_what_differs_from_the_defaults_is_written_below_its_comments() -> None:
    """A comment may speak of a key that is not set."""
    config = Config(
        repositories={"nas": Repository(url="rest:https://me:secret@nas/", password_file="/p")},
        jobs={
            "home": Job(
                paths=("/home", "/it's"),
                repositories=("nas",),
                exclude=tuple(f"/home/*/a long pattern {number}" for number in range(4)),
                keep=Keep(last=3),
            )
        },
    )
    comments: dict[Key, tuple[str, ...]] = {
        (): ("all of it",),
        ("repositories", "nas", "retry-lock"): ('retry-lock = "1h"',),
        ("jobs", "home"): ("a job",),
        ("jobs", "home", "keep"): ("what stays",),
    }
    assert (
        commented_toml(config, comments)
        == """\
# all of it

[repositories.nas]
url = "rest:https://me:secret@nas/"
password-file = "/p"
# retry-lock = "1h"

# a job
[jobs.home]
paths = ["/home", "/it's"]
repositories = ["nas"]
exclude = [
    "/home/*/a long pattern 0",
    "/home/*/a long pattern 1",
    "/home/*/a long pattern 2",
    "/home/*/a long pattern 3",
]

# what stays
[jobs.home.keep]
last = 3
"""
    )
