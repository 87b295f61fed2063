"""A secret stands where it was put, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import PASSWORD, RESTICS, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel.backups import Finished, Site

pytest_plugins = ["tests.kernel.backup_fixtures"]

CANARY = "c4n4ry/@:pw"
QUOTED = "c4n4ry%2F%40%3Apw"


def _everything(site: Site, *runs: Finished) -> str:
    """Return all that was printed, recorded, and passed as an argument."""
    argv = [word for call in site.calls() for word in call.argv]
    kept = [site.path(name) for name in ("state", "runtime", "cache", "tmp")]
    files = [Path(d, f) for top in kept for d, _, names in os.walk(top) for f in names]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return "\n".join([*argv, *texts, *(text for run in runs for text in (run.stdout, run.stderr))])


@pytest.mark.parametrize("way", ["password-file", "password-command", "environment-file"])
def test_a_password_is_nowhere_to_be_seen(site: Site, way: str) -> None:
    """Not in arguments, output, record or plan; also when it is the wrong one."""
    repository = site.repositories["main"]
    del repository["password-file"]
    if way == "password-command":
        repository[way] = f"printf %s {CANARY}"
    else:
        variable = "" if way == "password-file" else "RESTIC_PASSWORD="
        Path(site.path("secret")).write_text(variable + CANARY, encoding="utf-8")
        os.chmod(site.path("secret"), 0o600)
        repository[way] = site.path("secret")
    runs = [
        site.run("backup"),
        site.run("backup", "--json"),
        site.run("backup", "--dry-run"),
        site.run("plan", "--json"),
        site.run("plan"),
        site.run("restic", "data", "--", "snapshots"),
        site.run("status", "--json"),
        site.run("history", "--json"),
    ]
    assert "wrong password" in runs[0].stderr
    assert CANARY not in _everything(site, *runs)


WAYS = ["password-file", "password-command", "password-credential", "environment-file"]
HELD_BACK = "--limit-upload 4 --limit-download 4"
"""restic's options to live for some seconds, whatever it does."""


@pytest.mark.parametrize("way", WAYS)
def test_a_password_is_in_no_process_but_restic(site: Site, way: str) -> None:
    """Nor in the arguments of any, all through a run: whoever may run `ps` could read those.

    It reaches restic by a file or a command; in its environment only where that is what a
    repository's environment file says.
    """
    repository = site.repositories["main"]
    path = str(repository.pop("password-file"))
    if way == "environment-file":
        Path(path).write_text(f"RESTIC_PASSWORD='{PASSWORD}'", encoding="utf-8")
    elif way == "password-credential":
        site.environment["CREDENTIALS_DIRECTORY"] = os.path.dirname(path)
    names = {"password-command": f"cat {path}", "password-credential": os.path.basename(path)}
    repository[way] = names.get(way, path)
    site.job["keep"] = {"last": 1}
    site.install_restic(options=HELD_BACK)
    seen: set[str] = set()
    with site.started("backup", "--json") as process:
        while process.poll() is None:
            for pid in session(process.pid):
                environment, argv = _words(pid, "environ"), _words(pid, "cmdline")
                seen |= {*argv, *([] if _is_of_restic(way, environment) else environment)}
        assert json.loads(process.communicate()[0])["outcome"] == "ok"
    assert {site.restic_path, "backup", "forget"} < seen
    assert [word for word in seen if PASSWORD in word] == []


def _is_of_restic(way: str, environment: Sequence[str]) -> bool:
    """Whether it is one that has to hold the password: restic's, and that of its own children."""
    return way == "environment-file" and any(
        w.startswith("RESTIC_REPOSITORY=") for w in environment
    )


def _words(process: int, name: str) -> tuple[str, ...]:
    """Return the arguments or the environment of a process; nothing where it has ended."""
    try:
        text = Path(f"/proc/{process}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.split("\0"))


def test_a_password_in_a_url_is_nowhere_to_be_seen(site: Site) -> None:
    """Restic gets it in its environment; everything that is printed has it masked."""
    site.restic_path = next(iter(RESTICS.values()))
    site.install_restic()
    site.repositories["main"]["url"] = f"rest:http://user:{QUOTED}@127.0.0.1:9/repo"
    runs = [
        site.run("backup"),
        site.run("backup", "--json"),
        site.run("plan", "--json"),
        site.run("plan"),
        site.run("config", "show"),
        site.run("restic", "data", "--", "snapshots"),
    ]
    printed = _everything(site, *runs)
    assert [secret for secret in (CANARY, QUOTED) if secret in printed] == []
    assert "user:***@127.0.0.1" in printed
    assert all(QUOTED in call.environment["RESTIC_REPOSITORY"] for call in site.calls("backup"))


def test_a_secret_in_the_environment_file_is_masked_in_errors(site: Site) -> None:
    """A server that repeats it, here a script in restic's place, gives nothing away."""
    Path(site.path("environment")).write_text(f"AWS_SECRET_ACCESS_KEY='{CANARY}'", encoding="utf-8")
    os.chmod(site.path("environment"), 0o600)
    site.repositories["main"]["environment-file"] = site.path("environment")
    script = '#!/bin/sh\n[ "$1" != version ] || { echo restic 0.19.1; exit; }\n'
    complaint = "bad key $AWS_SECRET_ACCESS_KEY"
    error = '{"message_type":"error","error":{"message":"%s"},"item":"/x"}\\n'
    site.install(
        f'{script}printf \'{error}\' "{complaint}" >&2\necho "{complaint}" >&2\n'
        f'echo "Fatal: {complaint}" >&2\nexit 1\n'
    )
    runs = [site.run("backup"), site.run("backup", "--json")]
    printed = _everything(site, *runs)
    assert "bad key ***" in printed
    assert CANARY not in printed
