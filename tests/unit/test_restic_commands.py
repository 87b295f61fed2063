"""restic's command lines and environments."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from holdstill.restic.binary import Binary
from holdstill.restic.commands import (
    Backup,
    Retention,
    Target,
    backup,
    environment_of,
    exclude_pattern,
    forget,
    passthrough,
    recorded_path,
    time_argument,
)
from holdstill.restic.versions import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = Binary("/usr/bin/restic", Version(0, 14, 0))
NEW = Binary("/usr/bin/restic", Version(0, 19, 1))
NAS = Target(
    name="nas",
    url="rest:https://backup:hunter2@nas/",
    reach="holdstill restic home",
    cache_directory="/var/cache/holdstill/restic",
    password_file="/etc/holdstill/nas.password",
)
HOME = Backup(paths=("/home",), host="box", frozen_at=None)
DAILY = Retention(paths=("/home",), host="box", keep_daily=14)


@pytest.fixture
def _prague() -> Iterator[None]:
    """Let this process live in Prague, as the machine of a user might."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Prague"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def test_backup_says_everything_that_the_job_says() -> None:
    """Each option in restic's own words, and the paths last, where none is taken for an option."""
    request = HOME._replace(
        paths=("/home", "-odd"),
        frozen_at=datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
        tags=("a", "b"),
        exclude=("*.tmp",),
        exclude_files=("/etc/skip",),
        exclude_if_present=(".nobackup",),
    )
    command = backup(NEW, NAS, request, {"TZ": "Etc/UTC"})
    assert command.argv == (
        *("/usr/bin/restic", "backup", "--json", "--host", "box"),
        *("--time", "2026-01-02 03:04:05.000678", "--tag", "a", "--tag", "b"),
        *("--exclude", "*.tmp", "--exclude-file", "/etc/skip"),
        *("--exclude-if-present", ".nobackup", "--", "/home", "-odd"),
    )


def test_forget_names_host_tags_and_paths_of_the_job() -> None:
    """A repository is shared: nothing of others may match."""
    retention = DAILY._replace(
        tags=("a", "b"), group_by=("paths", "tags"), prune=True, max_unused="5G"
    )
    assert forget(NEW, NAS, retention, {}).argv == (
        *("/usr/bin/restic", "forget", "--json", "--host", "box", "--tag", "a,b"),
        *("--path", "/home", "--group-by", "paths,tags", "--keep-daily", "14"),
        *("--prune", "--max-unused", "5G"),
    )


def test_forget_of_a_job_without_tags_leaves_tagged_snapshots_alone() -> None:
    """An empty tag is how restic spells "without tags"."""
    argv = forget(NEW, NAS, DAILY, {}).argv
    assert argv[argv.index("--tag") + 1] == ""


def test_every_rule_of_a_retention_reaches_restic() -> None:
    """last, hourly, daily, weekly, monthly, yearly and within."""
    rules = Retention(("/x",), "box", (), (), 1, 2, 3, 4, 5, 6, "7d").policy()
    assert " ".join(rules) == (
        "--keep-last 1 --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5"
        " --keep-yearly 6 --keep-within 7d"
    )


def test_retention_that_keeps_nothing_is_refused() -> None:
    """It is a mistake in the program, which restic 0.14 would take for a success."""
    with pytest.raises(ValueError, match="keep something"):
        forget(NEW, NAS, Retention(paths=("/home",), host="box"), {})


def test_no_secret_and_no_location_stands_in_an_argument() -> None:
    """Every user of the machine can read the arguments of a process."""
    target = NAS._replace(password_file=None, password_command="pass show nas")
    for command in (
        backup(NEW, target, HOME, {}),
        forget(NEW, target, DAILY, {}),
        passthrough(NEW, target, ["snapshots"], {}),
    ):
        assert not any("hunter2" in word or "nas" in word for word in command.argv)
        assert command.environment["RESTIC_REPOSITORY"] == NAS.url
        assert command.environment["RESTIC_PASSWORD_COMMAND"] == "pass show nas"


def test_shown_line_has_what_matters_and_no_password() -> None:
    """What `plan` prints can be read by everyone."""
    target = NAS._replace(
        password_file=None, password_command="echo hunter2", environment={"A": "B"}
    )
    assert backup(NEW, target, HOME._replace(paths=("/my home",)), {"PATH": "/bin"}).shown() == (
        "RESTIC_REPOSITORY='rest:https://backup:***@nas/' RESTIC_PASSWORD_COMMAND=***"
        " RESTIC_CACHE_DIR=/var/cache/holdstill/restic RESTIC_FEATURES=device-id-for-hardlinks"
        " /usr/bin/restic backup --json --host box -- '/my home'"
    )


def test_environment_is_the_callers_without_its_restic() -> None:
    """What an administrator has exported for one repository must not reach another."""
    caller = {"PATH": "/bin", "RESTIC_REPOSITORY": "/other", "RESTIC_COMPRESSION": "max"}
    environment = environment_of(OLD, NAS._replace(environment={"AWS_REGION": "x"}), caller)
    assert environment == {
        "PATH": "/bin",
        "AWS_REGION": "x",
        "RESTIC_REPOSITORY": NAS.url,
        "RESTIC_CACHE_DIR": "/var/cache/holdstill/restic",
        "RESTIC_PASSWORD_FILE": "/etc/holdstill/nas.password",
    }


def test_configuration_wins_over_the_environment_file() -> None:
    """It is an error for restic to be told of two repositories, or of two sources of a password."""
    given = {
        "RESTIC_REPOSITORY_FILE": "/x",
        "RESTIC_PASSWORD": "x",
        "RESTIC_PASSWORD_COMMAND": "x",
        "RESTIC_COMPRESSION": "max",
    }
    environment = environment_of(OLD, NAS._replace(environment=given), {})
    assert environment["RESTIC_COMPRESSION"] == "max"
    assert not environment.keys() & (given.keys() - {"RESTIC_COMPRESSION"})


def test_password_of_the_environment_file_counts_where_nothing_else_is_configured() -> None:
    """The origin's environment file holds the password itself."""
    target = NAS._replace(password_file=None, environment={"RESTIC_PASSWORD": "x"})
    assert environment_of(OLD, target, {})["RESTIC_PASSWORD"] == "x"


@pytest.mark.parametrize(
    ("configured", "features"),
    [
        ("", "device-id-for-hardlinks"),
        ("s3-restore", "s3-restore,device-id-for-hardlinks"),
        ("device-id-for-hardlinks=false", "device-id-for-hardlinks=false"),
    ],
)
def test_features_of_the_environment_file_stay(configured: str, features: str) -> None:
    """Ours is added, unless the user has decided about it."""
    target = NAS._replace(environment={"RESTIC_FEATURES": configured})
    assert environment_of(NEW, target, {})["RESTIC_FEATURES"] == features


def test_old_restic_is_not_told_of_features() -> None:
    """They exist from 0.17 on."""
    assert "RESTIC_FEATURES" not in environment_of(OLD, NAS, {})


def test_host_of_the_environment_file_counts_for_backup_and_forget() -> None:
    """Version 0.14 does not know RESTIC_HOST, and both have to agree on every version."""
    target = NAS._replace(environment={"RESTIC_HOST": "other"})
    for command in (backup(OLD, target, HOME, {}), forget(OLD, target, DAILY, {})):
        assert command.argv[command.argv.index("--host") + 1] == "other"


def test_target_without_a_cache_says_so() -> None:
    """Otherwise restic would take its default one."""
    target = NAS._replace(cache_directory=None)
    command = passthrough(NEW, target, ["ls", "--json"], {})
    assert command.argv == ("/usr/bin/restic", "--no-cache", "ls", "--json")
    assert "RESTIC_CACHE_DIR" not in command.environment


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/plain and 'quoted'", "/plain and 'quoted'"),
        ("/a*b?c[d]", r"/a\*b\?c\[d]"),
        ("/back\\slash", r"/back\\slash"),
        ("!important", r"\!important"),
        ("/x/!y", "/x/!y"),
        ("/$HOME\n", "/$HOME\n"),
    ],
)
def test_pattern_for_a_path_matches_nothing_else(path: str, pattern: str) -> None:
    """What means something to restic is escaped, and nothing else."""
    assert exclude_pattern(path) == pattern


def test_recorded_path_has_one_replacement_for_each_byte_that_is_not_text() -> None:
    """As Go writes JSON; Python would replace a cut-off character as a whole."""
    path = os.fsdecode(b"/caf\xc3\xa9/\xe2\x82/\xff\xfe")
    assert recorded_path(path) == "/café/\ufffd\ufffd/\ufffd\ufffd"


@pytest.mark.usefixtures("_prague")
@pytest.mark.parametrize("environment", [{}, {"TZ": "Europe/Prague"}])
def test_time_is_told_in_the_zone_that_restic_will_be_in(environment: dict[str, str]) -> None:
    """Retention counts days by the zone of the snapshot, and the user's days are local."""
    moment = datetime(2026, 7, 1, 22, 30, 0, 1, UTC)
    assert time_argument(moment, environment) == ("2026-07-02 00:30:00.000001", {})
    elsewhere = moment.astimezone(timezone(timedelta(hours=-9)))
    assert time_argument(elsewhere, environment) == ("2026-07-02 00:30:00.000001", {})


@pytest.mark.usefixtures("_prague")
@pytest.mark.parametrize("environment", [{}, {"TZ": "Europe/Prague"}])
@pytest.mark.parametrize("hour", [0, 1])
def test_hour_that_comes_twice_is_told_in_utc(environment: dict[str, str], hour: int) -> None:
    """On 25 October 2026 the clocks in Prague go from 3:00 back to 2:00."""
    moment = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
    expected = (f"2026-10-25 0{hour}:30:00.000000", {"TZ": "UTC"})
    assert time_argument(moment, environment) == expected


@pytest.mark.usefixtures("_prague")
def test_hours_around_the_one_that_comes_twice_are_told_in_local_time() -> None:
    """The detour over UTC is for that hour only."""
    before = datetime(2026, 10, 24, 23, 59, 59, tzinfo=UTC)
    after = datetime(2026, 10, 25, 2, 0, 0, tzinfo=UTC)
    assert time_argument(before, {}) == ("2026-10-25 01:59:59.000000", {})
    assert time_argument(after, {}) == ("2026-10-25 03:00:00.000000", {})


@pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3", ":Europe/Prague", "", "Nowhere"])
def test_zone_that_go_may_read_differently_is_not_used(zone: str) -> None:
    """Go knows no POSIX rules: it would take the text for UTC, an hour or more away."""
    moment = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    assert time_argument(moment, {"TZ": zone}) == ("2026-07-01 22:30:00.000000", {"TZ": "UTC"})


def test_a_lock_is_waited_for_where_restic_can() -> None:
    """By every command, and only when asked to; before 0.16 the option would be an error."""
    patient = NAS._replace(lock_wait=90)
    for binary, target, waits in ((NEW, patient, True), (OLD, patient, False), (NEW, NAS, False)):
        for command in (
            backup(binary, target, HOME, {}),
            forget(binary, target, DAILY, {}),
            passthrough(binary, target, ["forget", "x"], {}),
        ):
            assert (("--retry-lock", "90s") in pairwise(command.argv)) == waits
            assert ("--retry-lock" in command.argv) == waits
