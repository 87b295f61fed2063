"""What the end of restic means."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGTERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.restic.outcome import Evidence, Outcome, read
from holdstill.restic.versions import Version

V14 = Version(0, 14, 0)
V18 = Version(0, 18, 0)
V19 = Version(0, 19, 1)
GOOD = Evidence(repository="nas", reach="holdstill restic home", version=V19, status=0)
BAD = GOOD._replace(status=1, answered=False)


def test_success_needs_no_words() -> None:
    """Ended with 0, a snapshot written, no errors."""
    reading = read(GOOD)
    assert (reading.outcome, reading.message, reading.remedy) == (Outcome.OK, "", "")


def test_zero_without_an_answer_is_a_failure() -> None:
    """What did not say that it wrote a snapshot did not write one."""
    reading = read(GOOD._replace(answered=False))
    assert reading.outcome is Outcome.FAILED
    assert "ended with 0 without saying what it did" in reading.message


@pytest.mark.parametrize("version", [V14, V18])
def test_zero_with_errors_is_partial(version: Version) -> None:
    """Before 0.19 a missing source is an error that restic forgives itself."""
    first = "/x: does not exist"
    reading = read(GOOD._replace(version=version, error_count=2, first_error=first))
    assert reading.outcome is Outcome.PARTIAL
    assert "2 errors, the first: /x: does not exist" in reading.message


def test_three_is_partial_and_a_failure_where_there_is_no_snapshot() -> None:
    """Partial means that there is something to restore from."""
    assert read(GOOD._replace(status=3)).outcome is Outcome.PARTIAL
    assert read(GOOD._replace(status=3, answered=False)).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("version", "status", "complaint", "message", "remedy"),
    [
        (V19, 10, "Fatal: repository does not exist: unable to open config file: stat /r/config",
         "there is no repository: repository does not exist", "holdstill restic home -- init"),
        (V14, 1, ("Fatal: unable to open config file: stat /r/config: no such file or directory\n"
         "Is there a repository at the following location?\n/r"),
         "there is no repository", "holdstill restic home -- init"),
        (V19, 11, "unable to create lock in backend: repository is already locked by PID 7",
         "locked by another restic", "holdstill restic home -- unlock"),
        (V14, 1, "Fatal: unable to create lock in backend: repository is already locked",
         "locked by another restic", "holdstill restic home -- unlock"),
        (V19, 12, "Fatal: wrong password or no key found", "wrong password", "password-file"),
        (V14, 1, "Fatal: wrong password or no key found", "wrong password", "password-file"),
        (V18, 1, "Fatal: Resolving password failed: Fatal: /p does not exist",
         "no password", "password-file"),
        (V14, 1, ('Fatal: unable to open config file: client.Head: Head "http://u:***@h/config":'
         " dial tcp 127.0.0.1:1: connect: connection refused\nIs there a repository at"),
         "cannot be reached", "host is up"),
        (V18, 1, "Fatal: unable to save snapshot: write /r/tmp: no space left on device",
         "no space left", "free space"),
        (V19, 2, "panic: runtime error", "restic 0.19.1 crashed: panic: runtime error", "check"),
        (V19, 77, "", "restic ended with 77: without a word", "holdstill restic home -- snapshots"),
        (V14, 10, "x", "restic ended with 10: x", "holdstill restic home -- snapshots"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_a_remedy(
    version: Version, status: int, complaint: str, message: str, remedy: str
) -> None:
    """By the exit status where it tells, by restic's words where it does not."""
    reading = read(BAD._replace(version=version, status=status, complaint=complaint))
    assert reading.outcome is Outcome.FAILED
    assert reading.message.startswith(f"repository nas: {message}")
    assert remedy in reading.remedy


def test_cache_that_0_19_fails_over_is_named() -> None:
    """It says so in an earlier line, and ends with a stack trace."""
    reading = read(
        BAD._replace(
            complaint="mkdir /c/1: not a directory\ngithub.com/restic/restic/cache.New",
            said="unable to open cache: mkdir /c/1: not a directory",
        )
    )
    assert reading.message == (
        "repository nas: restic's cache cannot be opened: mkdir /c/1: not a directory"
    )


def test_last_words_count_where_there_is_no_complaint() -> None:
    """Version 0.14 has errors that do not begin with "Fatal"."""
    reading = read(BAD._replace(version=V14, said="a warning\nopen /nope: no such file"))
    assert reading.message == "repository nas: restic ended with 1: open /nope: no such file"


@pytest.mark.parametrize(
    ("version", "status", "signal"), [(V14, 143, SIGTERM), (V18, 1, None), (V19, 130, None)]
)
def test_run_that_was_told_to_stop_is_interrupted(
    version: Version, status: int, signal: int | None
) -> None:
    """Each version ends in a way of its own when SIGTERM arrives."""
    reading = read(BAD._replace(version=version, status=status, signal=signal, told=SIGTERM))
    assert reading.outcome is Outcome.INTERRUPTED
    assert "SIGTERM" in reading.message


def test_restic_that_was_interrupted_alone_is_interrupted() -> None:
    """Somebody sent the signal to restic itself."""
    assert read(BAD._replace(status=130)).outcome is Outcome.INTERRUPTED


def test_signal_that_came_too_late_changes_nothing() -> None:
    """It had finished, or had already failed for a reason of its own."""
    assert read(GOOD._replace(told=SIGTERM)).outcome is Outcome.OK
    assert read(BAD._replace(status=12, told=SIGTERM)).outcome is Outcome.FAILED


def test_killed_restic_is_a_failure_that_names_the_signal() -> None:
    """SIGKILL out of nowhere is how a machine without memory ends a process."""
    killed = read(BAD._replace(status=128 + SIGKILL, signal=SIGKILL))
    assert (killed.outcome, "SIGKILL" in killed.message) == (Outcome.FAILED, True)
    assert "memory" in killed.remedy
    assert "SIGSEGV" in read(BAD._replace(status=128 + SIGSEGV, signal=SIGSEGV)).message


@given(
    st.integers(0, 255),
    st.booleans(),
    st.integers(0, 3),
    st.text(),
    st.sampled_from([V14, V18, V19]),
)
def test_only_a_clean_end_is_ok(
    status: int,
    answered: bool,
    errors: int,
    said: str,
    version: Version,
) -> None:
    """No combination of anything else is, and every other end has a message of one line."""
    reading = read(
        Evidence(
            repository="nas",
            reach="holdstill restic home",
            version=version,
            status=status,
            complaint=said,
            said=said,
            answered=answered,
            error_count=errors,
        )
    )
    clean = status == 0 and answered and errors == 0
    assert (reading.outcome is Outcome.OK) == clean
    assert clean or (reading.message and reading.message.isprintable())


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        (10, (True, False, False)),
        (12, (False, True, False)),
        (11, (False, False, True)),
        (1, (False, False, False)),
    ],
)
def test_what_can_be_helped_is_told_apart(status: int, flags: tuple[bool, bool, bool]) -> None:
    """No repository, one with another password, and one that is locked."""
    reading = read(BAD._replace(status=status))
    assert (reading.missing, reading.wrong_password, reading.locked) == flags
