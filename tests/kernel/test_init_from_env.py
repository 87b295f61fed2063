"""`holdstill init --from-env`: it goes on where a shell script was, in the same repository.

The script is bench/origin.sh; its environment file is read as systemd would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdstill.config.environment_file import parse
from holdstill.config.load import load
from tests.kernel.backups import PASSWORD, each_restic, make_site, only, version_of
from tests.kernel.disks import sh
from tests.kernel.newcomer import Newcomer

if TYPE_CHECKING:
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

_SCRIPT = Path(__file__).parents[2] / "bench/origin.sh"
_WORK = """\
restic backup --verbose --one-file-system --tag systemd.timer $BACKUP_EXCLUDES $BACKUP_PATHS
restic forget --prune --max-unused 5G --verbose --tag systemd.timer --group-by "paths,tags" \
    --keep-daily $RETENTION_DAYS --keep-weekly $RETENTION_WEEKS \
    --keep-monthly $RETENTION_MONTHS --keep-yearly $RETENTION_YEARS
"""


@dataclass
class Owner:
    """Somebody whose script has run every night so far."""

    newcomer: Newcomer
    disk: Disk
    subvolume: str

    @property
    def source(self) -> str:
        """What the script backs up."""
        return self.newcomer.site.source

    @property
    def file(self) -> str:
        """The script's environment file."""
        return self.newcomer.site.path("backup.env")

    def write(self, **changes: str | None) -> None:
        """Write the environment file."""
        lines: dict[str, str | None] = {
            "BACKUP_PATHS": self.source,
            "BACKUP_EXCLUDES": f'"--exclude-file {self.source}/.restic_exclude '
            '--exclude-if-present .resticignore -e *.tmp --exclude-caches --iexclude *.jpg"',
            "RETENTION_DAYS": "7",
            "RETENTION_WEEKS": "4",
            "RETENTION_MONTHS": "6",
            "RETENTION_YEARS": "3",
            "RESTIC_REPOSITORY": self.newcomer.repository,
            "RESTIC_PASSWORD": f"'{PASSWORD}'",
            **changes,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items() if value is not None)
        Path(self.file).write_text(text, encoding="utf-8")
        os.chmod(self.file, 0o600)

    def environ(self) -> dict[str, str]:
        """Return what the script finds in its environment."""
        own = {
            "DEVICE": self.disk.device,
            "TOP": self.disk.top,
            "SUBVOLUME": self.subvolume,
            "SOURCE": self.source,
            "WORK": _WORK,
            "RESTIC_CACHE_DIR": self.newcomer.site.path("script-cache"),
        }
        file = parse(Path(self.file).read_bytes(), self.file)
        return {**self.newcomer.site.environ(), **own, **file}

    def run_script(self) -> None:
        """Let the night pass."""
        argv = ["unshare", "--mount", "bash", str(_SCRIPT)]
        done = subprocess.run(argv, env=self.environ(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def init(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Give the script up."""
        return self.newcomer.run("init", "--from-env", self.file, *arguments)

    def snapshots(self) -> list[dict[str, Any]]:
        """Return restic's snapshots, the oldest first."""
        return self.newcomer.site.snapshots()


@pytest.fixture
def owner(
    tmp_path: Path, disk: Disk, quiet: str, restic_path: str, template_repository: str
) -> Owner:
    """Set up a disk as the script wants it, with a repository and some files."""
    subvolume = disk.arena.unique("@")
    source = disk.source(subvolume, f"{quiet}/data")
    site = make_site(tmp_path, source, restic_path, template_repository)
    newcomer = Newcomer(site)
    newcomer.only = quiet
    shutil.copytree(template_repository, newcomer.repository)
    site.repositories["main"] = {"url": newcomer.repository}
    site.write("docs/a", os.urandom(100_000))
    site.write("docs/b.tmp", "excluded by a pattern")
    site.write("B.JPG", "excluded by a pattern in any case")
    site.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55")
    site.write("cache/e", "excluded by the tag beside it")
    site.write("left/.resticignore", "")
    site.write("left/c", "excluded by the file beside it")
    site.write("old/d", "excluded by a file of patterns")
    site.write(".restic_exclude", f"{source}/old\n")
    made = Owner(newcomer, disk, subvolume)
    made.write()
    return made


@each_restic
def test_a_script_is_continued_as_if_nothing_had_happened(owner: Owner, restic_path: str) -> None:
    """Host, paths and tags agree; the parent is found, and one retention holds them all."""
    owner.run_script()
    owner.run_script()
    old = owner.snapshots()  # newer restics keep the oldest, too, while there are few
    before = old[-1]
    listed = owner.newcomer.site.listed(before["id"])
    done = owner.init()
    assert done.returncode == 0, done.stderr
    record = owner.newcomer.back_up()
    after = owner.snapshots()[-1]
    for key in ("hostname", "paths", "tags"):
        assert after[key] == before[key]
    assert after["parent"] == before["id"]
    assert owner.newcomer.site.listed(after["id"]) == listed
    assert [path for path in listed if "." not in path] == [
        "cache",
        "docs",
        "docs/a",
        "file",
        "left",
    ]
    result = only(record)
    assert (result["files_new"], result["files_changed"]) == (0, 0)
    assert result["files_unmodified"] == result["total_files"] > 0
    retention = result["retention"]
    assert (retention["kept"], retention["removed"], retention["pruned"]) == (len(old), 1, True)
    assert before["id"] not in {one["id"] for one in owner.snapshots()}
    # The directories, once: the script has stored device numbers, and holdstill no longer does.
    assert result["data_added"] < 6000
    if version_of(restic_path) >= (0, 17):
        assert only(owner.newcomer.back_up())["data_added"] == 0


def test_secrets_stay_where_they_are(owner: Owner) -> None:
    """The configuration names the environment file, and repeats nothing secret from it."""
    done = owner.init("--job", "mine", "--schedule", "*-*-* 02:00:00")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in owner.newcomer.text() + done.stdout + done.stderr
    config = load(owner.newcomer.configuration, {})
    (repository,) = config.repositories.values()
    assert (repository.environment_file, repository.password_file) == (owner.file, "")
    job = config.jobs["mine"]
    assert (job.nested, job.tags, job.schedule) == ("skip", ("systemd.timer",), "*-*-* 02:00:00")
    assert owner.newcomer.written() == {"config.toml": 0o600}
    assert "both would run" in done.stdout


def test_nested_subvolumes_stay_left_out_and_are_named(owner: Owner) -> None:
    """The script's --one-file-system kept an empty directory of them."""
    sh("btrfs", "subvolume", "create", f"{owner.source}/nested")
    owner.newcomer.site.write("nested/file")
    done = owner.init()
    assert done.returncode == 0, done.stderr
    assert f"{owner.source}/nested\n" in done.stderr
    assert 'With "include" they are frozen, too' in done.stderr
    owner.newcomer.back_up()
    assert not [path for path in owner.newcomer.site.listed() if path.startswith("nested")]


def test_a_file_with_the_repository_is_read(owner: Owner) -> None:
    """RESTIC_REPOSITORY_FILE and RESTIC_PASSWORD_FILE, as restic takes them."""
    Path(owner.newcomer.site.path("url")).write_text(owner.newcomer.repository + "\n", "utf-8")
    password = owner.newcomer.site.path("password")
    owner.write(
        RESTIC_REPOSITORY=None,
        RESTIC_REPOSITORY_FILE=owner.newcomer.site.path("url"),
        RESTIC_PASSWORD=None,
        RESTIC_PASSWORD_FILE=password,
    )
    done = owner.init("--job", "mine")
    assert done.returncode == 0, done.stderr
    (repository,) = load(owner.newcomer.configuration, {}).repositories.values()
    assert (repository.url, repository.password_file) == (owner.newcomer.repository, password)
    assert repository.environment_file == ""
    owner.newcomer.back_up("mine")


def test_flags_complete_what_the_file_does_not_say(owner: Owner) -> None:
    """A script may have had its repository and password from its unit."""
    owner.write(RESTIC_REPOSITORY=None, RESTIC_PASSWORD=None)
    done = owner.init()
    assert (done.returncode, "has no RESTIC_REPOSITORY" in done.stderr) == (78, True)
    flags = ("--repository", owner.newcomer.repository)
    done = owner.init(*flags)
    assert (done.returncode, "--password-file" in done.stderr) == (78, True)
    done = owner.init(*flags, "--password-file", owner.newcomer.site.path("password"))
    assert done.returncode == 0, done.stderr
    owner.newcomer.back_up()


def test_a_repository_that_is_not_there_is_not_created(owner: Owner) -> None:
    """What the script has written must be somewhere else."""
    shutil.rmtree(owner.newcomer.repository)
    done = owner.init()
    assert done.returncode == 1
    assert "there is no repository" in done.stderr
    assert not os.path.exists(owner.newcomer.repository)
    assert not owner.newcomer.written()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RETENTION_WEEKS": "'4"}, ":4: RETENTION_WEEKS: its quote ends in a later"),
        ({"RESTIC_PASSWORD": "'" + PASSWORD}, ":8: the quote that opens here is never closed"),
        ({"BACKUP_EXCLUDES": "--exclude 'a"}, ":2: BACKUP_EXCLUDES: a quote in its value"),
        ({"BACKUP_EXCLUDES": "--exclude-larger-than 1G"}, "--exclude-larger-than cannot be"),
        (
            {"BACKUP_EXCLUDES": "--exclude-file patterns"},
            'must be an absolute path, not "patterns"',
        ),
        ({"BACKUP_PATHS": None}, "BACKUP_PATHS is missing"),
    ],
)
def test_what_cannot_be_translated_is_an_error(
    owner: Owner, changes: dict[str, str | None], words: str
) -> None:
    """78, with file, line and variable; nothing is written."""
    owner.write(**changes)
    done = owner.init()
    assert done.returncode == 78, done.stderr
    assert owner.file in done.stderr
    assert words in done.stderr
    assert PASSWORD not in done.stderr
    assert not owner.newcomer.written()


def test_an_environment_file_that_everyone_can_read_is_a_warning(owner: Owner) -> None:
    """It holds the password."""
    os.chmod(owner.file, 0o644)
    done = owner.init()
    assert (done.returncode, "can be read by every user" in done.stderr) == (0, True)


def test_flags_that_contradict_the_file_are_refused(owner: Owner) -> None:
    """The file says it; whoever wants something else changes the configuration."""
    done = owner.init("--path", "/srv", "--keep", "daily=1")
    assert done.returncode == 2
    assert "--path, --keep" in done.stderr
