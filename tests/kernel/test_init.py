"""`holdstill init`: from nothing to a first backup, and nothing that is there is ever harmed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.config.load import load
from holdstill.errors import HoldstillError
from holdstill.jobs import setup
from holdstill.restic.binary import Binary
from holdstill.restic.commands import Target
from holdstill.restic.versions import Version
from tests.kernel import private_root
from tests.kernel.backups import (
    HOLDSTILL,
    NEWEST,
    PASSWORD,
    RESTICS,
    each_restic,
    make_site,
    only,
    version_of,
    wait_until,
)
from tests.kernel.disks import sh, swapping
from tests.kernel.newcomer import Newcomer

if TYPE_CHECKING:
    import subprocess

    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


@pytest.fixture
def newcomer(tmp_path: Path, source: str, restic_path: str, template_repository: str) -> Newcomer:
    """Sit down before a machine with one mounted subvolume."""
    return Newcomer(make_site(tmp_path, source, restic_path, template_repository))


def _existing(newcomer: Newcomer) -> None:
    """Let there be a repository, and a file with its password."""
    shutil.copytree(newcomer.site.template, newcomer.repository)


def _assert_refused(newcomer: Newcomer, done: subprocess.CompletedProcess[str], status: int) -> str:
    """Expect an error in words with a remedy, and nothing written; return what was said."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.partition("holdstill: error: ")[2].count("\n  "), done.stderr
    assert not newcomer.written()
    assert not newcomer.site.calls("init")
    return done.stderr


@each_restic
def test_flags_alone_lead_to_a_backup_that_restores(newcomer: Newcomer) -> None:
    """One command without a question; what the backup restores is what was there."""
    site = newcomer.site
    site.write("a/b", os.urandom(1 << 16))
    done = newcomer.init("--yes", "--job", "data")
    assert done.stdout.rstrip().splitlines()[-1].split("  ")[1:] == [
        f"holdstill --config {newcomer.configuration} backup",
        "the first backup",
    ]
    assert newcomer.written() == {"config.toml": 0o600, "disk.password": 0o600}
    assert os.stat(newcomer.directory).st_mode & 0o777 == 0o700
    record = newcomer.back_up()
    assert (record["job"], only(record)["total_files"]) == ("data", 2)
    assert newcomer.run("config", "check").stderr == ""
    target = site.path("restored")
    done = newcomer.run("restic", "data", "--", "restore", "latest", "--target", target)
    assert done.returncode == 0, done.stderr
    sh("diff", "-r", site.source, target + site.source)


def test_proposes_a_job_for_each_file_system_and_says_what_is_left_out(
    newcomer: Newcomer, disk: Disk, arena: Arena
) -> None:
    """Both subvolumes of a disk are in one job; its top level and other disks are named."""
    beside = disk.source()
    other = arena.disk()
    plain = arena.other("ext4")
    done = newcomer.init("--yes")
    config = load(newcomer.configuration, {})
    jobs = {frozenset(job.paths) for job in config.jobs.values()}
    assert frozenset({newcomer.site.source, beside}) in jobs
    assert frozenset({other.top}) in jobs
    assert disk.top not in {path for job in config.jobs.values() for path in job.paths}
    left_out = done.stderr.partition("left out: ")[2]
    assert f"      {disk.top}\n" in left_out.partition("the top level of the file system")[2]
    assert f"      {plain}\n" in left_out.partition("ext4, which has no snapshots\n")[2]


def test_a_whole_system_is_one_job(arena: Arena, tmp_path: Path) -> None:
    """`/` and `/home` are paths, one in the other: at one instant, and each file once."""
    base = os.path.realpath(tmp_path)
    root = private_root.build(arena.disk(1024), NEWEST, base)
    environment = {
        "HOLDSTILL_CONFIG": f"{base}/config.toml",
        **{f"{kind}_DIRECTORY": f"{base}/{kind}" for kind in ("STATE", "RUNTIME", "CACHE")},
    }

    def holdstill(*arguments: str) -> private_root.Finished:
        done = root.run(*HOLDSTILL, *arguments, environment=environment)
        assert done.returncode == 0, done.stderr
        return done

    holdstill("init", "--yes", "--repository", f"{base}/repository")
    config = load(f"{base}/config.toml", {})
    assert {name: job.paths for name, job in config.jobs.items()} == {"system": ("/", "/home")}
    record = json.loads(holdstill("backup", "--json").stdout)
    assert (record["outcome"], len(record["snapshots"])) == ("ok", 3)
    assert record["instant"] != "skewed"
    listed = holdstill("restic", "system", "--", "ls", "latest").stdout.splitlines()
    for path in ("/home/file", "/srv/nested/file", "/etc/file"):
        assert listed.count(path) == 1
    assert not [path for path in listed if path.startswith(("/proc/", "/.holdstill"))]


def test_the_disk_of_the_repository_is_not_proposed(newcomer: Newcomer, arena: Arena) -> None:
    """A backup of the backup would double it each night; whoever names it gets it."""
    backup = arena.disk()
    newcomer.repository = f"{backup.top}/restic"
    done = newcomer.init("--yes")
    paths = {p for job in load(newcomer.configuration, {}).jobs.values() for p in job.paths}
    assert newcomer.site.source in paths
    assert backup.top not in paths
    assert "the repository lies there" in done.stderr


def test_a_repository_on_the_disk_that_is_backed_up_is_a_warning(newcomer: Newcomer) -> None:
    """It would die with that disk."""
    newcomer.repository = f"{newcomer.site.source}/restic"
    done = newcomer.init("--yes", "--path", newcomer.site.source)
    assert "the repository is on the same disk" in done.stderr


def test_choices_by_flag_are_what_is_written(newcomer: Newcomer) -> None:
    """Path, name, retention and schedule; the password file that exists is named, not copied."""
    newcomer.init(
        "--path", newcomer.site.source + "/", "--job", "mine", "--keep", "daily=7,yearly=2",
        "--schedule", "Sun 04:00", "--password-file", newcomer.site.path("password"),
    )  # fmt: skip
    config = load(newcomer.configuration, {})
    job = config.jobs["mine"]
    assert (job.paths, job.tags, job.schedule) == ((newcomer.site.source,), ("mine",), "Sun 04:00")
    assert job.keep is not None
    assert (job.keep.daily, job.keep.yearly, job.keep.last) == (7, 2, 0)
    assert config.repositories["disk"].password_file == newcomer.site.path("password")
    assert newcomer.written() == {"config.toml": 0o600}
    newcomer.back_up("mine")


def test_everything_can_be_kept_and_nothing_scheduled(newcomer: Newcomer) -> None:
    """Neither retention nor prune nor a calendar is written then."""
    newcomer.init("--yes", "--job", "a", "--keep", "everything", "--schedule", "never")
    job = load(newcomer.configuration, {}).jobs["a"]
    assert (job.keep, job.prune, job.schedule) == (None, None, "")


def test_a_dry_run_prints_the_configuration_and_writes_nothing(newcomer: Newcomer) -> None:
    """What it prints is what the same command writes without --dry-run."""
    flags = ("--yes", "--job", "data", "--schedule", "daily")
    printed = newcomer.init(*flags, "--dry-run").stdout
    assert not newcomer.written()
    assert not newcomer.site.calls()
    newcomer.init(*flags)
    assert newcomer.text() == printed


def test_without_a_terminal_what_is_missing_is_named(newcomer: Newcomer) -> None:
    """All of it at once, and what would stand in for it."""
    said = _assert_refused(newcomer, newcomer.run("init"), 2)
    for flag in ("--repository URL", "--path PATH", "--generate-password", "--yes"):
        assert flag in said
    said = _assert_refused(newcomer, newcomer.run("init", "--yes", "--job", "a"), 2)
    assert "missing: --repository URL\n  " in said


def test_an_existing_configuration_is_never_overwritten_unasked(newcomer: Newcomer) -> None:
    """Nothing else happens either; --replace says that it may be."""
    os.makedirs(newcomer.directory)
    Path(newcomer.configuration).write_text("# mine\n", encoding="utf-8")
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository)
    assert (done.returncode, newcomer.text()) == (78, "# mine\n")
    assert newcomer.configuration in done.stderr
    assert "--replace" in done.stderr
    assert not newcomer.site.calls()
    newcomer.init("--yes", "--job", "data", "--replace")
    assert list(load(newcomer.configuration, {}).jobs) == ["data"]


def test_the_configuration_can_be_written_elsewhere(newcomer: Newcomer) -> None:
    """With its password beside it, and commands that name it."""
    output = newcomer.site.path("elsewhere/mine.toml")
    done = newcomer.init("--yes", "--output", output)
    assert sorted(os.listdir(os.path.dirname(output))) == ["disk.password", "mine.toml"]
    assert f"holdstill --config {output} backup" in done.stdout


def test_a_stored_password_is_used_and_never_overwritten(newcomer: Newcomer) -> None:
    """The one that an interrupted try has left behind opens what that try created."""
    os.makedirs(newcomer.directory)
    stored = Path(newcomer.directory, "disk.password")
    stored.write_text(PASSWORD, encoding="utf-8")
    _existing(newcomer)
    done = newcomer.init("--yes", "--job", "data", "--generate-password")
    assert stored.read_text(encoding="utf-8") == PASSWORD
    assert "its password is used" in done.stderr
    assert "Opened the repository" in done.stderr
    newcomer.back_up()


def test_an_environment_file_may_know_the_password(newcomer: Newcomer) -> None:
    """It is referred to, and no other password is made."""
    file = newcomer.site.path("nas.env")
    Path(file).write_text(f"RESTIC_PASSWORD='{PASSWORD}'\n", encoding="utf-8")
    os.chmod(file, 0o600)
    newcomer.init("--path", newcomer.site.source, "--environment-file", file)
    (repository,) = load(newcomer.configuration, {}).repositories.values()
    assert (repository.environment_file, repository.password_file) == (file, "")
    assert newcomer.written() == {"config.toml": 0o600}
    newcomer.back_up()
    Path(file).write_text("AWS_REGION=x\n", encoding="utf-8")
    newcomer.repository += "-2"
    flags = ("--path", newcomer.site.source, "--environment-file", file, "--replace")
    done = newcomer.run("init", "--repository", newcomer.repository, *flags)
    assert (done.returncode, "--generate-password" in done.stderr) == (2, True)


@each_restic
def test_an_existing_repository_is_kept(newcomer: Newcomer) -> None:
    """The right password opens it, and it is not initialised again."""
    _existing(newcomer)
    done = newcomer.init("--yes", "--password-file", newcomer.site.path("password"))
    assert "Opened the repository" in done.stderr
    assert not newcomer.site.calls("init")


@each_restic
def test_a_wrong_password_is_said_in_words(newcomer: Newcomer) -> None:
    """No configuration is written that could not work."""
    _existing(newcomer)
    Path(newcomer.site.path("password")).write_text("wrong", encoding="utf-8")
    password = ("--password-file", newcomer.site.path("password"))
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository, *password)
    assert "does not open the repository" in _assert_refused(newcomer, done, 1)


@each_restic
def test_no_password_is_made_for_a_repository_that_has_one(newcomer: Newcomer) -> None:
    """It has to be given."""
    _existing(newcomer)
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository)
    said = _assert_refused(newcomer, done, 1)
    assert "there is a repository already" in said
    assert "--password-file" in said


@pytest.mark.parametrize("restic_path", list(RESTICS.values())[:1])
def test_a_repository_that_cannot_be_reached(newcomer: Newcomer, restic_path: str) -> None:
    """Nobody listens: the oldest restic says so at once, newer ones are given half a minute."""
    assert version_of(restic_path) < (0, 17)
    newcomer.repository = "rest:http://127.0.0.1:9/"
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository)
    assert "cannot be reached" in _assert_refused(newcomer, done, 1)


def test_a_repository_that_does_not_answer(
    newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for, for ever: a script that hangs is the restic here."""
    newcomer.site.install("#!/bin/sh\nexec sleep 1000\n")
    monkeypatch.setattr(setup, "ANSWER_SECONDS", 0.5)
    binary = Binary(newcomer.site.path("bin/restic"), Version(0, 19, 1))
    target = Target("nas", "rest:http://127.0.0.1:9/", "", None)
    with pytest.raises(HoldstillError, match="has not answered within"):
        setup.ask(binary, target, print)


def test_a_password_in_the_url_is_refused(newcomer: Newcomer) -> None:
    """Every user can see a command line."""
    url = "rest:http://me:secret@127.0.0.1:9/"
    done = newcomer.run("init", "--yes", "--repository", url)
    assert done.returncode == 2
    assert "--environment-file" in done.stderr
    assert "secret" not in done.stderr


def test_no_password_stands_in_an_argument(newcomer: Newcomer) -> None:
    """Neither in those of restic nor in what is printed."""
    done = newcomer.init("--yes", "--job", "data")
    password = Path(newcomer.directory, "disk.password").read_text(encoding="utf-8").strip()
    assert len(password) >= 24
    assert password not in done.stdout + done.stderr
    calls = newcomer.site.calls()
    assert calls
    assert not [call for call in calls if password in " ".join(call.argv)]


def test_a_machine_without_btrfs(newcomer: Newcomer) -> None:
    """What there is instead is named."""
    newcomer.only = "/nowhere"
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository)
    assert "nothing that is mounted here can be frozen" in _assert_refused(newcomer, done, 1)


def test_a_path_that_cannot_be_frozen(newcomer: Newcomer, arena: Arena) -> None:
    """It is an error, not left out."""
    path = arena.other("ext4")
    flags = ("--repository", newcomer.repository, "--path", path)
    said = _assert_refused(newcomer, newcomer.run("init", "--yes", *flags), 1)
    assert f"{path} is on ext4" in said


def test_no_standard_input_at_all(newcomer: Newcomer) -> None:
    """Nothing can be asked either, and it is said as usual."""
    done = newcomer.run("init", wrapper=("sh", "-c", 'exec "$@" <&-', "sh"))
    assert "--repository URL" in _assert_refused(newcomer, done, 2)


def test_names_that_are_not_text(newcomer: Newcomer, disk: Disk, arena: Arena) -> None:
    """A path of odd bytes is proposed, written, and backed up as any other."""
    source = disk.source(at=f"{arena.unique('odd')}/\udcff 'a\nb\"")
    done = newcomer.init("--path", source, "--yes")
    assert "\\xff" in done.stderr
    (job,) = load(newcomer.configuration, {}).jobs.values()
    assert job.paths == (source,)
    newcomer.back_up()


def test_not_root(newcomer: Newcomer) -> None:
    """77, before anything is asked."""
    wrapper = ("setpriv", "--bounding-set", "-sys_admin")
    done = newcomer.run("init", "--yes", wrapper=wrapper)
    assert "sudo" in _assert_refused(newcomer, done, 77)


def test_a_directory_that_others_can_change_is_refused(newcomer: Newcomer) -> None:
    """Whoever can exchange the password's file can lock its owner out."""
    os.makedirs(newcomer.directory)
    sh("chmod", "g+w", newcomer.directory)
    done = newcomer.run("init", "--yes", "--repository", newcomer.repository)
    assert "can be changed by others" in _assert_refused(newcomer, done, 78)


@pytest.mark.usefixtures("swap_alone")
def test_a_subvolume_with_an_active_swap_file_is_left_out(newcomer: Newcomer) -> None:
    """Btrfs takes no snapshot of it: a nested one is excluded, and the backup works."""
    nested = f"{newcomer.site.source}/swap"
    sh("btrfs", "subvolume", "create", nested)
    path = f"{nested}/file"
    with swapping(path):
        done = newcomer.init("--yes", "--path", newcomer.site.source)
        newcomer.back_up()
    assert "active swap file" in done.stderr
    (job,) = load(newcomer.configuration, {}).jobs.values()
    assert job.nested_exclude == (nested,)


@each_restic
def test_a_conversation_leads_to_a_backup(newcomer: Newcomer) -> None:
    """On a terminal: where to, a password made up, all that is proposed, when, and yes."""
    with newcomer.talking("init", "--job", "data") as dialogue:
        dialogue.answer("repository: ", newcomer.repository)
        dialogue.answer("Generate a password?", "")
        dialogue.answer("What is to be backed up?", newcomer.site.source)
        dialogue.answer("When?", "never")
        dialogue.answer("Write this?", "yes")
        assert dialogue.end() == 0, dialogue.said
    assert newcomer.written() == {"config.toml": 0o600, "disk.password": 0o600}
    newcomer.back_up("data")


def test_what_is_answered_wrong_is_asked_again(newcomer: Newcomer) -> None:
    """A URL that is none, a path that cannot be frozen, two passwords that differ."""
    with newcomer.talking("init", "--schedule", "never", "--job", "data") as dialogue:
        dialogue.answer("repository: ", "ftp:nowhere")
        dialogue.answer("repository: ", newcomer.repository)
        dialogue.answer("Generate a password?", "perhaps")
        dialogue.answer("Generate a password?", "n")
        dialogue.answer("its password: ", "one")
        dialogue.answer("once more: ", "two")
        dialogue.answer("its password: ", PASSWORD)
        dialogue.answer("once more: ", PASSWORD)
        dialogue.answer("What is to be backed up?", "/proc")
        dialogue.answer("What is to be backed up?", newcomer.site.source)
        dialogue.answer("Write this?", "")
        assert dialogue.end() == 0, dialogue.said
    assert PASSWORD not in dialogue.said
    stored = Path(newcomer.directory, "disk.password").read_text(encoding="utf-8")
    assert stored == f"{PASSWORD}\n"
    newcomer.back_up("data")


def test_the_password_of_an_existing_repository_is_asked_for(newcomer: Newcomer) -> None:
    """Until it opens."""
    _existing(newcomer)
    with newcomer.talking("init", "--schedule", "never", "--job", "data") as dialogue:
        dialogue.answer("repository: ", newcomer.repository)
        dialogue.answer("its password: ", "wrong")
        dialogue.expect("does not open it")
        dialogue.answer("its password: ", PASSWORD)
        dialogue.answer("What is to be backed up?", newcomer.site.source)
        dialogue.answer("Write this?", "")
        assert dialogue.end() == 0, dialogue.said
    assert not newcomer.site.calls("init")
    newcomer.back_up("data")


def test_ctrl_c_at_a_password_leaves_a_terminal_that_echoes(newcomer: Newcomer) -> None:
    """A terminal that shows nothing would stay behind."""
    _existing(newcomer)
    with newcomer.talking("init", "--repository", newcomer.repository) as dialogue:
        dialogue.expect("its password: ")
        wait_until(lambda: not dialogue.shows_what_is_typed())
        dialogue.answer("", "\x03")
        assert dialogue.end() == -signal.SIGINT
        assert dialogue.shows_what_is_typed()
    assert not newcomer.written()


@pytest.mark.parametrize("answer", ["no", "\x04", "\x03"])
def test_nothing_is_written_before_the_last_answer(newcomer: Newcomer, answer: str) -> None:
    """No, the end of input, and Ctrl-C leave everything as it was."""
    with newcomer.talking("init", "--repository", newcomer.repository) as dialogue:
        dialogue.answer("Generate a password?", "yes")
        dialogue.answer("What is to be backed up?", "")
        dialogue.answer("When?", "")
        dialogue.answer("Write this?", answer)
        assert dialogue.end() != 0
    assert not newcomer.written()
    assert not os.path.exists(newcomer.repository)
