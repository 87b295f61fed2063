"""A backup with every restic."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from holdstill.restic.commands import Backup, exclude_pattern, recorded_path
from holdstill.restic.outcome import Outcome
from tests.restic.asking import files, snapshots

if TYPE_CHECKING:
    from pathlib import Path

    from holdstill.restic.client import BackupResult, Client
    from holdstill.restic.commands import Target
    from holdstill.restic.events import Status

FROZEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
ODD = [
    *(b"a*b", b"a?b", b"[x]", b"{a,b}", b"**", b"back\\slash", b"!bang", b"$HOME", b"~", b"^"),
    *(b" lead", b"trail ", b"#hash", b"com,ma", b"-dash", b'it\'s "quoted"', b"new\nline"),
    *(b"caf\xc3\xa9", b"\xff\xfe", b"\xe2\x82", b"\xed\xa0\x80", b"\x1b[31mred"),
]


def of(*paths: Path | str) -> Backup:
    """Return a backup of these paths."""
    return Backup(paths=tuple(map(str, paths)), host="box", frozen_at=FROZEN)


def run(client: Client, target: Target, request: Backup) -> BackupResult:
    """Make a backup that nobody watches."""
    return client.backup(target, request, lambda _: None, lambda _: None)


def odd_directories(source: Path) -> list[str]:
    """Return a directory for each odd name, with a file in it and one with a harmless name."""
    made = []
    for number, name in enumerate(ODD):
        directory = os.path.join(os.fsencode(source), b"%d" % number)
        os.makedirs(os.path.join(directory, name))
        for file in (os.path.join(name, b"inside"), b"aXb", b"x"):
            with open(os.path.join(directory, file), "wb"):
                pass
        made.append(os.path.join(os.fsdecode(directory), os.fsdecode(name)))
    return made


def test_backup_writes_a_snapshot_of_the_job(client: Client, target: Target, source: Path) -> None:
    """Its paths, host, tags and instant are the job's, to the microsecond."""
    warnings: list[str] = []
    request = of(source)._replace(tags=("nightly", "b"))
    result = client.backup(target, request, lambda _: None, warnings.append)
    (snapshot,) = snapshots(client, target)
    assert (result.outcome, result.message, warnings) == (Outcome.OK, "", [])
    assert snapshot["id"].startswith(result.summary.snapshot_id)
    assert snapshot["paths"] == [str(source)]
    assert (snapshot["hostname"], snapshot["tags"]) == ("box", ["nightly", "b"])
    assert datetime.fromisoformat(snapshot["time"]) == FROZEN


def test_backup_says_what_it_added(client: Client, target: Target, source: Path) -> None:
    """The first time everything, the second time nothing new of the files."""
    first = run(client, target, of(source)).summary
    second = run(client, target, of(source)).summary
    assert (first.files_new, first.files_unmodified, first.total_bytes_processed) == (1, 0, 7)
    assert (second.files_new, second.files_unmodified, second.total_bytes_processed) == (0, 1, 7)
    assert first.data_added > second.data_added
    packed = first.data_added_packed
    assert (packed is None) == (client.binary.version < (0, 17, 0))
    assert packed is None or packed > 0


def test_progress_is_reported_as_often_as_asked(
    client: Client, target: Target, source: Path
) -> None:
    """Sixty times a second for who watches; hardly ever for who does not."""
    (source / "large").touch()
    os.truncate(source / "large", 300 << 20)
    seen: list[Status] = []
    request = of(source)._replace(progress_per_second=60)
    assert client.backup(target, request, seen.append, lambda _: None).outcome is Outcome.OK
    assert len(seen) > 3
    assert max(status.percent_done for status in seen) <= 1
    assert any(status.total_bytes > 300 << 20 for status in seen)
    (source / "large").touch()
    unseen: list[Status] = []
    assert client.backup(target, of(source), unseen.append, lambda _: None).outcome is Outcome.OK
    assert len(unseen) <= 3


def test_paths_with_odd_names_are_backed_up(client: Client, target: Target, source: Path) -> None:
    """Globs, newlines, bytes that are not UTF-8: each is the path, and nothing but the path."""
    paths = odd_directories(source)
    result = run(client, target, of(*paths))
    (snapshot,) = snapshots(client, target)
    assert (result.outcome, result.summary.total_files_processed) == (Outcome.OK, len(ODD))
    assert set(snapshot["paths"]) == {recorded_path(path) for path in paths}


def test_exclude_pattern_hits_the_path_and_nothing_else(
    client: Client, target: Target, source: Path
) -> None:
    """Its neighbours, which an unescaped pattern would take along, stay."""
    patterns = tuple(exclude_pattern(path) for path in odd_directories(source))
    result = run(client, target, of(source)._replace(exclude=patterns))
    kept = {f"{source}/{number}/{name}" for number in range(len(ODD)) for name in ("aXb", "x")}
    assert result.outcome is Outcome.OK
    assert files(client, target) == kept | {f"{source}/file"}


def test_relative_pattern_may_begin_with_an_exclamation_mark(
    client: Client, target: Target, source: Path
) -> None:
    """For restic that would turn the pattern around."""
    (source / "!bang").touch()
    run(client, target, of(source)._replace(exclude=(exclude_pattern("!bang"),)))
    assert files(client, target) == {f"{source}/file"}


def test_exclude_files_and_markers_count(
    client: Client, target: Target, source: Path, tmp_path: Path
) -> None:
    """--exclude-file and --exclude-if-present."""
    for name in ("left-out", "marked/x", "marked/.nobackup"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()
    (tmp_path / "list").write_text(f"{source}/left-out\n")
    request = of(source)._replace(
        exclude_files=(str(tmp_path / "list"),), exclude_if_present=(".nobackup",)
    )
    assert run(client, target, request).outcome is Outcome.OK
    assert files(client, target) == {f"{source}/file", f"{source}/marked/.nobackup"}


@pytest.mark.parametrize(
    ("zone", "frozen_at"),
    [
        ("Europe/Prague", datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
        ("Europe/Prague", datetime(2025, 10, 26, 1, 30, tzinfo=UTC)),
        ("CET-1CEST,M3.5.0,M10.5.0/3", datetime(2025, 7, 1, 12, 0, 0, 1, UTC)),
        ("", datetime(2025, 7, 1, 12, 0, 0, 1, UTC)),
        (None, datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
    ],
)
def test_instant_is_right_in_every_zone(
    client: Client, target: Target, source: Path, zone: str | None, frozen_at: datetime
) -> None:
    """Also in the hour that comes twice, and where Go and Python read TZ differently."""
    client = client._replace(
        environment={**client.environment, **({} if zone is None else {"TZ": zone})}
    )
    run(client, target, of(source)._replace(frozen_at=frozen_at))
    assert datetime.fromisoformat(snapshots(client, target)[0]["time"]) == frozen_at


def test_snapshot_keeps_the_local_day(client: Client, target: Target, source: Path) -> None:
    """Retention counts days by the zone in the snapshot."""
    client = client._replace(environment={**client.environment, "TZ": "Europe/Prague"})
    moment = datetime(2025, 7, 1, 22, 30, tzinfo=UTC)
    run(client, target, of(source)._replace(frozen_at=moment))
    local = moment.astimezone(ZoneInfo("Europe/Prague")).isoformat()
    assert snapshots(client, target)[0]["time"] == local
