"""What restic and the command of `exec` can do: no more than they need."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import each_restic, only
from tests.kernel.disks import sh
from tests.kernel.program import execute

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NUMBERS = {
    "dac_read_search": 2,
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_boot": 22,
    "mknod": 27,
    "mac_override": 32,
    "mac_admin": 33,
    "perfmon": 38,
    "bpf": 39,
    "checkpoint_restore": 40,
}
FORBIDDEN = sum(1 << number for name, number in NUMBERS.items() if name != "dac_read_search")
READ_EVERYTHING = 1 << NUMBERS["dac_read_search"]
USER = "nobody"

_LOOK = """\
#!/bin/sh
[ "$1" != version ] || { echo restic 0.19.1; exit; }
grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status >"$TMPDIR/$1.status"
umask >"$TMPDIR/$1.umask"
env -0 >"$TMPDIR/$1.environment"
ls -l /proc/self/fd >"$TMPDIR/$1.descriptors"
[ "$1" != backup ] || echo '{"message_type":"summary","snapshot_id":"01234567"}'
[ "$1" != forget ] || echo '[{"keep":[],"remove":[]}]'
"""
"""A program in restic's place that looks at itself."""


def _rows(status: str) -> dict[str, list[str]]:
    rows = (line.split(":") for line in status.splitlines())
    return {name: value.split() for name, value in rows}


def _capabilities(rows: dict[str, list[str]]) -> dict[str, int]:
    return {name: int(rows[name][0], 16) for name in SETS}


class Looked:
    """What `_LOOK` found out in one of restic's commands."""

    def __init__(self, site: Site, command: str) -> None:
        """Read what it has written."""
        base = f"{site.path('tmp')}/{command}"
        self.rows = _rows(Path(f"{base}.status").read_text(encoding="utf-8"))
        self.capabilities = _capabilities(self.rows)
        self.umask = Path(f"{base}.umask").read_text(encoding="utf-8").strip()
        pairs = Path(f"{base}.environment").read_text(encoding="utf-8").split("\0")[:-1]
        self.environment = dict(pair.split("=", 1) for pair in pairs)
        listed = Path(f"{base}.descriptors").read_text(encoding="utf-8").splitlines()[1:]
        self.descriptors = [line.partition(" -> ")[2] for line in listed]


@pytest.fixture
def looking(site: Site) -> Site:
    """Return a site whose restic looks at itself in a backup and in a retention."""
    sh("chmod", "1777", site.path("tmp"))
    site.job["keep"] = {"last": 1}
    site.install(_LOOK)
    return site


@pytest.mark.parametrize("command", ["backup", "forget"])
def test_restic_can_neither_mount_nor_trace_nor_gain_powers(looking: Site, command: str) -> None:
    """None of these capabilities in any set, no way to get one, and files for nobody else."""
    assert looking.run("backup").returncode == 0
    found = Looked(looking, command)
    assert {name: caps & FORBIDDEN for name, caps in found.capabilities.items()} == dict.fromkeys(
        SETS, 0
    )
    assert found.capabilities["CapEff"] & READ_EVERYTHING
    assert found.rows["NoNewPrivs"] == ["1"]
    assert found.umask == "0077"


@pytest.mark.parametrize("command", ["backup", "forget"])
def test_restic_as_a_user_can_only_read_everything(looking: Site, command: str) -> None:
    """One capability and the user's own groups; files for nobody else."""
    looking.job["run-as"] = USER
    assert looking.run("backup").returncode == 0
    found, user = Looked(looking, command), pwd.getpwnam(USER)
    assert found.capabilities == dict.fromkeys(SETS, READ_EVERYTHING)
    assert found.rows["NoNewPrivs"] == ["1"]
    assert found.rows["Uid"] == [str(user.pw_uid)] * 4
    assert found.rows["Gid"] == [str(user.pw_gid)] * 4
    assert set(map(int, found.rows["Groups"])) == set(os.getgrouplist(USER, user.pw_gid))
    assert found.umask == "0077"
    assert found.environment["HOME"] == user.pw_dir
    assert (found.environment["USER"], found.environment["LOGNAME"]) == (USER, USER)
    cache = found.environment["RESTIC_CACHE_DIR"]
    assert cache == looking.path(f"cache/restic-{USER}")
    assert (os.stat(cache).st_uid, os.stat(cache).st_mode & 0o777) == (user.pw_uid, 0o700)


@pytest.mark.parametrize("run_as", ["", USER])
def test_restics_environment_is_clean(looking: Site, run_as: str) -> None:
    """What says where things are on this machine, and what the repository's file says."""
    looking.job["run-as"] = run_as
    Path(looking.path("variables")).write_text("AWS_ACCESS_KEY_ID=known\n", encoding="utf-8")
    os.chmod(looking.path("variables"), 0o600)
    looking.repositories["main"]["environment-file"] = looking.path("variables")
    kept = {"LC_ALL": "C", "https_proxy": "http://127.0.0.1:9", "TZ": "UTC", "TERM": "vt100"}
    dropped = ("NOTIFY_SOCKET", "LISTEN_FDS", "LD_PRELOAD_X", "SECRET", "RESTIC_REPOSITORY_FILE")
    looking.environment = {**kept, **dict.fromkeys(dropped, "x"), "XDG_RUNTIME_DIR": "/run/user/0"}
    assert looking.run("backup").returncode == 0
    found = Looked(looking, "backup").environment
    assert {name: found[name] for name in kept} == kept
    assert [name for name in dropped if name in found] == []
    assert found["AWS_ACCESS_KEY_ID"] == "known"
    assert ("XDG_RUNTIME_DIR" in found) == (not run_as)


def test_restic_inherits_nothing_but_locks(looking: Site) -> None:
    """No descriptor leads to a directory, least of all to the live one."""
    assert looking.run("backup").returncode == 0
    for command in ("backup", "forget"):
        found = [path for path in Looked(looking, command).descriptors if path[0] == "/"]
        others = [path for path in found if not path.startswith(("/dev/null", "/proc/"))]
        assert [path for path in others if not path.endswith(("lock", ".descriptors"))] == []


@each_restic
def test_a_backup_as_a_user(site: Site, disk: Disk) -> None:
    """It has what only root may read, and the repository is written as that user."""
    sh("chmod", "1777", site.path("tmp"))
    os.chmod(site.write("secret"), 0o600)
    os.chmod(site.source, 0o700)
    sh("chown", "-R", USER, site.path("main"))
    site.job.update({"run-as": USER, "keep": {"last": 1}, "prune": {}})
    site.succeed()
    record = site.succeed()
    assert only(record)["retention"]["removed"] == 1
    assert site.listed() == ["file", "secret"]
    uid = pwd.getpwnam(USER).pw_uid
    tops = (site.path("main"), site.path(f"cache/restic-{USER}"))
    written = [
        os.path.join(d, name) for top in tops for d, _, names in os.walk(top) for name in names
    ]
    assert {os.stat(path).st_uid for path in written} == {uid}
    assert disk.runs() == []


@pytest.fixture
def fresh(site: Site) -> Site:
    """Return a site whose job runs as a user, and whose directories are not there yet."""
    sh("chmod", "1777", site.path("tmp"))
    sh("chown", "-R", USER, site.path("main"), site.calls_directory)
    site.directories = {key: site.path(f"new/of/{key}") for key in site.directories}
    site.job.update({"run-as": USER, "keep": {"last": 1}})
    return site


def _assert_cached(site: Site) -> None:
    cache = Path(site.path(f"new/of/cache-directory/restic-{USER}"))
    assert len(list(cache.glob("*/index/*/*"))) == 1


@pytest.mark.parametrize(
    "words", [("plan",), ("doctor",), ("restic", "data", "--", "snapshots")], ids=lambda w: w[0]
)
def test_nobody_else_can_write_above_what_a_look_has_made(
    fresh: Site, words: tuple[str, ...]
) -> None:
    """The version of restic is remembered in a directory that a command like these may make."""
    fresh.run(*words, wrapper=("sh", "-c", 'umask 000 && exec "$@"', "sh"))
    assert _made(fresh)
    assert [path for path in _made(fresh) if path.stat().st_mode & 0o022] == []


def _made(site: Site) -> list[Path]:
    return [path for path in Path(site.base).rglob("new/**") if path.is_dir()]


@pytest.mark.parametrize("umask", ["000", "077"])
def test_a_user_has_a_cache_whatever_the_umask(fresh: Site, umask: str) -> None:
    """The first run makes its directory, and those above it: nobody else can write to them."""
    done = fresh.run("backup", wrapper=("sh", "-c", f'umask {umask} && exec "$@"', "sh"))
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
    _assert_cached(fresh)
    made = _made(fresh)
    assert len(made) > len(fresh.directories)
    assert [path for path in made if path.stat().st_mode & 0o022] == []


def test_a_cache_that_a_maintenance_has_made(fresh: Site) -> None:
    """It is the user's all the same, and the next backup has it."""
    done = fresh.run("maintain", "prune")
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
    assert fresh.succeed()["warnings"] == []
    _assert_cached(fresh)


def test_a_cache_that_a_dead_run_has_not_given_away(fresh: Site) -> None:
    """It was killed right after it had made it, for root."""
    os.makedirs(fresh.path(f"new/of/cache-directory/restic-{USER}"), 0o700)
    assert fresh.succeed()["warnings"] == []
    _assert_cached(fresh)


def test_a_repository_that_the_user_may_not_write(site: Site, disk: Disk) -> None:
    """The run fails, and the remedy names the key."""
    sh("chmod", "1777", site.path("tmp"))
    site.job["run-as"] = USER
    failure = only(site.back_up())["failure"]
    assert "permission denied" in failure["message"]
    assert "run-as" in failure["remedy"]
    assert disk.runs() == []


def test_restic_by_hand_writes_as_the_user_and_can_do_all_else(site: Site) -> None:
    """`init` makes a repository that the job can use; a restore keeps owners."""
    sh("chmod", "1777", site.path("tmp"))
    os.chown(site.write("owned"), 12345, 12345)
    os.mkdir(site.path("own"))
    os.chown(site.path("own"), pwd.getpwnam(USER).pw_uid, 0)
    site.repositories["main"]["url"] = site.path("own/repository")
    site.job["run-as"] = USER
    assert site.run("restic", "data", "--", "init").returncode == 0
    site.succeed()
    target = site.path("restored")
    done = site.run("restic", "data", "--", "restore", "latest", "--target", target)
    assert done.returncode == 0, done.stderr
    assert os.stat(f"{target}{site.source}/owned").st_uid == 12345


def test_an_unknown_user(site: Site, disk: Disk) -> None:
    """A configuration error, before anything is frozen; `config check` warns of it."""
    site.job["run-as"] = "no-such-user"
    done = site.run("backup", "--json")
    assert done.returncode == json.loads(done.stdout)["exit_status"] == 78
    assert "jobs.data.run-as: there is no user no-such-user" in done.stderr
    assert json.loads(done.stdout)["snapshots"] == []
    assert "there is no user no-such-user" in site.run("config", "check").stderr
    assert disk.runs() == []


def _of_exec(source: str, *options: str) -> dict[str, list[str]]:
    look = ("grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status")
    done = execute((*options, source), *look)
    assert done.returncode == 0, done.stderr
    return _rows(done.stdout)


def test_exec_can_keep_all_capabilities(source: str) -> None:
    """For those who must: the command is what the caller is."""
    own = _rows(Path("/proc/self/status").read_text(encoding="utf-8"))
    found = _of_exec(source, "--keep-capabilities")
    assert _capabilities(found) == _capabilities(own)
    assert found["NoNewPrivs"] == own["NoNewPrivs"]


def test_a_command_with_all_capabilities_that_breaks_its_view(source: str) -> None:
    """It is not believed."""
    command = ("sh", "-c", f"umount {source} && cat {source}/file")
    done = execute(("--keep-capabilities", source), *command)
    assert done.returncode == 125
    assert "lost its snapshot" in done.stderr
    assert execute(source, *command).returncode not in {0, 125}
