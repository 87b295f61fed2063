"""Showing the configuration: as TOML, as JSON, and its schema."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.load import parse
from holdstill.config.model import Config, Job, Repository
from holdstill.config.schema import json_schema
from holdstill.config.show import as_dict, as_json, as_toml
from holdstill.config.upkeep import Keep, Prune
from holdstill.errors import ConfigurationError

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,8}", fullmatch=True)
STRINGS = st.binary(min_size=1, max_size=9).map(os.fsdecode).filter(lambda s: "\0" not in s)
WORDS = STRINGS.filter(lambda s: "," not in s and bool(s.strip()))
PATHS = st.lists(
    STRINGS.map(lambda s: s.replace("/", "_")).filter(lambda s: s not in {".", ".."}), max_size=3
).map(lambda parts: "/" + "/".join(parts))
LINES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=9)


def several(
    values: st.SearchStrategy[str], at_least: int = 0
) -> st.SearchStrategy[tuple[str, ...]]:
    """Return tuples of distinct values."""
    return st.lists(values, min_size=at_least, max_size=3, unique=True).map(tuple)


URLS = PATHS | PATHS.map(lambda path: "local:" + path) | st.just("sftp:backup@nas:/srv/restic")
REPOSITORIES = (
    st.builds(Repository, url=URLS, password_file=PATHS)
    | st.builds(Repository, url=URLS, password_command=STRINGS, environment_file=PATHS)
    | st.builds(Repository, url=URLS, environment_file=PATHS)
)
KEEPS = st.builds(
    Keep,
    last=st.integers(1, 99),
    daily=st.integers(0, 99),
    within=st.sampled_from(["", "1y5m7d2h"]),
    group_by=several(st.sampled_from(["host", "paths", "tags"])),
)
PRUNES = st.none() | st.builds(Prune, max_unused=st.sampled_from(["", "5G", "5%", "unlimited"]))
RETENTIONS = st.tuples(st.none(), st.none()) | st.tuples(KEEPS, PRUNES)
JOBS = st.builds(
    lambda retention, **keys: Job(keep=retention[0], prune=retention[1], **keys),
    retention=RETENTIONS,
    paths=several(PATHS, 1),
    repositories=several(st.sampled_from(["nas", "off.site@2"]), 1),
    tags=several(WORDS),
    exclude=several(STRINGS),
    exclude_files=several(PATHS),
    exclude_if_present=several(STRINGS),
    schedule=LINES,
)


def with_own_tags(config: Config) -> Config:
    """Tell the jobs apart, which a configuration with retentions has to."""
    jobs = {
        name: msgspec.structs.replace(job, tags=(*job.tags, f"the tag of {name}"))
        for name, job in config.jobs.items()
    }
    return msgspec.structs.replace(config, jobs=jobs)


CONFIGS = st.builds(
    Config,
    repositories=st.fixed_dictionaries({"nas": REPOSITORIES, "off.site@2": REPOSITORIES}),
    jobs=st.dictionaries(NAMES, JOBS, min_size=1, max_size=2),
    state_directory=PATHS,
    cache_directory=PATHS,
).map(with_own_tags)
SMALL = Config(
    repositories={"nas": Repository(url="rest:https://me:secret@nas/", password_file="/p")},
    jobs={"home": Job(paths=("/home",), repositories=("nas",))},
)


@given(CONFIGS)
def test_what_is_shown_loads_again_to_the_same(config: Config) -> None:
    """The TOML that is printed is a configuration, whatever bytes its paths have."""
    assert parse(os.fsencode(as_toml(config)), "x.toml", {}) == config


@given(CONFIGS)
def test_json_says_the_same_as_toml(config: Config) -> None:
    """Both come from one dictionary with the keys of the file."""
    assert json.loads(as_json(config)) == json.loads(json.dumps(as_dict(config)))


def test_password_in_a_url_is_not_shown() -> None:
    """What is shown can be pasted into a bug report."""
    assert "secret" not in as_toml(SMALL) + as_json(SMALL)
    assert 'url = "rest:https://me:***@nas/"' in as_toml(SMALL)


def test_defaults_are_shown_and_what_is_not_set_is_not() -> None:
    """A reader sees what is in force."""
    shown = as_dict(SMALL)
    assert shown["state-directory"] == "/var/lib/holdstill"
    assert shown["repositories"]["nas"].keys() == {"url", "password-file", "retry-lock"}
    assert "keep" not in shown["jobs"]["home"]


def test_directories_of_the_environment_are_shown() -> None:
    """What systemd sets is in force, too."""
    text = as_toml(SMALL).replace("state-directory", "# ").encode()
    config = parse(text, "x.toml", {"STATE_DIRECTORY": "/systemd"})
    assert as_dict(config)["state-directory"] == "/systemd"


def test_schema_describes_every_key_and_allows_no_other() -> None:
    """An editor can complete and explain each key."""
    tables = json_schema()["$defs"]
    assert tables.keys() == {
        "Config",
        "Repository",
        "Job",
        "Keep",
        "Prune",
        "Check",
        "Notification",
    }
    for table in tables.values():
        assert table["additionalProperties"] is False
        assert table["description"]
        assert all(key["description"] for key in table["properties"].values())


@pytest.fixture(scope="module")
def validator() -> Any:  # noqa: ANN401 (jsonschema is optional)
    """Return a validator of the schema, having checked the schema itself."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


@given(config=CONFIGS)
def test_schema_accepts_whatever_loads(validator: Any, config: Config) -> None:  # noqa: ANN401
    """No valid configuration is underlined in red."""
    validator.validate(json.loads(as_json(config)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("paths", "/x"),
        ("paths", []),
        ("paths", ["x"]),
        ("tag", []),
        ("keep", {"daily": -1}),
        ("keep", {"daily": 1, "group-by": ["path"]}),
        ("prune", {}),
    ],
)
def test_schema_refuses_what_does_not_load(validator: Any, key: str, value: object) -> None:  # noqa: ANN401
    """The usual mistakes are seen while typing, and by `config check`."""
    document = as_dict(SMALL)
    document["jobs"]["home"][key] = value
    assert not validator.is_valid(json.loads(json.dumps(document)))
    with pytest.raises(ConfigurationError):
        parse(tomli_w.dumps(document).encode(), "x.toml", {})
