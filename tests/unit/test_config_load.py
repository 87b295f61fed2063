"""Reading the configuration: what loads, and what is said about what does not."""

from __future__ import annotations

import os
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.load import load, locate, parse
from holdstill.config.model import Config, Job, Repository
from holdstill.config.upkeep import Keep, Prune
from holdstill.errors import ConfigurationError

DESIGN = """\
# state-directory = "/var/lib/holdstill"    runtime-directory = "/run/holdstill"

[repositories.nas]
url = "sftp:backup@nas:/srv/restic"          # what restic's --repo takes
password-file = "/etc/holdstill/nas.password" # or password-command, or password-credential
# environment-file = "/etc/holdstill/nas.env"

[jobs.biggadisk]
paths = ["/mnt/biggadisk"]
repositories = ["nas"]
tags = ["systemd.timer"]
exclude = []
exclude-files = ["/mnt/biggadisk/.restic_exclude"]
exclude-if-present = [".resticignore"]
schedule = "*-*-* 03:00:00"                   # systemd calendar

[jobs.biggadisk.keep]
daily = 14
weekly = 8
monthly = 12
yearly = 5
group-by = ["paths", "tags"]

[jobs.biggadisk.prune]
max-unused = "5G"
"""
SMALL = """\
[repositories.nas]
url = "/srv/restic"
password-file = "/etc/holdstill/nas.password"
[jobs.home]
paths = ["/home"]
repositories = ["nas"]
"""
REPOSITORIES = SMALL[: SMALL.index("[jobs")]
SECRET = "hunter2"


def read(text: str, **environment: str) -> Config:
    """Parse a configuration that is written as text."""
    return parse(text.encode(), "/etc/x.toml", environment)


def complaints(text: str, **environment: str) -> list[str]:
    """Return the problems of a configuration, one line each."""
    with pytest.raises(ConfigurationError) as caught:
        read(text, **environment)
    return [line.strip() for line in caught.value.message.split("\n")[1:]]


def test_example_of_the_design_loads_unchanged() -> None:
    """The documented example means what it says."""
    assert read(DESIGN) == Config(
        repositories={
            "nas": Repository(
                url="sftp:backup@nas:/srv/restic", password_file="/etc/holdstill/nas.password"
            )
        },
        jobs={
            "biggadisk": Job(
                paths=("/mnt/biggadisk",),
                repositories=("nas",),
                tags=("systemd.timer",),
                exclude_files=("/mnt/biggadisk/.restic_exclude",),
                exclude_if_present=(".resticignore",),
                schedule="*-*-* 03:00:00",
                keep=Keep(daily=14, weekly=8, monthly=12, yearly=5),
                prune=Prune(max_unused="5G"),
            )
        },
    )


def test_directories_have_defaults() -> None:
    """Without a key or a variable the usual system directories are used."""
    config = read(SMALL)
    assert config.state_directory == "/var/lib/holdstill"
    assert config.runtime_directory == "/run/holdstill"
    assert config.cache_directory == "/var/cache/holdstill"


def test_systemd_sets_the_directories() -> None:
    """Of several directories in systemd's variables the first is taken."""
    config = read(SMALL, STATE_DIRECTORY="/a:/b", RUNTIME_DIRECTORY="/c/", CACHE_DIRECTORY="")
    assert config.state_directory == "/a"
    assert config.runtime_directory == "/c"
    assert config.cache_directory == "/var/cache/holdstill"


def test_file_has_the_last_word_on_directories() -> None:
    """A key in the file wins over systemd's variable."""
    config = read('state-directory = "/mine"\n' + SMALL, STATE_DIRECTORY="/systemd")
    assert config.state_directory == "/mine"


def test_relative_directory_from_the_environment_names_the_variable() -> None:
    """The reader learns that it is the variable that is wrong, not the file."""
    assert complaints(SMALL, CACHE_DIRECTORY="x") == [
        'CACHE_DIRECTORY: must be an absolute path, not "x"'
    ]


def test_paths_are_normalised() -> None:
    """Trailing and doubled slashes make no other path."""
    config = read(SMALL.replace('"/home"', '"//srv//a/./b/", "/"'))
    assert config.jobs["home"].paths == ("/srv/a/b", "/")


def test_nested_paths_are_allowed() -> None:
    """One source may lie inside another."""
    config = read(SMALL.replace('"/home"', '"/home", "/home/me"'))
    assert config.jobs["home"].paths == ("/home", "/home/me")


def test_path_that_is_not_utf8_stands_in_the_file_raw() -> None:
    """A path is its bytes, whatever they are."""
    config = parse(SMALL.encode().replace(b"/home", b"/ho\xffme"), "x", {})
    assert os.fsencode(config.jobs["home"].paths[0]) == b"/ho\xffme"


def test_hostile_but_possible_paths_work() -> None:
    """Spaces, quotes and newlines are part of names."""
    config = read(SMALL.replace('"/home"', r'''"/a b'\"\n$x"'''))
    assert config.jobs["home"].paths == ("/a b'\"\n$x",)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('paths = "/x"', 'jobs.a.paths: must be a list of strings, like ["/x"], not "/x"'),
        ("paths = []", ('jobs.a.paths: must list at least one path, like ["/srv/data"], '
         "not an empty list")),
        ("paths = [3]", "jobs.a.paths[0]: must be a string, not 3"),
        ('paths = ["x"]', 'jobs.a.paths[0]: must be an absolute path, not "x"'),
        ('paths = [""]', 'jobs.a.paths[0]: must be an absolute path, not ""'),
        ('paths = ["/x/../y"]', 'jobs.a.paths[0]: must be a path without `..`, not "/x/../y"'),
        ('paths = ["/x", "/x/"]', 'jobs.a.paths[1]: must be listed once only, not "/x"'),
        (r'paths = ["/x\u0000"]', ('jobs.a.paths[0]: must not contain a NUL character, '
         r'not "/x\x00"')),
        ("tags = [1.5]", "jobs.a.tags[0]: must be a string, not 1.5"),
        ('tags = ["a,b"]', ('jobs.a.tags[0]: must be a tag that has no comma and is not empty, '
         'not "a,b"')),
        ('tags = [" "]', ('jobs.a.tags[0]: must be a tag that has no comma and is not empty, '
         'not " "')),
        ('exclude = ["*.o", ""]', 'jobs.a.exclude[1]: must not be empty, not ""'),
        ('exclude-files = ["x"]', 'jobs.a.exclude-files[0]: must be an absolute path, not "x"'),
        ('schedule = "daily\\nExecStart=x"', ("jobs.a.schedule: must be one line of printable "
         'text, not "daily\\x0aExecStart=x"')),
        ("schedule = 03:00:00", ("jobs.a.schedule: must be a string, like "
         '"*-*-* 03:00:00", not a date or time')),
        ("exclude_files = []", ("jobs.a.exclude_files: is not a known key; "
         "did you mean exclude-files?")),
        ("keep = 3", "jobs.a.keep: must be a table, like [jobs.a.keep], not 3"),
        ("keep = {}", ("jobs.a.keep: must set at least one of last, hourly, daily, weekly, "
         "monthly, yearly and within: it would keep nothing")),
        ("keep.daly = 1", "jobs.a.keep.daly: is not a known key; did you mean daily?"),
        ('keep.daily = "7"', 'jobs.a.keep.daily: must be a whole number, like 7, not "7"'),
        ("keep.daily = true", "jobs.a.keep.daily: must be a whole number, like 7, not true"),
        ("keep.daily = -1", "jobs.a.keep.daily: must be from 0 to 999999999, not -1"),
        ('keep.within = "5x"', ("jobs.a.keep.within: must be years, months, days and hours, "
         'like 1y5m7d2h, not "5x"')),
        ('keep.within = "0d"', 'jobs.a.keep.within: must be longer than nothing, not "0d"'),
        ('keep = {last = 1, group-by = ["path"]}', ("jobs.a.keep.group-by[0]: must be one of "
         'host, paths, tags, not "path"; did you mean paths?')),
        ('keep = {last = 1, group-by = ["host", "host"]}', ("jobs.a.keep.group-by[1]: must be "
         'listed once only, not "host"')),
        ("prune = {}", ("jobs.a: has a prune table but no keep table: without retention there "
         "is nothing to prune")),
        ('keep.last = 1\nprune.max-unused = "100%"', ("jobs.a.prune.max-unused: must be a size "
         'like 5G, a share below 100% like 5%, or unlimited, not "100%"')),
    ],
)  # fmt: skip
def test_wrong_key_of_a_job_is_named_with_its_value(line: str, complaint: str) -> None:
    """Each mistake has one line: the key, what its value must be, what it is."""
    paths = "" if line.startswith("paths") else 'paths = ["/x"]'
    job = f'[jobs.a]\nrepositories = ["nas"]\n{paths}\n{line}\n'
    assert complaints(REPOSITORIES + job) == [complaint]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('url = ""', 'r.url: must name a repository, like sftp:backup@nas:/srv/restic, not ""'),
        ('url = "srv"', ("r.url: must be an absolute path or start with one of local:, sftp:, "
         'rest:, s3:, b2:, azure:, gs:, swift:, rclone:, not "srv"')),
        ('url = "stfp:n:/x"', ("r.url: must be an absolute path or start with one of local:, "
         "sftp:, rest:, s3:, b2:, azure:, gs:, swift:, rclone:, "
         'not "stfp:n:/x"; did you mean sftp?')),
        ('url = "/x"\npassword-command = "x"', ("r: must have only one of password-file and "
         "password-command")),
        ('url = "/x"\npasword-file = "x"', ("r.pasword-file: is not a known key; "
         "did you mean password-file?")),
        ("", 'r.url: is missing: it must be a string, like "sftp:backup@nas:/srv/restic"'),
    ],
)  # fmt: skip
def test_wrong_key_of_a_repository_is_named(lines: str, complaint: str) -> None:
    """A repository is checked as a job is."""
    text = f'[repositories.r]\npassword-file = "/p"\n{lines}\n[jobs.a]\npaths = ["/x"]\n'
    assert complaints(text + 'repositories = ["r"]\n') == [f"repositories.{complaint}"]


def test_repository_needs_a_password() -> None:
    """Of the three ways to give a password one is needed."""
    assert complaints(SMALL.replace("password-file", "# ")) == [
        (
            "repositories.nas: must have one of password-file, password-command, "
            "password-credential, or an environment-file"
        )
    ]


def test_environment_file_may_hold_the_password() -> None:
    """RESTIC_PASSWORD can come from the environment file."""
    config = read(SMALL.replace("password-file", "environment-file"))
    assert config.repositories["nas"].environment_file == "/etc/holdstill/nas.password"


def test_credential_is_a_name() -> None:
    """A systemd credential cannot be a path."""
    text = SMALL.replace('password-file = "/etc', 'password-credential = "/etc')
    assert complaints(text) == [
        "repositories.nas.password-credential: must be the name of a systemd credential, not a path"
    ]


def test_unknown_repository_is_an_error_with_a_suggestion() -> None:
    """A job can only name repositories that there are."""
    assert complaints(SMALL.replace('["nas"]', '["nsa", "nas", "offsite"]')) == [
        (
            "jobs.home.repositories[0]: must be the name of a [repositories.NAME] table, "
            'not "nsa"; did you mean nas?'
        ),
        (
            "jobs.home.repositories[2]: must be the name of a [repositories.NAME] table, "
            'not "offsite"; known: nas'
        ),
    ]


@pytest.mark.parametrize("name", ["a b", "../x", ".x", "-x", "", "a\\n", "ä", "x" * 101])
def test_name_that_cannot_be_a_file_name_is_refused(name: str) -> None:
    """Names of jobs become file names."""
    (line,) = complaints(SMALL.replace("jobs.home", f'jobs."{name}"'))
    assert "the name must" in line


def test_no_jobs_is_an_error() -> None:
    """A configuration that backs up nothing is a mistake."""
    assert complaints(REPOSITORIES) == [
        "jobs: is missing: it must have at least one table, like [jobs.NAME]"
    ]
    assert complaints("jobs = {}\n" + REPOSITORIES) == [
        "jobs: must have at least one table, like [jobs.NAME], not an empty table"
    ]


def test_long_value_is_cut_and_made_printable() -> None:
    """A message stays readable whatever a value holds."""
    (line,) = complaints(SMALL.replace('"/home"', f'"\\t{"x" * 300}"'))
    assert line == f'jobs.home.paths[0]: must be an absolute path, not "\\x09{"x" * 199}…"'


def test_all_problems_are_reported_at_once() -> None:
    """Nobody has to correct one mistake to learn of the next."""
    text = SMALL + 'state-directory = 3\ntag = []\n[job.x]\n[jobs.b]\npaths = "/x"\n'
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert caught.value.message == (
        "/etc/x.toml: 5 problems\n"
        "  jobs.home.state-directory: is not a known key; known: paths, repositories, tags, "
        "exclude, exclude-files, exclude-if-present, nested, nested-exclude, nested-include, "
        "submounts, require-one-instant, run-as, timeout, schedule, notify, randomized-delay, "
        "require-ac-power, on-failure, minimum-percent, keep, prune, check\n"
        "  jobs.home.tag: is not a known key; did you mean tags?\n"
        '  jobs.b.paths: must be a list of strings, like ["/x"], not "/x"\n'
        '  jobs.b.repositories: is missing: it must be a list of strings, like ["nas"]\n'
        "  job: is not a known key; did you mean jobs?"
    )
    assert "config check" in caught.value.remedy


@pytest.mark.parametrize(
    "lines",
    [
        f'password = "{SECRET}"',
        f'pass = ["{SECRET}"]',
        f'password-file = "{SECRET}"',
        f'password-command = ["{SECRET}"]',
        f'password-credential = "/{SECRET}"',
        f'environment-file = "{SECRET}"',
        f'url = "stfp:me:{SECRET}@host:/x"',
        f'url = "https://me:{SECRET}@host/"',
        f'url = "rest:https://me:{SECRET}@host/\\u0000"',
        f'nas = {{ x = "{SECRET}" }}',
    ],
)
def test_secret_never_stands_in_an_error(lines: str) -> None:
    """Wherever somebody puts a password, no message repeats it."""
    text = f"[repositories.nas]\n{lines}\n[jobs.a]\npaths = 1\n"
    text += f'repositories = ["rest:https://me:{SECRET}@host/"]\n'
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert "repositories.nas" in caught.value.message
    assert SECRET not in caught.value.message + caught.value.remedy


def test_password_in_the_file_is_answered_with_password_file() -> None:
    """The remedy for the obvious mistake is the right one."""
    lines = complaints(SMALL.replace("[jobs.home]", f'password = "{SECRET}"\n[jobs.home]'))
    assert lines == [
        (
            "repositories.nas.password: is not a known key; put the password into a file and name "
            "that with password-file"
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", "/etc/x.toml:2:5: not TOML: Invalid value"),
        ("a = [1,\n", "/etc/x.toml:2:1: not TOML: Invalid value at the end of the file"),
        ("[jobs]\n[jobs]\n", "/etc/x.toml:2:6: not TOML: Cannot declare ('jobs',) twice"),
        ("a = " + "1" * 5000, "/etc/x.toml: not TOML: a number is too long"),
        ("a = " + "[" * 9999, "/etc/x.toml: not TOML: nested too deeply"),
    ],
)
def test_what_is_not_toml_is_named_by_line_and_column(text: str, message: str) -> None:
    """An editor can jump to the mistake."""
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert caught.value.message == message


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_file_that_cannot_be_read_says_how_to_name_another(name: str, tmp_path: Any) -> None:  # noqa: ANN401
    """The remedy names the option and the variable."""
    with pytest.raises(ConfigurationError) as caught:
        load(f"{tmp_path}/{name}", {})
    assert caught.value.message.startswith(f"{tmp_path}/{name}: cannot read the configuration: ")
    assert "--config" in caught.value.remedy
    assert "HOLDSTILL_CONFIG" in caught.value.remedy


def test_option_then_variable_then_default_name_the_file() -> None:
    """An empty variable counts as none."""
    assert locate("/a", {"HOLDSTILL_CONFIG": "/b"}) == "/a"
    assert locate(None, {"HOLDSTILL_CONFIG": "/b"}) == "/b"
    assert locate(None, {"HOLDSTILL_CONFIG": ""}) == "/etc/holdstill/config.toml"


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.binary(max_size=8).map(
    os.fsdecode
)
VALUES = st.recursive(
    st.one_of(
        HOSTILE,
        st.sampled_from(["/x", "/x/", "nas", "5G", "", SECRET, f"rest:https://a:{SECRET}@h/"]),
        st.integers(),
        st.booleans(),
        st.floats(),
        st.dates(),
        st.times(),
    ),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(HOSTILE, values, max_size=2),
    max_leaves=5,
)


def tables(*keys: str, **inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return tables with some of `keys`, right or wrong, and keys that nobody knows."""
    known = dict.fromkeys(keys, VALUES) | {key.replace("_", "-"): inner[key] for key in inner}
    return VALUES | st.tuples(
        st.fixed_dictionaries({}, optional=known), st.dictionaries(HOSTILE, VALUES, max_size=1)
    ).map(lambda pair: pair[1] | pair[0])


KEEPS = tables("last", "within", "group-by")
JOBS = tables(
    "paths", "repositories", "tags", "exclude-files", keep=KEEPS, prune=tables("max-unused")
)
TARGETS = tables("url", "password-file", "password-command", "environment-file")
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "repositories": VALUES | st.dictionaries(HOSTILE | st.just("nas"), TARGETS, max_size=2),
        "jobs": VALUES | st.dictionaries(HOSTILE | st.just("home"), JOBS, max_size=2),
        "state-directory": VALUES,
    },
)


@given(DOCUMENTS)
def test_any_document_loads_or_is_refused_on_printable_lines(document: dict[str, Any]) -> None:
    """No document ends in a traceback, nor can it forge or break a line of the message."""
    content = os.fsencode(tomli_w.dumps(document))
    try:
        parse(content, "x.toml", {})
    except ConfigurationError as error:
        lines = error.message.split("\n")
        assert len(lines) > 1 or "not TOML" in lines[0]
        assert all(line.isprintable() for line in lines)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_load_or_are_refused(content: bytes) -> None:
    """A file of rubbish is a configuration error."""
    with pytest.raises(ConfigurationError):
        parse(content, "x.toml", {})


@given(st.sampled_from(["nas", "x y", SECRET[::-1]]), VALUES.map(repr))
def test_any_repository_table_keeps_its_secret(key: str, value: str) -> None:
    """Whatever else is wrong, the value beside it stays unseen."""
    document = {"repositories": {"nas": {key: value + SECRET, "password-file": SECRET + value}}}
    with pytest.raises(ConfigurationError) as caught:
        parse(os.fsencode(tomli_w.dumps(document)), "x.toml", {})
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("wrong", ["10", "0s", "soon", "1w", "-5m"])
def test_a_timeout_that_is_no_span_of_time(wrong: str) -> None:
    """The same spelling as on the command line, and more than nothing."""
    (line,) = complaints(SMALL + f'timeout = "{wrong}"\n')
    assert line.startswith("jobs.home.timeout: must be days, hours, minutes and seconds")
    assert read(SMALL + 'timeout = "1h30m"\n').jobs["home"].timeout == "1h30m"
