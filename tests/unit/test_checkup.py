"""What the doctor makes of what it sees: levels, remedies, exit statuses."""

from __future__ import annotations

import os
import stat
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.cli.doctor import _lines
from holdstill.errors import (
    CommandNotFoundError,
    ConfigurationError,
    NotPermittedError,
    SourceError,
)
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.checks import judge_warnings, of_refused_configuration
from holdstill.jobs.checkup.finding import About, Check, Finding, Level, exit_status, said_once
from holdstill.jobs.checkup.machine import (
    Clock,
    Kernel,
    Powers,
    judge_clock,
    judge_kernel,
    judge_powers,
)
from holdstill.jobs.checkup.places import Place, judge_places
from holdstill.jobs.checkup.repositories import Lock, is_stale, judge_restic, read_lock
from holdstill.jobs.checkup.secrets import File, judge_secret
from holdstill.jobs.checkup.space import Space, judge_space
from holdstill.jobs.checkup.traces import judge_leftovers, judge_standing, judge_timer
from holdstill.jobs.standing import Standing
from holdstill.linux.btrfs_space import Room
from holdstill.linux.privileges import CAP_DAC_READ_SEARCH, CAP_SETPCAP, CAP_SYS_ADMIN
from holdstill.restic.binary import Binary
from holdstill.restic.versions import Version
from holdstill.snapshots.model import Leftover
from holdstill.systemd.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdstill.errors import HoldstillError

DOCUMENT = Path(__file__).parents[2] / "docs/doctor.md"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ABOUT = About(Check.SECRETS, "nas")
GIB = 1 << 30


def _levels(findings: Iterable[Finding]) -> list[str]:
    return [one.level for one in findings]


def _remedies() -> dict[str, str]:
    return {name: text for name, text in vars(remedies).items() if name.isupper()}


@pytest.mark.parametrize("name", _remedies())
def test_every_remedy_is_documented(name: str) -> None:
    """Word for word in docs/doctor.md, with capitals for what is filled in."""
    fields = {field for _, field, _, _ in string.Formatter().parse(_remedies()[name]) if field}
    text = _remedies()[name].format(**{field: field.upper() for field in fields})
    assert f"`{text}`" in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _remedies())
def test_every_remedy_is_used(name: str) -> None:
    """By a check: the document lists nothing that cannot be met."""
    package = Path(remedies.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in package.glob("*.py")]
    assert any(f"remedies.{name}" in text for text in texts)


def test_every_check_is_documented_in_its_order() -> None:
    """A section of docs/doctor.md for each."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings == [*Check, "any check", "As JSON"]


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([], 0),
        ([ABOUT.ok("good"), ABOUT.warning("so so")], 0),
        ([ABOUT.error("bad")], 1),
        ([ABOUT.error("bad", "", 77), ABOUT.error("bad")], 77),
        ([ABOUT.error("bad", "", 77), ABOUT.error("bad", "", 78)], 78),
    ],
)
def test_the_gravest_error_is_the_exit_status(findings: list[Finding], status: int) -> None:
    """Warnings are none."""
    assert exit_status(findings) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SourceError("it is gone", remedy="look"), 1),
        (ConfigurationError("it is wrong", remedy="look"), 78),
        (NotPermittedError("no", remedy="sudo"), 77),
        (CommandNotFoundError("sh: command not found", remedy="install it"), 1),
    ],
)
def test_an_error_is_a_finding(error: HoldstillError, status: int) -> None:
    """With its remedy, and the status that a run would end with; its notes are part of it."""
    error.add_note("and that")
    found = ABOUT.failure(error)
    assert (found.level, found.remedy, found.exit_status) == (Level.ERROR, error.remedy, status)
    assert found.text == f"{error.message}; and that"


def test_an_error_is_said_once() -> None:
    """What has the same cause points at it; warnings may come again."""
    known: set[str] = set()
    first = said_once([ABOUT.error("bad", "mend"), ABOUT.warning("so so")], known)
    second = said_once([ABOUT.error("bad", "mend"), ABOUT.warning("so so")], known)
    assert first == [ABOUT.error("bad", "mend"), ABOUT.warning("so so")]
    assert second == [ABOUT.warning("not tried, as named above: bad"), ABOUT.warning("so so")]


def test_every_problem_of_a_configuration_is_a_line() -> None:
    """With the error's status; one that is not a list stays as it is."""
    several = ConfigurationError("/c: 2 problems\n  a: wrong\n  b: wrong", remedy="correct")
    assert [one.text for one in of_refused_configuration(several)] == ["a: wrong", "b: wrong"]
    (one,) = of_refused_configuration(ConfigurationError("/c: cannot read it", remedy="name it"))
    assert (one.text, one.remedy, one.exit_status) == ("/c: cannot read it", "name it", 78)


def test_what_a_configuration_names_and_is_not_there() -> None:
    """Fatal for a job's run; secrets are somebody else's business."""
    texts = ["repositories.nas.password-file: gone", "jobs.a.exclude-files[0]: gone", "metrics: x"]
    found = list(judge_warnings("/c", texts))
    assert [(one.level, one.text) for one in found] == [
        (Level.ERROR, "jobs.a.exclude-files[0]: gone"),
        (Level.WARNING, "metrics: x"),
    ]


ALL = {CAP_SYS_ADMIN, CAP_SETPCAP, CAP_DAC_READ_SEARCH}


@pytest.mark.parametrize(
    ("powers", "users", "count"),
    [
        (Powers(ALL, in_user_namespace=False), False, 0),
        (Powers(ALL - {CAP_SETPCAP}, in_user_namespace=False), False, 1),
        (Powers({CAP_SETPCAP}, in_user_namespace=False), False, 2),
        (Powers(set(), in_user_namespace=False), False, 1),
        (Powers(ALL, in_user_namespace=False), True, 2),
        (Powers(ALL, in_user_namespace=True), False, 1),
    ],
)
def test_each_missing_power_is_an_error(powers: Powers, users: bool, count: int) -> None:
    """77; run-as needs more; in a user namespace none of them is worth anything."""
    found = list(judge_powers(powers, users=users))
    assert sum(one.exit_status == 77 for one in found) == count
    assert [one.level for one in found if one.level is not Level.WARNING] == (
        [Level.ERROR] * count or [Level.OK]
    )
    assert sum(one.level is Level.WARNING for one in found) == (2 if users else 0)


@pytest.mark.parametrize(
    ("release", "strict", "level"),
    [
        ("6.18.44-fc", False, Level.OK),
        ("6.6.0", True, Level.OK),
        ("6.1.0-18-amd64", False, Level.OK),
        ("6.1.0-18-amd64", True, Level.WARNING),
        ("5.15.0", False, Level.OK),
        ("5.14.21-lp", False, Level.ERROR),
        ("4.19", False, Level.ERROR),
        ("unknown", False, Level.ERROR),
    ],
)
def test_old_kernels(release: str, strict: bool, level: Level) -> None:
    """Before 5.15 an error, before 6.6 a warning for who asks for one instant."""
    kernel = Kernel(release, has_btrfs=True, new_calls_work=True)
    assert _levels(judge_kernel(kernel, strict=strict)) == [level]


def test_a_kernel_without_btrfs_and_one_without_new_calls() -> None:
    """The first is an error; the second is worth a word."""
    without = Kernel("6.18", has_btrfs=False, new_calls_work=True)
    assert _levels(judge_kernel(without, strict=False)) == [Level.ERROR]
    (one,) = judge_kernel(without._replace(has_btrfs=True, new_calls_work=False), strict=False)
    assert (one.level, "mount(2)" in one.text) == (Level.OK, True)


@pytest.mark.parametrize(
    ("last_run", "synchronised", "level"),
    [
        (None, True, Level.OK),
        (NOW - MINUTE, True, Level.OK),
        (NOW + MINUTE / 2, True, Level.OK),
        (NOW + 2 * MINUTE, True, Level.ERROR),
        (NOW, False, Level.WARNING),
    ],
)
def test_clocks(last_run: datetime | None, synchronised: bool, level: Level) -> None:
    """A run that began in the future is an error, a moment's difference is none."""
    assert _levels(judge_clock(Clock(NOW, last_run, synchronised))) == [level]


def _place(key: str, problem: str = "", free: int = GIB) -> Place:
    return Place(f"{key}-directory", f"/nowhere/{key}", problem, free)


@pytest.mark.parametrize(
    ("problems", "levels"),
    [
        (("", "", ""), [Level.OK]),
        (("ro", "", ""), [Level.WARNING]),
        (("ro", "ro", ""), [Level.ERROR, Level.WARNING, Level.WARNING]),
        (("ro", "ro", "ro"), [Level.ERROR] + [Level.WARNING] * 3),
    ],
)
def test_two_of_three_directories_have_to_be_usable(
    problems: tuple[str, ...], levels: list[Level]
) -> None:
    """For the lock; each that is not is named."""
    keys = ("runtime", "state", "cache")
    own = [_place(key, problem) for key, problem in zip(keys, problems, strict=True)]
    assert _levels(judge_places(own, _place("tmp"))) == levels


def test_one_directory_under_three_keys_is_one() -> None:
    """As two runs would lock one file in it."""
    own = [_place("state", "ro")._replace(path="/nowhere"), _place("cache")]
    assert _levels(judge_places(own, _place("tmp")))[0] is Level.ERROR
    assert _levels(judge_places([_place("state")] * 3, _place("tmp"))) == [Level.OK]


def test_little_room() -> None:
    """A warning; restic cannot do without TMPDIR."""
    own = [_place("state", free=0)]
    assert _levels(judge_places(own, _place("tmp", free=0))) == [Level.WARNING, Level.WARNING]
    assert _levels(judge_places([_place("state")], _place("tmp", "ro"))) == [Level.ERROR]


@pytest.mark.parametrize(
    ("mode", "owner", "size", "levels"),
    [
        (0o600, 0, 1, []),
        (0o640, 0, 1, []),
        (0o644, 0, 1, [Level.WARNING]),
        (0o660, 0, 1, [Level.ERROR]),
        (0o666, 0, 1, [Level.WARNING, Level.ERROR]),
        (0o600, 12345, 1, [Level.ERROR]),
        (0o600, 0, 0, [Level.ERROR]),
    ],
)
def test_secrets(mode: int, owner: int, size: int, levels: list[Level]) -> None:
    """Readable for others: a warning; changeable by others, or empty: an error."""
    file = File("/etc/nas", "", stat.S_IFREG | mode, owner or os.geteuid(), size)
    assert _levels(judge_secret(ABOUT, file)) == levels


def test_a_pipe_is_no_empty_secret() -> None:
    """A password file may be one (in /proc/self/fd, say)."""
    assert list(judge_secret(ABOUT, File("/dev/fd/3", "", stat.S_IFIFO | 0o600, 0, 0))) == []


def test_a_file_name_cannot_forge_a_line() -> None:
    """Nor a command in a remedy."""
    (one,) = judge_secret(ABOUT, File("/x\nok; rm -rf /", "gone"))
    assert "\n" not in one.text + one.remedy
    (two,) = judge_secret(ABOUT, File("/x; rm -rf ~", "", stat.S_IFREG | 0o604, 0, 1))
    assert two.remedy == "chmod o= '/x; rm -rf ~'"


@pytest.mark.parametrize(
    ("minor", "level", "words"),
    [
        (14, Level.WARNING, ("0.16", "0.17")),
        (16, Level.WARNING, ("0.17",)),
        (17, Level.OK, ()),
    ],
)
def test_what_a_restic_lacks(minor: int, level: Level, words: tuple[str, ...]) -> None:
    """By its version."""
    (found,) = judge_restic(Binary("/usr/bin/restic", Version(0, minor, 0)))
    assert found.level is level
    assert [word for word in words if word not in found.text] == []


LOCK = b"""{"time": "2026-11-22T12:59:00.123456789+01:00", "exclusive": true,
"hostname": "nas", "username": "root", "pid": 4711, "uid": 0, "gid": 0}"""


def test_reads_a_lock() -> None:
    """As restic prints it, in whatever time zone; rubbish is none."""
    lock = read_lock(LOCK)
    assert lock is not None
    assert lock._replace(refreshed=NOW) == Lock("nas", 4711, NOW, exclusive=True)
    assert NOW - lock.refreshed < MINUTE
    for rubbish in (b"", b"{}", b"[]", b"[" * 100_000, LOCK.replace(b"2026", b"x"), b"\xff"):
        assert read_lock(rubbish) is None


@pytest.mark.parametrize(
    ("minutes", "lives", "stale"),
    [(1, True, False), (1, None, False), (1, False, True), (31, None, True), (31, True, True)],
)
def test_stale_locks(minutes: int, lives: bool | None, stale: bool) -> None:
    """By restic's rules: not refreshed for half an hour, or of a process that is gone."""
    lock = Lock("nas", 1, NOW - minutes * MINUTE, exclusive=False)
    assert is_stale(lock, NOW, lives=lives) is stale


@pytest.mark.parametrize(
    ("free", "in_chunks", "unallocated", "level"),
    [
        (GIB, 64 << 20, 0, Level.OK),
        (GIB, 0, 64 << 20, Level.OK),
        (GIB, 12 << 20, 0, Level.WARNING),
        (GIB, 4 << 20, 0, Level.ERROR),
        (GIB // 2, 64 << 20, 0, Level.WARNING),
        (0, 0, 0, Level.ERROR),
    ],
)
def test_space(free: int, in_chunks: int, unallocated: int, level: Level) -> None:
    """Metadata first: free space is of no use without."""
    space = Space(100 * GIB, free, Room(in_chunks, unallocated))
    assert _levels(judge_space("/srv", space)) == [level]


def test_leftovers() -> None:
    """Each run that is dead, and each thing that is not ours."""
    left = Leftover("20261122T030000Z-6f3a9c", "/dev/sda", ("0/a", "1/b"))
    found = list(judge_leftovers([left], ["left alone: something"]))
    assert _levels(found) == [Level.WARNING, Level.WARNING]
    assert found[0].text == "2 snapshots of the dead run 20261122T030000Z-6f3a9c on /dev/sda"
    assert _levels(judge_leftovers([], [])) == [Level.OK]


@pytest.mark.parametrize(
    ("timer", "schedule", "level", "text"),
    [
        (Timer(NOW + MINUTE, None), "daily", Level.OK, "next start 2026-11-22"),
        (Timer(NOW + MINUTE, None), "", Level.OK, "next start 2026-11-22"),
        (Timer(NOW + MINUTE, None, stays=False), "", Level.WARNING, "not enabled"),
        (Timer(None, None), "daily", Level.WARNING, "never starts it"),
        (None, "daily", Level.WARNING, "no active timer"),
        (None, "", Level.WARNING, "no schedule and no timer"),
    ],
)
def test_timers(timer: Timer | None, schedule: str, level: Level, text: str) -> None:
    """What starts a job, if anything does."""
    found = judge_timer("home", timer, schedule, NOW)
    assert (found.level, text in found.text) == (level, True)


def test_a_job_that_never_ran_and_one_that_is_overdue() -> None:
    """The first is fine, the second a warning."""
    never = Standing("home", None, None, "never", None, "")
    assert judge_standing(never) == About(Check.RECORDS, "home").ok("no run yet")
    found = judge_standing(never._replace(overdue="its timer should have started it"))
    assert (found.level, found.remedy) == (Level.WARNING, "holdstill history home")


def test_a_line_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """The text begins where others do; a remedy stands below, and a text may have several lines."""
    found = Finding(Level.ERROR, Check.JOB, "home", "one\ntwo", "do\nthis")
    assert list(_lines(found, found.remedy)) == [
        "error    job home              one",
        " " * 31 + "two",
        " " * 11 + "do",
        " " * 11 + "this",
    ]
    assert capsys.readouterr().out == ""
