"""The environment file of a shell script, translated."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.origin import Origin, in_any_case, read
from holdstill.config.upkeep import HIGHEST_COUNT, Keep, Prune
from holdstill.errors import ConfigurationError

NEEDED = "RETENTION_DAYS=7\nRETENTION_WEEKS=4\nRETENTION_MONTHS=6\nRETENTION_YEARS=0\n"


def translated(text: str) -> Origin:
    """Read a file that says what every file has to, and some lines more."""
    return read(f"{NEEDED}BACKUP_PATHS=/mnt/biggadisk\n{text}", "x.env", "/etc/x.env")


def test_the_script_is_reproduced() -> None:
    """Its tag, its groups, its prune, and its --one-file-system."""
    job = translated("").job
    assert (job.paths, job.tags, job.nested) == (("/mnt/biggadisk",), ("systemd.timer",), "skip")
    assert job.keep == Keep(daily=7, weekly=4, monthly=6, group_by=("paths", "tags"))
    assert job.prune == Prune(max_unused="5G")


def test_paths_are_split_as_the_shell_does() -> None:
    """At blanks; as restic records them, without slashes at the end."""
    assert translated("BACKUP_PATHS='/a  /b/ \n/c'").job.paths == ("/a", "/b", "/c")


@pytest.mark.parametrize(
    ("excludes", "expected"),
    [
        ("--exclude *.o -e /a -e/b -e=/c --exclude=d", {"exclude": ("*.o", "/a", "/b", "/c", "d")}),
        ("--exclude-file /x/.exclude", {"exclude_files": ("/x/.exclude",)}),
        ("--exclude-if-present a --exclude-if-present=b", {"exclude_if_present": ("a", "b")}),
        ("--iexclude *.Jpg", {"exclude": ("*.[jJ][pP][gG]",)}),
        ("--exclude-caches", {"exclude_if_present": (
            "CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55",)}),
        ("-x --one-file-system", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_options_become_keys(excludes: str, expected: dict[str, tuple[str, ...]]) -> None:
    """Those that say what is left out."""
    job = translated(f'BACKUP_EXCLUDES="{excludes}"').job
    for key in ("exclude", "exclude_files", "exclude_if_present"):
        assert getattr(job, key) == expected.get(key, ())


def test_quotes_inside_a_value_are_taken_as_meant_with_a_warning() -> None:
    """A shell does not look for quotes in what a variable holds: the script excluded nothing."""
    origin = translated("BACKUP_EXCLUDES=\"--exclude 'a b'\"")
    assert origin.job.exclude == ("a b",)
    (warning,) = origin.warnings
    assert warning.startswith("BACKUP_EXCLUDES: ")
    assert not translated('BACKUP_EXCLUDES="--exclude a"').warnings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("BACKUP_EXCLUDES=--exclude-caches=1", ":6: BACKUP_EXCLUDES: --exclude-caches=1 cannot"),
        ("BACKUP_EXCLUDES=--exclude-larger-than=1G", "--exclude-larger-than=1G cannot be"),
        ("BACKUP_EXCLUDES=--verbose", "--verbose cannot be translated"),
        ("BACKUP_EXCLUDES=/a", "/a cannot be translated"),
        ("BACKUP_EXCLUDES=--iexclude=[a]", "--iexclude '[a]' cannot be translated"),
        ("BACKUP_EXCLUDES=--exclude", "--exclude is the last word: its value is missing"),
        ("BACKUP_EXCLUDES=\"--exclude 'a\"", "a quote in its value is never closed"),
        ("BACKUP_PATHS=--verbose", "--verbose is no path"),
        ("BACKUP_PATHS=/srv/*", "'/srv/*' is a pattern"),
        ("RETENTION_DAYS=a week", "'a week' is no number of backups"),
        ("RETENTION_DAYS=", "x.env: RETENTION_DAYS is missing"),
        ("RETENTION_HOURS=1", "RETENTION_HOURS: the script knows no such variable"),
        ("RESTIC_REPOSITORY=/a\nRESTIC_REPOSITORY_FILE=/b", "RESTIC_REPOSITORY is there, too"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_an_error_that_names_it(text: str, problem: str) -> None:
    """It is never dropped in silence."""
    with pytest.raises(ConfigurationError) as caught:
        translated(text)
    assert problem in caught.value.message
    assert caught.value.remedy


def test_all_problems_are_named_at_once() -> None:
    """Each with its line."""
    with pytest.raises(ConfigurationError) as caught:
        translated("BACKUP_EXCLUDES=-q\nRETENTION_DAYS=x\nBACKUP_PATH=/a")
    assert [line.split(": ")[0].strip() for line in caught.value.message.splitlines()] == [
        "x.env:8",
        "x.env:6",
        "x.env:7",
    ]


def test_a_quote_that_swallows_other_lines_shows_none_of_them() -> None:
    """A password may be among them."""
    with pytest.raises(ConfigurationError) as caught:
        translated("BACKUP_EXCLUDES='--exclude a\nRESTIC_PASSWORD=secret\nX='")
    assert "x.env:6: BACKUP_EXCLUDES: its quote ends in a later" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("word", ["-1", "unlimited"])
def test_forever_is_a_number_that_nobody_lives_to_see(word: str) -> None:
    """As restic spells it."""
    keep = translated(f"RETENTION_YEARS={word}").job.keep
    assert keep is not None
    assert keep.yearly == HIGHEST_COUNT


@pytest.mark.parametrize(
    ("text", "environment_file"),
    [
        ("RESTIC_PASSWORD_FILE=/p", ""),
        ("RESTIC_PASSWORD_COMMAND=pass show x", ""),
        ("RESTIC_PASSWORD=secret", "/etc/x.env"),
        ("RESTIC_PASSWORD_FILE=/p\nAWS_SECRET_ACCESS_KEY=secret", "/etc/x.env"),
    ],
)
def test_secrets_are_referred_to_and_not_copied(text: str, environment_file: str) -> None:
    """A file that holds more than what is translated stays the repository's environment file."""
    repository = translated(f"RESTIC_REPOSITORY=s3:x/y\n{text}").repository
    assert repository.environment_file == environment_file
    assert "secret" not in str(repository)
    assert repository.url == "s3:x/y"


@given(st.text("aB*?.é ß1", max_size=6), st.text("AaBb.éÉ ßx1", max_size=6))
def test_a_pattern_in_any_case_matches_what_restic_would_match(pattern: str, name: str) -> None:
    """`--iexclude` compares both in lower case."""
    found = in_any_case(pattern)
    if "ß" in pattern:  # whose upper case are two letters
        assert found is None
    else:
        assert found is not None
        expected = fnmatch.fnmatchcase(name.lower(), pattern.lower())
        assert fnmatch.fnmatchcase(name, found) == expected
