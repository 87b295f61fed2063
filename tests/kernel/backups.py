"""A configured machine for tests of jobs: a source on btrfs, repositories, and holdstill itself.

restic is the real one. What stands in PATH notes its arguments and environment and becomes it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
PASSWORD = "correct horse battery staple"
TIMEOUT_SECONDS = 60.0
SLOWLY = "--limit-upload 32"
"""Restic's options to write 32 KiB a second: a megabyte keeps it for half a minute."""
HOLDSTILL = (sys.executable, "-m", "holdstill")

_CACHE = Path(__file__).parents[2] / ".cache/restic"
_WRAPPER = """\
#!/bin/sh
# Named after the process that restic becomes, and whole as soon as it has its name.
call={calls}/$(date +%s%N)-$$
cat /proc/$$/environ > "$call.environment"
printf '%s\\0' "$@" > "$call.part"
mv "$call.part" "$call"
export HOLDSTILL_TEST_ARENA={arena}
{before}
exec {restic} {options} "$@"
"""

Finished = subprocess.CompletedProcess[str]


def restic_binaries() -> dict[str, str]:
    """Return every restic at hand, one for each version, the oldest first."""
    system = shutil.which("restic")
    paths = [*([system] if system else []), *sorted(map(str, _CACHE.glob("*/restic")))]
    found: dict[str, str] = {}
    for path in paths:
        answer = subprocess.run([path, "version"], capture_output=True, text=True, check=True)
        found.setdefault(answer.stdout.split()[1], path)
    return dict(sorted(found.items(), key=lambda item: _numbers(item[0])))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


RESTICS = restic_binaries()
NEWEST = list(RESTICS.values())[-1]
each_restic = pytest.mark.parametrize("restic_path", RESTICS.values(), ids=RESTICS.keys())


def version_of(restic: str) -> tuple[int, ...]:
    """Return the version of a binary at hand."""
    return next(_numbers(version) for version, path in RESTICS.items() if path == restic)


@dataclass(frozen=True)
class Call:
    """A restic process that was started."""

    pid: int
    argv: tuple[str, ...]
    environment: dict[str, str]

    def value(self, option: str) -> str:
        """Return the argument after an option."""
        return self.argv[self.argv.index(option) + 1]

    def values(self, option: str) -> list[str]:
        """Return the argument after each occurrence of an option."""
        pairs = zip(self.argv, self.argv[1:], strict=False)
        return [value for name, value in pairs if name == option]


@dataclass
class Site:
    """A machine with a job `data` that backs `source` up to the repository `main`."""

    base: str
    """Where everything lies that is no source."""
    source: str
    template: str
    """A repository without a snapshot."""
    restic_path: str
    environment: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, dict[str, object]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    directories: dict[str, str] = field(default_factory=dict)
    notifications: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def job(self) -> dict[str, Any]:
        """The job `data`, to be changed."""
        return self.jobs["data"]

    @property
    def calls_directory(self) -> str:
        """Where restic's processes are noted."""
        return f"{self.base}/calls"

    def path(self, name: str) -> str:
        """Return a path outside of every source."""
        return f"{self.base}/{name}"

    def write(self, name: str, content: str | bytes = "content\n") -> str:
        """Write a file of the source; return its path."""
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        with open(path, "wb") as file:
            file.write(data)
        return path

    def install_systemctl(self, script: str) -> None:
        """Let lines of shell be the systemctl in PATH: systemd is not in charge of a test."""
        self.install(f"#!/bin/sh\n{script}\n", "systemctl")

    def install(self, script: str, name: str = "restic") -> None:
        """Let another program be the restic in PATH."""
        path = Path(self.base, "bin", name)
        path.unlink(missing_ok=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)

    def install_restic(self, before: str = "", options: str = "") -> None:
        """Let the real restic be found: after a line of shell, with options of its own."""
        calls, restic = shlex.quote(self.calls_directory), shlex.quote(self.restic_path)
        arena = shlex.quote(os.environ["HOLDSTILL_TEST_ARENA"])
        self.install(
            _WRAPPER.format(calls=calls, arena=arena, before=before, restic=restic, options=options)
        )

    def slow_down(self) -> None:
        """Let a backup take minutes, nearly all of them with nothing to do."""
        self.write("large", os.urandom(10 << 20))
        self.install_restic(options=SLOWLY)

    def add_repository(self, name: str, path: str | None = None) -> str:
        """Make an empty repository and configure it; return its path."""
        path = path or self.path(name)
        shutil.copytree(self.template, path, dirs_exist_ok=True)
        self.repositories[name] = {"url": path, "password-file": self.path("password")}
        return path

    def configure(self) -> str:
        """Write the configuration; return its path."""
        document = {**self.directories, "repositories": self.repositories, "jobs": self.jobs}
        if self.notifications:
            document["notifications"] = self.notifications
        text = tomli_w.dumps(document)
        Path(self.path("config.toml")).write_bytes(text.encode("utf-8", "surrogateescape"))
        return self.path("config.toml")

    def environ(self) -> dict[str, str]:
        """Return the environment of every command."""
        own = {
            "PATH": f"{self.base}/bin:{os.environ['PATH']}",
            "TMPDIR": self.path("tmp"),
            "HOLDSTILL_CONFIG": self.path("config.toml"),
        }
        return {**os.environ, **own, **self.environment}

    def run(self, *arguments: str, wrapper: Sequence[str] = ()) -> Finished:
        """Run holdstill to its end, with the configuration as it is now."""
        self.configure()
        return subprocess.run(
            [*wrapper, *HOLDSTILL, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    def back_up(self, *jobs: str) -> dict[str, Any]:
        """Run `backup --json` for one job; return its record, whatever the outcome."""
        done = self.run("backup", "--json", *jobs)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout.count("\n") == 1, (done.stdout, done.stderr)
        record: dict[str, Any] = json.loads(done.stdout)
        assert record["exit_status"] == done.returncode
        return record

    def succeed(self, *jobs: str) -> dict[str, Any]:
        """Run a job that must end well; return its record."""
        record = self.back_up(*jobs)
        assert record["outcome"] == "ok", record
        return record

    @contextmanager
    def paused(
        self, *arguments: str, at: str = "backup", options: str = ""
    ) -> Iterator[subprocess.Popen[str]]:
        """Start holdstill, and stop a restic command just before it begins, in its view.

        `let_go` lets it begin, with options of its own. Processes of a second holdstill stop there,
        too.
        """
        gate, ready = self.path("gate"), self.path("ready")
        Path(ready).unlink(missing_ok=True)
        os.mkdir(gate)
        wait = f"while [ -e {gate} ]; do sleep 0.01; done"
        stop = f"touch {ready}; {wait}; options='{options}'"
        self.install_restic(before=f'[ "$1" != {at} ] || {{ {stop}; }}', options="$options")
        with self.started(*arguments) as process:
            wait_until(lambda: os.path.exists(ready) or process.poll() is not None)
            yield process

    def let_go(self) -> None:
        """Let the restic begin that `paused` has stopped."""
        os.rmdir(self.path("gate"))

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start holdstill in a session of its own, all of which is dead at the end."""
        self.configure()
        process = subprocess.Popen(
            [*HOLDSTILL, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.environ(),
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                kill_group(process.pid)

    def restic(self, *arguments: str, repository: str = "main") -> str:
        """Run the plain restic on a repository; return what it printed."""
        done = subprocess.run(
            [self.restic_path, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.restic_environ(repository),
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restic_environ(self, repository: str = "main") -> dict[str, str]:
        """Return what the plain restic needs."""
        return {
            **os.environ,
            "RESTIC_REPOSITORY": str(self.repositories[repository]["url"]),
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": self.path("plain-cache"),
        }

    def snapshots(self, repository: str = "main") -> list[dict[str, Any]]:
        """Return restic's snapshots, the oldest first."""
        found: list[dict[str, Any]] = json.loads(
            self.restic("snapshots", "--json", repository=repository)
        )
        return sorted(found or [], key=lambda snapshot: str(snapshot["time"]))

    def nodes(self, snapshot: str = "latest", repository: str = "main") -> list[dict[str, Any]]:
        """Return what restic knows of each thing in a snapshot that lies below the source."""
        lines = self.restic("ls", "--json", snapshot, repository=repository).splitlines()[1:]
        found = [json.loads(line) for line in lines]
        return [node for node in found if str(node["path"]).startswith(f"{self.source}/")]

    def listed(self, snapshot: str = "latest") -> list[str]:
        """Return the paths in a snapshot that lie below the source, from there."""
        below = f"{self.source}/"
        return sorted(str(node["path"]).removeprefix(below) for node in self.nodes(snapshot))

    def restored(self, snapshot: str = "latest") -> str:
        """Restore a snapshot; return where the source's files are now."""
        target = self.path(f"restored-{time.monotonic_ns()}")
        self.restic("restore", snapshot, "--target", target)
        return target + self.source

    def calls(self, *commands: str) -> list[Call]:
        """Return the restic processes that holdstill has started, or those of some commands."""
        names = [name for name in os.listdir(self.calls_directory) if "." not in name]
        found = [_call(f"{self.calls_directory}/{name}") for name in sorted(names)]
        return [call for call in found if not commands or call.argv[0] in commands]

    def commands(self) -> list[str]:
        """Return the first argument of each restic process."""
        return [call.argv[0] for call in self.calls()]

    def forget_calls(self) -> None:
        """Count anew."""
        shutil.rmtree(self.calls_directory)
        os.mkdir(self.calls_directory)

    def writing(self) -> bool:
        """Whether a restic has locked the repository, and began to write data to it.

        In the fifth of a second between the two, 0.14 forgets its lock when it is interrupted.
        """
        repository = str(self.repositories["main"]["url"])
        whole = [name for name in os.listdir(f"{repository}/locks") if "-tmp-" not in name]
        data = [file for file in Path(repository, "data").rglob("*") if file.is_file()]
        return bool(whole and data and self.calls("backup"))


def _call(path: str) -> Call:
    argv = Path(path).read_bytes().split(b"\0")[:-1]
    pairs = Path(path + ".environment").read_bytes().split(b"\0")[:-1]
    environment = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
    pid = int(path.rpartition("-")[2])
    return Call(pid, tuple(map(os.fsdecode, argv)), environment)


def kill_group(leader: int) -> None:
    """Kill a session, whatever is left of it."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def session(leader: int, *, unburied: bool = False) -> list[int]:
    """Return the processes of a session that are not dead, or not even buried.

    To restic a zombie is alive, and so is its lock; some machines let orphans lie for seconds.
    """
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "stat").read_text(encoding="utf-8").rpartition(")")[2]
        except OSError:
            continue
        state, _, _, session, *_ = words.split()
        if int(session) == leader and (unburied or state != "Z"):
            found.append(int(name))
    return found


def wait_until(condition: Callable[[], object], seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait for something to become true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def host_mounts(path: str = "/proc/self/mountinfo") -> list[bytes]:
    """Return the mounts of this namespace, or those in a copy, as the kernel lists them.

    Without those of other runs of these tests.
    """
    own = os.environ["HOLDSTILL_TEST_ARENA"].encode()
    rows = Path(path).read_bytes().splitlines()
    others = (b"/pytest-of-", b"/holdstill-test-")
    return [row for row in rows if own in row or not any(name in row for name in others)]


def timestamps(top: str) -> dict[str, tuple[int, int]]:
    """Return when everything at and below a directory was last written and changed."""
    paths = [top, *(os.path.join(d, n) for d, ds, fs in os.walk(top) for n in (*ds, *fs))]
    return {path: (os.lstat(path).st_mtime_ns, os.lstat(path).st_ctime_ns) for path in paths}


def only(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's single repository."""
    (result,) = results["repositories"]
    assert isinstance(result, dict)
    return result


def make_site(tmp_path: Path, source: str, restic_path: str, template: str) -> Site:
    """Configure a job for a source; it has no repository yet."""
    base = os.path.realpath(tmp_path)
    for name in ("bin", "calls", "tmp"):
        os.mkdir(f"{base}/{name}")
    made = Site(base, source, template, restic_path)
    Path(made.path("password")).write_text(PASSWORD, encoding="utf-8")
    os.chmod(made.path("password"), 0o600)
    made.directories = {
        f"{kind}-directory": made.path(kind) for kind in ("state", "runtime", "cache")
    }
    made.jobs["data"] = {"paths": [source], "repositories": ["main"]}
    made.install_restic()
    return made
