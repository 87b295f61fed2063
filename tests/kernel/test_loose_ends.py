"""Where results go, where names come from, and what is not there: words, never a traceback."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import HOLDSTILL, only

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


def _shell(site: Site, command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    site.configure()
    script = f'"$@" {command} {redirection}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *HOLDSTILL],
        capture_output=True,
        text=True,
        env=site.environ(),
        check=False,
    )


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_full_standard_output(site: Site, disk: Disk, option: str) -> None:
    """The backups are made, all of them; that their records were not printed is an error."""
    site.jobs["second"] = {**site.job, "tags": ["second"]}
    done = _shell(site, f"backup {option}", ">/dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith("could not be printed on standard output: No space left on device")
    assert len(site.snapshots()) == 2
    assert disk.runs() == []


def test_a_reader_that_has_gone(site: Site) -> None:
    """The other jobs are run all the same."""
    site.jobs["second"] = {**site.job, "tags": ["second"]}
    done = _shell(site, "backup", "| :")
    assert "Traceback" not in done.stderr
    assert len(site.snapshots()) == 2


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", ">/dev/null 2>/dev/full", "<&-"])
def test_closed_streams(site: Site, redirection: str) -> None:
    """Nobody listens, and the backup is made."""
    done = _shell(site, "backup", redirection)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(site.snapshots()) == 1


def test_a_full_standard_output_of_other_commands(site: Site) -> None:
    """The same words."""
    for command in ("plan", "config show", "config schema"):
        done = _shell(site, command, ">/dev/full")
        assert done.returncode == 1
        assert done.stderr.startswith("holdstill: error: the result could not be printed"), command


def test_a_locale_without_the_names(site: Site) -> None:
    """What the configuration names is found and backed up; what cannot be printed is escaped."""
    os.mkdir(f"{site.source}/été")
    site.job["paths"] = [f"{site.source}/été"]
    site.environment = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    record = site.succeed()
    assert only(record)["dirs_new"] > 0
    assert site.snapshots()[0]["paths"] == [f"{site.source}/été"]
    done = site.run("plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9t\\xe9" in done.stdout
    assert done.stdout.isascii()
    done = site.run("exec", f"{site.source}/été", "--", "sh", "-c", 'printf %s "$0"', "é")
    assert done.stdout == "é"


def test_without_proc(site: Site) -> None:
    """Nothing can be looked at: that is said, with what to do."""
    wrapper = ("unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")
    for command in (("backup",), ("plan",), ("sweep",), ("exec", site.source, "--", "true")):
        done = site.run(*command, wrapper=wrapper)
        assert done.returncode in {1, 125}
        assert done.stderr.startswith("holdstill: error: /proc is not there\n  mount it"), command


def test_a_password_file_that_is_not_there(site: Site) -> None:
    """The run fails before anything is frozen, and says so once."""
    os.unlink(site.path("password"))
    done = site.run("backup")
    assert done.returncode == 78
    assert done.stderr.count(site.path("password")) == 1
    assert f"{site.path('password')}: No such file or directory" in done.stderr
    assert "frozen" not in done.stderr
    assert site.calls("backup") == []


def test_the_remedy_names_the_file_that_was_read(site: Site) -> None:
    """It can be pasted, wherever the configuration is."""
    site.job["path"] = "x"
    config = site.configure()
    done = site.run("config", "check")
    assert f"`holdstill config check --config {config}`" in done.stderr
