"""The texts of systemd's units: pure, from what is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.systemd.units import Credential, Kind, Work, configuration_in, files, told_by

PROGRAM = ("/usr/local/bin/holdstill",)
WORK = Work("data", Kind.BACKUP, "*-*-* 03:00:00", "jobs.data.schedule", "5m")
TEMPLATE, TIMER, DROP_IN = WORK.files


def lines(text: str, key: str) -> list[str]:
    """Return the values of a key in a unit's text."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def drop_in(work: Work) -> str:
    """Return the text of what only this job has."""
    return files([work], PROGRAM)[work.files[2]]


def test_jobs_share_a_template_and_have_a_timer_each() -> None:
    """Pruning and checking have templates of their own."""
    other, prune = WORK._replace(job="mail"), WORK._replace(kind=Kind.PRUNE)
    assert list(files([WORK, other, prune], PROGRAM)) == [
        "holdstill@.service",
        "holdstill@data.timer",
        "holdstill@data.service.d/holdstill.conf",
        "holdstill@mail.timer",
        "holdstill@mail.service.d/holdstill.conf",
        "holdstill-prune@.service",
        "holdstill-prune@data.timer",
        "holdstill-prune@data.service.d/holdstill.conf",
    ]


def test_the_timer_starts_the_job_when_its_schedule_says() -> None:
    """Also what it missed while the machine was off, and a little later on each machine."""
    text = files([WORK], PROGRAM)[TIMER]
    assert lines(text, "OnCalendar") == ["*-*-* 03:00:00"]
    assert lines(text, "Persistent") == ["yes"]
    assert lines(text, "RandomizedDelaySec") == ["5m"]
    assert lines(text, "WantedBy") == ["timers.target"]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (Kind.BACKUP, "backup --wait 12h %i"),
        (Kind.PRUNE, "maintain --wait 12h prune %i"),
        (Kind.CHECK, "maintain --wait 12h check %i"),
    ],
)
def test_the_service_starts_the_program_that_installed_it(kind: Kind, command: str) -> None:
    """With its configuration, whatever its path is made of."""
    program = ("/opt/my 100%/holdstill", "--config", '/etc/a "$b"\\')
    template = next(iter(files([WORK._replace(kind=kind)], program).values()))
    start = r'"/opt/my 100%%/holdstill" --config "/etc/a \"$$b\"\\" '
    assert lines(template, "ExecStart") == [start + command]


def test_a_job_waits_for_its_disks() -> None:
    """A path that no unit file can hold is left to the run itself, which fails without it."""
    work = WORK._replace(mounts=("/srv/data", "/srv/my photos", "/srv/100%", "/a\nb", "/\udcff"))
    assert lines(drop_in(work), "RequiresMountsFor") == [
        "/srv/data",
        '"/srv/my photos"',
        "/srv/100%%",
    ]


def test_a_job_waits_for_the_network_only_if_a_repository_is_there() -> None:
    """A backup to a disk of this machine does not hang on a router."""
    assert "network" not in drop_in(WORK)
    assert "network-online.target" in drop_in(WORK._replace(needs_network=True))


def test_what_a_job_asks_for_is_in_its_drop_in() -> None:
    """No start on battery, units for its failures, and its secrets."""
    assert "ConditionACPower" not in drop_in(WORK)
    plain = Credential("nas", "/etc/credstore/nas", encrypted=False)
    sealed = Credential("disk", "/etc/credstore.encrypted/disk", encrypted=True)
    text = drop_in(
        WORK._replace(
            needs_ac_power=True,
            on_failure=("mail@%n.service", "x.target"),
            credentials=(plain, sealed),
        )
    )
    assert lines(text, "ConditionACPower") == ["yes"]
    assert lines(text, "OnFailure") == ["mail@%n.service x.target"]
    assert lines(text, "LoadCredential") == ["nas:/etc/credstore/nas"]
    assert lines(text, "LoadCredentialEncrypted") == ["disk:/etc/credstore.encrypted/disk"]


def test_a_job_sees_the_directories_that_it_works_in() -> None:
    """The private /tmp and the read-only homes give way to a repository or a source there.

    And a password command may be a program that writes its own code.
    """
    assert lines(drop_in(WORK), "PrivateTmp") == ["yes"]
    assert lines(drop_in(WORK), "ProtectHome") == ["read-only"]
    assert "MemoryDenyWriteExecute" not in drop_in(WORK)
    text = drop_in(WORK._replace(uses_temporary=True, writes_home=True, runs_commands=True))
    assert lines(text, "PrivateTmp") == ["no"]
    assert lines(text, "ProtectHome") == ["no"]
    assert lines(text, "MemoryDenyWriteExecute") == ["no"]


def test_only_who_becomes_another_user_may_do_so() -> None:
    """The capabilities for it are added to those of the template."""
    assert "CapabilityBoundingSet" not in drop_in(WORK)
    added = lines(drop_in(WORK._replace(becomes_user=True)), "CapabilityBoundingSet")
    assert "CAP_SETUID" in added[0]


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]*", fullmatch=True)


@given(NAMES, st.sampled_from(Kind))
def test_a_timer_tells_its_job_and_its_work(name: str, kind: Kind) -> None:
    """Whatever the job is called."""
    assert told_by(WORK._replace(job=name, kind=kind).timer) == (name, kind)


@given(
    st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \"'\\$%"), min_size=1)
)
def test_a_template_tells_its_configuration(name: str) -> None:
    """Whatever its path is made of; the default is not named."""
    config = f"/etc/{name}"
    template = files([WORK], (*PROGRAM, "--config", config))[TEMPLATE]
    assert configuration_in(template) == config
    assert configuration_in(files([WORK], PROGRAM)[TEMPLATE]) == ""
