"""`/` as a source: in a view with a root of its own, on a machine whose root is on btrfs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel import private_root
from tests.kernel.backups import HOLDSTILL, NEWEST, PASSWORD, Site, make_site, only
from tests.kernel.program import EXEC

if TYPE_CHECKING:
    from tests.kernel.disks import Arena
    from tests.kernel.private_root import Root

pytest_plugins = ["tests.kernel.backup_fixtures"]

SYSTEM = ("/proc", "/sys", "/dev", "/run")


@pytest.fixture
def root(arena: Arena, tmp_path: Path) -> Root:
    """Set up a machine that shares `tmp_path` with this one."""
    return private_root.build(arena.disk(1024), NEWEST, os.path.realpath(tmp_path))


def execute(root: Root, script: str, *paths: str, before: str = "") -> private_root.Finished:
    """Run a script in a view of `/`, or of `paths`; `before` runs outside of it."""
    line = [*EXEC, *(paths or ["/"]), "--", "sh", "-c", script]
    return root.run("sh", "-c", f'{before}\nexec "$@"', "sh", *line)


def test_the_root_is_the_snapshot(root: Root) -> None:
    """Read-only, with what is nested in it; what is written on the host does not reach it."""
    script = """
        stat -f -c %T /
        cat /srv/file /srv/nested/file /etc/file
        for place in / /srv/nested /etc; do touch $place/new; done
    """
    done = execute(root, script)
    assert done.stdout == "btrfs\n" + "before\n" * 3
    said = [line for line in done.stderr.splitlines() if line.startswith("touch")]
    assert len(said) == 3
    assert all("Read-only file system" in line for line in said)
    assert root.disk.runs() == []


def test_a_change_on_the_host_does_not_reach_the_view(root: Root) -> None:
    """The live files are those of the disk; the command waits for them to change."""
    gate = "/run/gate"
    before = f"""
        (while [ ! -e {gate} ]; do sleep 0.02; done
         for file in /srv/file /srv/nested/file; do echo after > $file; done; touch {gate}2) &
    """
    script = f"""
        touch {gate}; while [ ! -e {gate}2 ]; do sleep 0.02; done
        cat /srv/file /srv/nested/file
    """
    assert execute(root, script, before=before).stdout == "before\n" * 2
    for path in ("/srv/file", "/srv/nested/file"):
        assert Path(root.inside(path)).read_text(encoding="utf-8") == "after\n"


def test_the_system_stays_live_and_nothing_else(root: Root) -> None:
    """Programs need /proc, /sys, /dev and /run; /tmp, /home and the rest are not in the view."""
    script = """
        readlink /proc/self >/dev/null && ls /sys/kernel >/dev/null && echo x > /dev/null
        touch /run/live && ls /run
        ls /tmp /home
    """
    done = execute(root, script)
    assert done.stdout == "live\n/home:\n\n/tmp:\ncovered\n"
    named = [line.split(": ")[2] for line in done.stderr.splitlines() if "warning" in line]
    assert "/home is not in the view" in named
    assert "/tmp is not in the view" in named
    assert not any(f"{path} is not in the view" in named for path in SYSTEM)


def test_a_home_that_is_a_source_is_frozen_with_it(root: Root) -> None:
    """In one set, in whatever order they are named."""
    for paths in (("/", "/home"), ("/home", "/")):
        done = execute(root, "cat /home/file /srv/file; touch /home/new", *paths)
        assert done.stdout == "before\n" * 2
        assert "Read-only file system" in done.stderr


def test_the_working_directory_is_looked_up_in_the_view(root: Root) -> None:
    """The same path, in the snapshot."""
    done = execute(root, "readlink /proc/self/cwd; cat file; touch new", before="cd /srv/nested")
    assert done.stdout == "/srv/nested\nbefore\n"
    assert "Read-only file system" in done.stderr


def test_a_working_directory_that_is_not_in_the_view_is_an_error(root: Root) -> None:
    """The command would stand somewhere else."""
    done = execute(root, "echo started", before="mkdir /tmp/here; cd /tmp/here")
    assert (done.returncode, done.stdout) == (125, "")
    assert "the working directory /tmp/here is not in the view" in done.stderr


def test_the_live_root_cannot_be_reached(root: Root) -> None:
    """Not below the new one, not through a parent, a process or a descriptor."""
    script = """
        grep -c -e ' /etc ' -e ' /\\.\\. ' /proc/self/mountinfo
        head -c 0 /../srv/file && ls /..
        ls /proc/$PPID/root/srv /proc/1/root/srv
        ls -l /proc/self/fd | grep -v -e pipe: -e /dev/null -e /proc -e total -e lock
        umount -l / || umount -l /proc
    """
    before = "echo live > /srv/live-only"
    done = execute(root, script, before=before)
    names = done.stdout.split()
    assert names[0] == "0", done.stdout
    assert {"srv", "etc", "usr"} <= set(names)
    assert done.stderr.count("Permission denied") >= 1
    assert "must be superuser" in done.stderr or "permission" in done.stderr.lower()
    mounts = execute(root, "cat /proc/self/mountinfo").stdout.splitlines()
    roots = [line for line in mounts if line.split()[4] == "/"]
    assert len(roots) == 1
    assert "/.holdstill/" in roots[0]
    assert not any("subvol=/@," in f"{line}," for line in mounts)


def test_the_host_keeps_its_mounts_and_its_times(root: Root, arena: Arena) -> None:
    """Before and after, on the machine and around it."""
    rows = arena.rows()
    look = "cat /proc/self/mountinfo; stat -c '%n %y %z' / /etc /home /srv /srv/nested /run /tmp"
    line = " ".join([*EXEC, "/", "--", "sh", "-c", "'ls -lR /srv /etc > /dev/null'"])
    done = root.run("sh", "-c", f"{look}; echo ---; {line} 2>/dev/null; {look}")
    first, second = done.stdout.split("---\n")
    assert first == second
    assert first.count("\n") > 10
    assert arena.rows() == rows


def _site(tmp_path: Path, template: str) -> Site:
    site = make_site(tmp_path, "/", "/usr/bin/restic", template)
    site.add_repository("main")
    return site


def back_up(root: Root, site: Site) -> dict[str, object]:
    """Run the job on the machine; it must end well."""
    site.configure()
    done = root.run(*HOLDSTILL, "backup", "--json", environment=_environment(site))
    assert done.returncode == 0, (done.stdout, done.stderr)
    record: dict[str, object] = json.loads(done.stdout)
    return record


def _environment(site: Site) -> dict[str, str]:
    own = {"PATH": f"{site.base}/bin:/usr/bin:/bin", "TMPDIR": site.path("tmp")}
    return {**own, "HOLDSTILL_CONFIG": site.path("config.toml")}


def listed(site: Site) -> set[str]:
    """Return all paths in the newest snapshot."""
    site.restic_path = NEWEST
    lines = site.restic("ls", "--json", "latest").splitlines()[1:]
    site.restic_path = "/usr/bin/restic"
    return {str(json.loads(line)["path"]) for line in lines}


def test_a_backup_of_the_root(root: Root, tmp_path: Path, template_repository: str) -> None:
    """The path is exactly `/`; the system's directories are in it empty at most."""
    site = _site(tmp_path, template_repository)
    record = back_up(root, site)
    paths = listed(site)
    assert {"/srv/file", "/srv/nested/file", "/etc/file", "/usr/bin/restic"} < paths
    below = [path for path in paths if path.startswith(tuple(f"{one}/" for one in SYSTEM))]
    assert below == []
    assert not any(path.startswith(site.base) for path in paths)
    assert "/home/file" not in paths
    assert not any(".holdstill" in path for path in paths)
    left_out = {one["path"] for one in record["left_out"]}  # type: ignore[attr-defined]
    assert {"/home", "/tmp", *SYSTEM} <= left_out
    assert _restic_paths(site) == ["/"]
    assert record["instant"] in {"one-transaction", "unwritten"}


def test_a_backup_of_the_root_and_home(
    root: Root, tmp_path: Path, template_repository: str
) -> None:
    """One snapshot with both paths."""
    site = _site(tmp_path, template_repository)
    site.job["paths"] = ["/", "/home"]
    record = back_up(root, site)
    assert {"/srv/nested/file", "/home/file"} < listed(site)
    assert _restic_paths(site) == ["/", "/home"]
    assert "/home" not in {one["path"] for one in record["left_out"]}  # type: ignore[attr-defined]


def test_an_unchanged_root_adds_nothing(
    root: Root, tmp_path: Path, template_repository: str
) -> None:
    """Whatever device numbers there are this time, nested subvolumes included (restic >= 0.17)."""
    site = _site(tmp_path, template_repository)
    assert only(back_up(root, site))["files_new"] > 10
    root.disk.source()
    result = only(back_up(root, site))
    assert [result[key] for key in ("data_added", "files_new", "dirs_changed")] == [0, 0, 0]


def test_the_plan_names_what_a_root_is_made_of(
    root: Root, tmp_path: Path, template_repository: str
) -> None:
    """What is frozen, what stays live, what is left out."""
    site = _site(tmp_path, template_repository)
    site.configure()
    done = root.run(*HOLDSTILL, "plan", "--json", environment=_environment(site))
    plan = json.loads(done.stdout)
    reasons = {one["path"]: one["reason"] for one in plan["left_out"]}
    assert [one["path"] for one in plan["frozen"]] == ["/", "/srv/nested"]
    live = {one["path"]: one["what"] for one in plan["live"]}
    assert {path: live[path] for path in SYSTEM} == dict.fromkeys(SYSTEM, reasons["/proc"])
    assert live["/tmp"] == "restic's cache, TMPDIR, the repository main"
    assert reasons["/proc"] == "the running system's own"
    assert reasons["/home"] == "another mount (btrfs)"
    assert reasons["/tmp"] == "another mount (tmpfs)"


def test_what_restic_reads_is_there_where_mounts_are_left_out(
    root: Root, tmp_path: Path, template_repository: str
) -> None:
    """As with /root and /usr/local on openSUSE: keys, passwords and programs lie there."""
    disk, new = root.disk, root.mounts[0][-1]
    own, local = Path(disk.create("@root")), Path(disk.create("@local"))
    os.makedirs(root.inside("/usr/local"))
    extra: list[tuple[str, ...]] = [
        ("mount", "-t", "btrfs", "-o", f"subvol={name}", disk.device, new + path)
        for name, path in (("@root", "/root"), ("@local", "/usr/local"))
    ]
    for path in (f"{disk.top}/resolv.conf", root.inside("/etc/resolv.conf")):
        Path(path).touch()
    extra += [("mount", "--bind", f"{disk.top}/resolv.conf", f"{new}/etc/resolv.conf")]
    root = private_root.Root(disk, (root.mounts[0], *extra, *root.mounts[1:]))
    site = _site(tmp_path, template_repository)
    (own / "key").touch()
    Path(disk.top, "resolv.conf").write_text("nameserver", encoding="utf-8")
    (own / "excludes").write_text("/srv/file\n", encoding="utf-8")
    (own / "password").write_text(PASSWORD, encoding="utf-8")
    site.install_restic(before='[ -e "$HOME/key" ] && grep -q server /etc/resolv.conf || exit 9')
    for name, script in {"restic": f'exec {site.base}/bin/restic "$@"', "pw": "cat $1"}.items():
        (local / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (local / name).chmod(0o755)
    del site.repositories["main"]["password-file"]
    site.repositories["main"]["password-command"] = "/usr/local/pw /root/password"
    site.job["exclude-files"] = ["/root/excludes"]
    environment = {**_environment(site), "PATH": "/usr/local:/usr/bin:/bin", "HOME": "/root"}
    site.configure()
    done = root.run(*HOLDSTILL, "backup", "--json", environment=environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    paths = listed(site)
    assert "/srv/nested/file" in paths
    assert not {"/srv/file", "/root/key", "/usr/local/pw"} & paths
    left_out = {one["path"] for one in json.loads(done.stdout)["left_out"]}
    assert {"/root", "/usr/local"} <= left_out
    plan = json.loads(root.run(*HOLDSTILL, "plan", "--json", environment=environment).stdout)
    live = {one["path"]: one["what"] for one in plan["live"]}
    assert live["/root"] == "exclude-files, the password of main, HOME"
    assert live["/usr/local"] == "restic, the password of main"


def _restic_paths(site: Site) -> list[str]:
    site.restic_path = NEWEST
    (snapshot,) = site.snapshots()
    site.restic_path = "/usr/bin/restic"
    return sorted(snapshot["paths"])


def test_python_itself_is_found_where_it_was(root: Root) -> None:
    """The machine of these tests works without holdstill, too."""
    done = root.run(sys.executable, "-c", "import holdstill.freeze, msgspec, ssl; print('works')")
    assert (done.stdout, done.stderr) == ("works\n", "")
