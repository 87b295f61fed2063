"""`holdstill restic`: restic as it is, with a job's repository and secrets."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from tests.kernel.backups import PASSWORD, each_restic, wait_until

if TYPE_CHECKING:
    from tests.kernel.backups import Site

pytest_plugins = ["tests.kernel.backup_fixtures"]


@each_restic
def test_runs_restic_on_the_jobs_repository(site: Site) -> None:
    """Its output, its exit status, and not a word of our own."""
    site.succeed()
    done = site.run("restic", "data", "--", "snapshots", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [found["paths"] for found in json.loads(done.stdout)] == [[site.source]]
    site.run("restic", "data", "--", "restore", "latest", "--target", site.path("out"))
    with open(site.path("out") + site.source + "/file", encoding="utf-8") as file:
        assert file.read() == "before\n"


def test_the_exit_status_is_restics(site: Site) -> None:
    """Also that of an unknown command."""
    done = site.run("restic", "data", "--", "no-such-command")
    assert done.returncode == 1
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_repository_is_the_first_or_the_named_one(site: Site) -> None:
    """An unknown name is an error that lists those of the job."""
    site.add_repository("second")
    site.job["repositories"] = ["main", "second"]
    for arguments in ((), ("--repository", "second")):
        assert site.run("restic", *arguments, "data", "--", "cat", "config").returncode == 0
    used = [call.environment["RESTIC_REPOSITORY"] for call in site.calls("cat")]
    assert used == [site.path("main"), site.path("second")]
    done = site.run("restic", "--repository", "third", "data", "--", "snapshots")
    assert done.returncode == 2
    assert "configured: main, second" in done.stderr


def test_arguments_reach_restic_untouched(site: Site) -> None:
    """Odd ones, too, and a second --; no secret is among them."""
    site.run("restic", "data", "--", "ls", "a b", "--", "-x\n")
    (call,) = site.calls("ls")
    assert call.argv == ("ls", "a b", "--", "-x\n")
    assert PASSWORD not in " ".join(call.argv)


def test_without_arguments_it_says_how_it_is_used(site: Site) -> None:
    """Nothing after -- is a wrong command line."""
    done = site.run("restic", "data")
    assert (done.returncode, site.calls()) == (2, [])
    assert "no ARG: it stands after --" in done.stderr


def test_a_signal_reaches_restic(site: Site) -> None:
    """Restic decides how to end, and its status is ours."""
    with site.paused("restic", "data", "--", "snapshots", at="snapshots") as process:
        wait_until(lambda: site.calls("snapshots"))
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
