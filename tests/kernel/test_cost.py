"""What a run costs: memory, and the modules that it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import each_restic, only
from tests.listener import listener

if TYPE_CHECKING:
    from tests.kernel.backups import Site

pytest_plugins = ["tests.kernel.backup_fixtures"]

_MODULES = """
import atexit, os, sys
def tell():
    with open(os.environ["MODULES"], "w") as file:
        file.write(" ".join(sys.modules))
atexit.register(tell)
from holdstill.cli.main import console
console()
"""
_PEAK = """
import atexit
def tell():
    status = open("/proc/self/status").read()
    with open(__import__("os").environ["PEAK"], "w") as file:
        file.write(status.partition("VmHWM:")[2].split()[0])
atexit.register(tell)
from holdstill.cli.main import console
console()
"""
_LARGEST_KIB = 50 << 10


def _python(site: Site, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program's entry point as its script does, not measured by coverage."""
    site.configure()
    environment = {k: v for k, v in site.environ().items() if not k.startswith("COVERAGE")}
    own = {"MODULES": site.path("modules"), "PEAK": site.path("peak")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**environment, **own},
        timeout=120,
        check=False,
    )


def _modules(site: Site, *arguments: str) -> set[str]:
    done = _python(site, _MODULES, *arguments)
    assert done.returncode == 0, done.stderr
    with open(site.path("modules"), encoding="utf-8") as file:
        return set(file.read().split())


def test_a_backup_imports_only_what_it_uses(site: Site) -> None:
    """Off a terminal: no rich, no HTTP, nothing that writes TOML, one reader of JSON."""
    site.job["keep"] = {"last": 1}
    site.succeed()  # the version is known by now
    unused = {"rich", "urllib", "http", "tomli_w", "tempfile", "json", "importlib.metadata"}
    found = _modules(site, "backup", "--json")
    assert "holdstill.restic.client" in found
    assert found & unused == set()


def test_a_backup_that_tells_imports_no_http_library(site: Site) -> None:
    """Metrics and a ping are what many runs have: together they stay within the budget."""
    os.mkdir(site.path("metrics"))
    site.directories["metrics-directory"] = site.path("metrics")
    with listener() as server:
        site.notifications["server"] = {"ping-url": server.url}
        site.job["notify"] = ["server"]
        site.succeed()
        found = _modules(site, "backup", "--json")
    assert server.paths == ["/start", ""] * 2
    assert {"holdstill.records.metrics", "holdstill.records.notifications"} <= found
    unused = {
        "json",
        "urllib",
        "http",
        "ssl",
        "email",
        "logging",
        "apprise",
        "holdstill.systemd.journal",
    }
    assert found & unused == set()


def test_what_is_not_configured_is_not_imported(site: Site) -> None:
    """Neither metrics nor notifications, nor the journal where there is none."""
    found = _modules(site, "backup", "--json")
    parts = ("records.metrics", "records.textfile", "records.notifications", "records.excerpt")
    ours = {f"holdstill.{name}" for name in (*parts, "records.ping", "systemd.journal")}
    assert found & ours == set()


def test_exec_imports_neither_configuration_nor_restic(site: Site) -> None:
    """The smaller layer stays small."""
    found = _modules(site, "exec", site.source, "--", "true")
    assert "holdstill.freeze" in found
    assert found & {"msgspec", "rich", "tomllib", "json", "sqlite3", "urllib"} == set()
    assert not {name for name in found if name.startswith(("holdstill.restic", "holdstill.config"))}


def test_status_imports_no_restic_and_starts_systemctl_alone(site: Site) -> None:
    """Once, whatever the number of jobs; a script in systemctl's place notes that."""
    site.jobs["second"] = dict(site.job)
    site.succeed("data")
    site.forget_calls()
    started = site.path("started")
    site.install_systemctl(f'echo "$@" >>{started}')
    found = _modules(site, "status")
    assert {name for name in found if name.startswith("holdstill.restic")} == set()
    assert found & {"rich", "urllib.request", "tomli_w"} == set()
    assert site.commands() == []
    with open(started, encoding="utf-8") as file:
        (line,) = file
    assert line.split()[-2:] == ["holdstill@data.timer", "holdstill@second.timer"]


def test_the_kernel_is_asked_and_no_program(site: Site) -> None:
    """A run starts the restics that the work needs, `exec` its command: no `btrfs`, no `mount`."""
    os.unlink(f"{site.base}/bin/restic")  # a script that starts programs of its own
    os.symlink(site.restic_path, f"{site.base}/bin/restic")
    site.job.update(keep={"last": 1}, prune={})
    site.succeed()  # the version is known by now
    restic = f"{site.base}/bin/restic"
    assert _started(site, "backup") == [restic, restic]
    assert _started(site, "exec", site.source, "--", "/bin/true") == ["/bin/true"]


def _started(site: Site, *arguments: str) -> list[str]:
    """Return the programs that holdstill starts."""
    log = site.path("log")
    tracer = ("strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", log)
    done = site.run(*arguments, wrapper=tracer)
    assert done.returncode == 0, done.stderr
    with open(log, encoding="utf-8") as file:
        found = [line.split('"')[1] for line in file if 'execve("' in line and " = -1" not in line]
    assert found.pop(0) == sys.executable
    return found


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_memory_is_bounded_whatever_restic_prints(site: Site, stream: str) -> None:
    """100,000 errors are counted and the first hundred kept: a script in restic's place."""
    error = (
        '{"message_type":"error","error":{"message":"input/output error"},'
        f'"during":"archival","item":"/{"x" * 200}"}}'
    )
    summary = '{"message_type":"summary","snapshot_id":"' + "a" * 64 + '"}'
    redirect = " >&2" if stream == "stderr" else ""
    site.install(
        '#!/bin/sh\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\n'
        f"yes '{error}' | head -n 100000{redirect}\necho '{summary}'\nexit 3\n"
    )
    done = _python(site, _PEAK, "backup", "--json")
    record = json.loads(done.stdout)
    result = only(record)
    assert (done.returncode, record["outcome"]) == (3, "partial")
    assert (result["error_count"], len(result["errors"])) == (100_000, 100)
    assert len(done.stderr.splitlines()) < 110
    with open(site.path("peak"), encoding="utf-8") as file:
        assert int(file.read()) < _LARGEST_KIB


def test_memory_is_bounded_for_a_line_without_end(site: Site) -> None:
    """200 MB without a newline: a script in restic's place."""
    site.install(
        '#!/bin/sh\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\n'
        "head -c 200000000 /dev/zero | tr '\\0' x\nexit 0\n"
    )
    done = _python(site, _PEAK, "backup", "--json")
    assert json.loads(done.stdout)["outcome"] == "failed"
    with open(site.path("peak"), encoding="utf-8") as file:
        assert int(file.read()) < _LARGEST_KIB


@each_restic
def test_memory_of_an_ordinary_backup(site: Site) -> None:
    """A few thousand files, and retention."""
    for number in range(2000):
        site.write(f"d{number % 50}/f{number}", os.urandom(64))
    site.job["keep"] = {"last": 1}
    assert _python(site, _PEAK, "backup", "--json").returncode == 0
    with open(site.path("peak"), encoding="utf-8") as file:
        assert int(file.read()) < _LARGEST_KIB
