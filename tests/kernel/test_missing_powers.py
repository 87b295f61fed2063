"""What a container, a unit or a filter may take away: words or a way round, never live data.

The command writes to the live file by another path, and then reads it by the source's: what it
finds there tells a frozen view from a live one, and from one that is stale.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel import refusing
from tests.kernel.backups import only
from tests.kernel.program import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

CAPABILITIES = subprocess.run(
    ["setpriv", "--list-caps"], capture_output=True, text=True, check=True
).stdout.split()
NEEDED = {"sys_admin", "setpcap"}
CONCERNED = (*NEEDED, "dac_override", "dac_read_search", "fowner", "chown", "kill", "sys_resource")
"""What taking, showing, reading or removing a snapshot might want."""
CONTAINERS = {
    "user": ("unshare", "--user", "--map-root-user"),
    "user and mount": ("unshare", "--user", "--map-root-user", "--mount"),
    "user and pid": ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"),
}


@pytest.fixture(scope="module")
def live(session_disk: Disk) -> str:
    """Return the live path of a source that all cases share."""
    name = session_disk.arena.unique("@shared")
    session_disk.create(name)
    return f"{session_disk.top}/{name}"


@pytest.fixture
def shown(disk: Disk, live: str) -> str:
    """Mount the source; its file is as no case before has left it."""
    Path(live, "file").write_text(f"before {os.urandom(4).hex()}\n", encoding="utf-8")
    return disk.mount(os.path.basename(live))


def _assert_frozen_or_refused(
    shown: str, live: str, wrapper: Sequence[str], *, works: bool
) -> None:
    expected = Path(live, "file").read_text(encoding="utf-8")
    script = 'echo after >"$0/file"; cat "$1/file"'
    done = execute(shown, "sh", "-c", script, live, shown, wrapper=wrapper)
    assert "Traceback" not in done.stderr
    if works:
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
        assert Path(live, "file").read_text(encoding="utf-8") == "after\n"
    else:
        assert (done.returncode, done.stdout) == (125, "")
        error, *rest = done.stderr.splitlines()
        assert error.startswith("holdstill: error: ")
        assert [line for line in rest if not line.startswith("  ")] == []
        assert rest, done.stderr
        assert Path(live, "file").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_without_one_capability(disk: Disk, shown: str, live: str, capability: str) -> None:
    """As with a unit's CapabilityBoundingSet=: frozen, or refused with a remedy."""
    _assert_frozen_or_refused(shown, live, _without(capability), works=capability not in NEEDED)
    assert disk.runs() == []


@pytest.mark.parametrize("kind", CONTAINERS)
def test_in_an_unprivileged_container(disk: Disk, shown: str, live: str, kind: str) -> None:
    """All capabilities, and none of them over the file system: refused, with a remedy."""
    _assert_frozen_or_refused(shown, live, CONTAINERS[kind], works=False)
    assert disk.runs() == []


ALL_REFUSED = [(refusal, refusing.NEW_MOUNT_CALLS) for refusal in (errno.ENOSYS, errno.EPERM)]
ONE_REFUSED = [(errno.EPERM, (call,)) for call in refusing.NEW_MOUNT_CALLS]


@pytest.mark.parametrize(("refusal", "calls"), [*ALL_REFUSED, *ONE_REFUSED])
def test_where_new_mount_calls_are_refused(
    disk: Disk, shown: str, live: str, refusal: int, calls: tuple[str, ...]
) -> None:
    """As an old kernel or a container's filter does, in whatever step: mount(2) does the same."""
    wrapper = refusing.wrapper(refusal, *calls)
    _assert_frozen_or_refused(shown, live, wrapper, works=True)
    assert disk.runs() == []


@pytest.mark.parametrize("call", ["mount", "unshare", "capset", "prctl=38", "prctl=24"])
def test_where_what_cannot_be_done_without_is_refused(
    disk: Disk, shown: str, live: str, call: str
) -> None:
    """No view, or one whose command would have too much power: refused."""
    wrapper = refusing.wrapper(errno.EPERM, call)
    _assert_frozen_or_refused(shown, live, wrapper, works=False)
    assert disk.runs() == []


def _without(capability: str) -> tuple[str, ...]:
    return ("setpriv", "--bounding-set", f"-{capability}", "--inh-caps", f"-{capability}")


OF_A_USER = ("setuid", "setgid", "setpcap", "dac_read_search")
"""What it takes to become somebody else who can read everything, and nothing more."""


@pytest.mark.parametrize("capability", OF_A_USER)
def test_run_as_without_a_capability(site: Site, disk: Disk, capability: str) -> None:
    """What cannot be done is named, and what it takes; restic is not started."""
    site.job["run-as"] = "nobody"
    done = site.run("backup", "--json", wrapper=_without(capability))
    failure = only(json.loads(done.stdout))["failure"]
    assert re.match("cannot (become the user|keep|give up) .*: Operation not", failure["message"])
    assert f"it needs CAP_{capability.upper()} (" in failure["remedy"]
    assert (done.returncode, site.commands()) == (1, ["version"])
    assert (disk.runs(), disk.snapshots()) == ([], [])


@pytest.mark.parametrize("capability", ["setuid", "setgid"])
def test_restic_by_hand_without_a_capability(site: Site, capability: str) -> None:
    """As the job's user: the same words."""
    site.job["run-as"] = "nobody"
    done = site.run("restic", "data", "--", "snapshots", wrapper=_without(capability))
    assert (done.returncode, site.commands()) == (1, ["version"])
    assert "error: cannot become the user nobody: Operation not permitted\n" in done.stderr
    assert f"  it needs CAP_{capability.upper()} (" in done.stderr


OF_BACKUPS = {
    **{name: _without(name) for name in CAPABILITIES if name in CONCERNED},
    "a user namespace": CONTAINERS["user and mount"],
    "no new mount calls": refusing.wrapper(errno.EPERM, *refusing.NEW_MOUNT_CALLS),
}


@pytest.mark.parametrize("missing", OF_BACKUPS)
def test_backups_where_something_is_missing(site: Site, disk: Disk, missing: str) -> None:
    """Two in a row, of what there is when each begins; or words with a remedy, and no snapshot."""
    for content in ("first\n", "second\n"):
        known = site.snapshots()
        site.write("file", content)
        done = site.run("backup", "--json", wrapper=OF_BACKUPS[missing])
        assert "Traceback" not in done.stderr
        if missing in (*NEEDED, "a user namespace"):
            assert done.returncode in {1, 77}
            assert re.search(r"^holdstill: .*error: .*\n  \w", done.stderr, re.MULTILINE), (
                done.stderr
            )
            assert site.snapshots() == known
        else:
            record = json.loads(done.stdout)
            assert (done.returncode, record["warnings"]) == (0, []), done.stderr
            restored = Path(site.restored(only(record)["snapshot_id"]), "file")
            assert restored.read_text(encoding="utf-8") == content
        assert (disk.runs(), disk.snapshots()) == ([], [])
