"""From the configuration to what systemd starts: pure decisions of `holdstill schedule`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from holdstill.config.load import parse
from holdstill.errors import ConfigurationError
from holdstill.jobs.schedule import plan_install, plan_removal, refuse_missing_credentials, works
from holdstill.systemd.unit_files import Deed, Found, State
from holdstill.systemd.units import Kind, Work, files

if TYPE_CHECKING:
    from holdstill.config.model import Config

PROGRAM = ("/usr/local/bin/holdstill",)
REPOSITORIES = {
    "disk": {"url": "/mnt/disk/restic", "password-file": "/etc/holdstill/disk"},
    "nas": {"url": "sftp:nas:/srv", "password-file": "/etc/holdstill/nas"},
    "rest": {"url": "rest:https://nas/", "password-file": "/etc/holdstill/nas"},
    "cloud": {"url": "rclone:cloud:x", "password-credential": "cloud"},
    "home": {"url": "/home/me/restic", "password-file": "/etc/holdstill/home"},
    "pass": {"url": "/mnt/disk/other", "password-command": "pass show x"},
}


def config(**jobs: dict[str, Any]) -> Config:
    """Return a configuration with these jobs; what each does not say is usual."""
    usual = {"paths": ["/srv/data"], "repositories": ["disk"]}
    document = {
        "repositories": REPOSITORIES,
        "jobs": {name: {**usual, **job} for name, job in jobs.items()},
    }
    return parse(tomli_w.dumps(document).encode(), "config.toml", {})


def work(**job: object) -> Work:
    """Return the backup that is scheduled for a job."""
    (found,) = works(config(data={"schedule": "daily", **job}))
    return found


def test_each_schedule_is_work_of_its_own() -> None:
    """Pruning and checking are scheduled apart from the backup, or not at all."""
    jobs: dict[str, dict[str, Any]] = {
        "all": {
            "schedule": "daily",
            "keep": {"last": 1},
            "prune": {"schedule": "weekly"},
            "check": {"schedule": "monthly", "read-data-subset": "5%"},
        },
        "pruned-each-time": {
            "schedule": "daily",
            "keep": {"last": 1},
            "prune": {},
            "tags": ["y"],
        },
        "none": {"tags": ["x"]},
    }
    found = [(one.job, one.kind, one.schedule, one.key) for one in works(config(**jobs))]
    assert found == [
        ("all", Kind.BACKUP, "daily", "jobs.all.schedule"),
        ("all", Kind.PRUNE, "weekly", "jobs.all.prune.schedule"),
        ("all", Kind.CHECK, "monthly", "jobs.all.check.schedule"),
        ("pruned-each-time", Kind.BACKUP, "daily", "jobs.pruned-each-time.schedule"),
    ]


def test_a_backup_needs_its_sources_and_its_local_repositories() -> None:
    """Pruning needs the repositories alone; the network only where one is elsewhere."""
    assert work().mounts == ("/srv/data", "/mnt/disk/restic")
    assert not work().needs_network
    both = work(repositories=["disk", "nas"])
    assert both.mounts == ("/srv/data", "/mnt/disk/restic")
    assert both.needs_network
    job = {"keep": {"last": 1}, "prune": {"schedule": "weekly"}}
    (prune,) = works(config(data=job))
    assert prune.mounts == ("/mnt/disk/restic",)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, False),
        ({"repositories": ["rest"]}, False),
        ({"repositories": ["nas"]}, True),
        ({"repositories": ["cloud"]}, True),
        ({"repositories": ["home"]}, True),
        ({"repositories": ["pass"]}, True),
        ({"paths": ["/home/me"]}, False),
    ],
)
def test_homes_are_writable_only_for_what_writes_there(
    job: dict[str, object], *, expected: bool
) -> None:
    """A repository, rclone's tokens, the sockets of ssh, the locks of a password command."""
    assert work(**job).writes_home is expected


@pytest.mark.parametrize("path", ["/", "/var", "/tmp/x", "/var/tmp"])
def test_the_real_temporary_directories_are_seen_by_who_backs_them_up(path: str) -> None:
    """A private /tmp would be a mount below the source."""
    assert not work().uses_temporary
    assert work(paths=[path]).uses_temporary


def test_what_installed_it_may_lie_in_a_temporary_directory() -> None:
    """The program itself, or its configuration."""
    (found,) = works(config(data={"schedule": "daily"}), ["/tmp/config.toml"])
    assert found.uses_temporary


def test_programs_of_which_nothing_is_known() -> None:
    """Those that print a password, and those that are told of runs."""
    assert not work().runs_commands
    assert work(repositories=["pass"]).runs_commands
    document = {
        "repositories": {"disk": REPOSITORIES["disk"]},
        "notifications": {"me": {"command": ["/bin/tell"]}},
        "jobs": {
            "data": {
                "paths": ["/srv/data"],
                "repositories": ["disk"],
                "schedule": "daily",
                "notify": ["me"],
            }
        },
    }
    (told,) = works(parse(tomli_w.dumps(document).encode(), "config.toml", {}))
    assert told.runs_commands


def test_a_credential_that_is_not_there_is_refused() -> None:
    """Before a unit is written that could not start."""
    with pytest.raises(ConfigurationError, match="no credential cloud in /etc/credstore"):
        refuse_missing_credentials([work(repositories=["cloud"])])


def test_units_of_jobs_that_are_gone_are_removed() -> None:
    """Also when one job alone is installed; the template stays as long as somebody needs it."""
    both = works(config(data={"schedule": "daily"}, mail={"schedule": "daily", "tags": ["m"]}))
    there = {path: Found(State.OURS, text) for path, text in files(both, PROGRAM).items()}
    left = [one for one in both if one.job == "mail"]
    plan = plan_install(left, ["mail"], PROGRAM, there)
    assert {action.path for action in plan.changes} == set(both[0].files[1:])
    assert all(action.deed is Deed.REMOVE for action in plan.changes)
    assert plan.disable == ("holdstill@data.timer",)
    assert plan.enable == ("holdstill@mail.timer",)


def test_a_second_installation_changes_nothing() -> None:
    """Every file is as it should be."""
    wanted = works(config(data={"schedule": "daily"}))
    there = {path: Found(State.OURS, text) for path, text in files(wanted, PROGRAM).items()}
    plan = plan_install(wanted, ["data"], PROGRAM, there)
    assert plan.changes == ()
    assert plan.kept == ()


def test_somebody_elses_timer_is_not_stopped() -> None:
    """It has a name like ours and no line that says so."""
    foreign = {"holdstill@x.timer": Found(State.FOREIGN, "[Timer]\n")}
    assert plan_removal(foreign) == ((), (), ())
    assert plan_install([], [], PROGRAM, foreign) == ((), (), ())


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"on-failure": ["mail"]}, r"jobs.data.on-failure\[0\]: must be the name of a systemd"),
        ({"randomized-delay": "5 minutes"}, "jobs.data.randomized-delay: must be days, hours"),
        ({"check": {}}, "jobs.data.check.schedule: is missing"),
        ({"check": {"schedule": " "}}, "jobs.data.check.schedule: must be a systemd calendar"),
        ({"check": {"schedule": "daily", "read-data-subset": "all"}}, "must be a share like 5%"),
        ({"keep": {"last": 1}, "prune": {"schedule": "a\nb"}}, "must be one line of printable"),
        ({"require-ac-power": "yes"}, "must be true or false"),
    ],
)
def test_keys_that_make_no_sense_are_named(job: dict[str, object], message: str) -> None:
    """With all other problems of the configuration."""
    with pytest.raises(ConfigurationError, match=message):
        config(data=job)
