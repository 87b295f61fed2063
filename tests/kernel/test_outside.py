"""What the outside learns of runs, and that no backup fails or waits for it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.journal import journal
from tests.kernel.backups import wait_until
from tests.listener import HANG, listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.backups import Site
    from tests.listener import Listener

pytest_plugins = ["tests.kernel.backup_fixtures"]


@pytest.fixture
def monitored(site: Site) -> Site:
    """Give the machine a directory for metrics."""
    os.mkdir(site.path("metrics"))
    site.directories["metrics-directory"] = site.path("metrics")
    return site


@pytest.fixture
def server() -> Iterator[Listener]:
    """Run a server that takes pings."""
    with listener() as own:
        yield own


def _values(site: Site, job: str = "data") -> dict[str, float]:
    """Return the job's metrics: `run_outcome ok`, say, with the labels behind the name."""
    text = Path(site.path(f"metrics/holdstill_{job}.prom")).read_text(encoding="utf-8")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("job_name") == job
            name = sample.name.removeprefix("holdstill_")
            found[" ".join([name, *filter(None, sample.labels.values())])] = sample.value
    return found


def _notify(site: Site, **notification: object) -> None:
    """Let one notification tell of the job."""
    site.notifications["someone"] = notification
    site.job["notify"] = ["someone"]


def _write_secret(path: str, text: str) -> None:
    Path(path).touch(0o600)
    Path(path).write_text(f"{text}\n", encoding="utf-8")


def _warnings(record: dict[str, Any]) -> list[str]:
    return [text for text in record["warnings"] if text.startswith("notification")]


def test_metrics_say_what_the_record_says(monitored: Site) -> None:
    """Of the run, its phases, its repository and the retention."""
    monitored.job["keep"] = {"last": 1}
    record = monitored.succeed()
    (result,) = record["repositories"]
    values = _values(monitored)
    assert values["run_outcome ok"] == 1
    assert values["run_active"] == values["leftover_snapshots"] == values["run_warnings"] == 0
    assert values["run_subvolumes"] == 1
    assert values["backup_size_bytes main"] == result["total_bytes"]
    assert values["backup_added_bytes main"] == result["data_added"]
    assert values["retention_kept_snapshots main"] == 1
    for phase in record["phases"]:
        name = " ".join(filter(None, (phase["name"], phase["repository"])))
        assert values[f"phase_duration_seconds {name}"] == phase["seconds"]
    last = values["run_end_timestamp_seconds"]
    assert values["last_success_timestamp_seconds"] == last
    assert values["backup_last_success_timestamp_seconds main"] == last
    assert time.time() - 60 < last < time.time()


def test_metrics_after_a_failure_remember_the_last_success(monitored: Site) -> None:
    """Of the job, and of the repository."""
    monitored.succeed()
    before = _values(monitored)
    monitored.install_restic(before='[ "$1" != backup ] || exit 1')
    assert monitored.back_up()["outcome"] == "failed"
    after = _values(monitored)
    assert (after["run_outcome failed"], after["backup_outcome main failed"]) == (1, 1)
    for name in ("last_success_timestamp_seconds", "backup_last_success_timestamp_seconds main"):
        assert after[name] == before[name] < after["run_end_timestamp_seconds"]


def test_metrics_of_a_run_that_goes_on_or_dies(monitored: Site) -> None:
    """It is active since its start; the next run knows that it died, and in which phase."""
    monitored.succeed()
    with monitored.paused("backup") as process:
        values = _values(monitored)
        process.kill()
        pid = monitored.calls("backup")[-1].pid
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        monitored.let_go()
        monitored.install_restic()
    assert (values["run_active"], values["run_outcome ok"]) == (1, 1)
    assert values["run_active_start_timestamp_seconds"] > values["run_end_timestamp_seconds"]
    assert _values(monitored) == values
    with monitored.paused("backup") as process:
        values = _values(monitored)
        monitored.let_go()
        assert process.wait() == 0
    assert (values["run_active"], values["run_outcome interrupted"]) == (1, 1)
    assert "phase_duration_seconds freezing" in values
    assert "run_end_timestamp_seconds" not in values


def test_a_skipped_run_leaves_the_metrics_to_the_active_one(monitored: Site) -> None:
    """Which knows better how it is."""
    with monitored.paused("backup") as process:
        before = _values(monitored)
        assert monitored.back_up()["outcome"] == "skipped"
        assert _values(monitored) == before
        monitored.let_go()
        assert process.wait() == 0


def test_jobs_have_files_of_their_own(monitored: Site) -> None:
    """Runs at the same time are in nobody's way."""
    monitored.jobs["second"] = dict(monitored.job)
    with monitored.started("backup", "data") as one, monitored.started("backup", "second") as other:
        assert (one.wait(), other.wait()) == (0, 0)
    assert _values(monitored)["run_active"] == _values(monitored, "second")["run_active"] == 0
    assert sorted(os.listdir(monitored.path("metrics"))) == [
        "holdstill_data.prom",
        "holdstill_second.prom",
    ]


def test_a_metrics_directory_that_is_gone(monitored: Site) -> None:
    """The backup is made, and its record says what is missing, once."""
    os.rmdir(monitored.path("metrics"))
    record = monitored.succeed()
    (warning,) = (text for text in record["warnings"] if "metrics" in text)
    assert monitored.path("metrics") in warning
    assert "No such file or directory" in warning


def test_a_ping_when_a_run_starts_and_when_it_has_ended(site: Site, server: Listener) -> None:
    """With what it did in the body."""
    _notify(site, **{"ping-url": server.url})
    assert site.succeed()["warnings"] == []
    assert server.paths == ["/start", ""]
    assert server.requests[1].body.startswith("data: ok in ")
    assert "backing-up main" in server.requests[1].body


def test_a_ping_of_a_failure_says_why(site: Site, server: Listener) -> None:
    """With the error and its remedy."""
    _notify(site, **{"ping-url": server.url})
    site.install_restic(before='[ "$1" != backup ] || { echo Fatal: no luck >&2; exit 1; }')
    assert site.back_up()["outcome"] == "failed"
    assert server.paths == ["/start", "/fail"]
    assert "restic ended with 1: no luck" in server.requests[1].body


def test_a_run_that_is_killed_pings_at_once(site: Site, server: Listener) -> None:
    """What tells of it outlives it for that."""
    _notify(site, **{"ping-url": server.url})
    with site.paused("backup") as process:
        process.kill()
        pid = site.calls("backup")[-1].pid
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        site.let_go()
        wait_until(lambda: len(server.requests) == 2)
    assert site.run("sweep").returncode == 0
    assert server.paths == ["/start", "/fail"]
    assert server.requests[1].body.startswith("data: the run has died")


@pytest.mark.parametrize(
    ("answers", "asked", "complaint"),
    [
        ([500, 503, 200], ["", "", ""], None),
        ([404], [""], "the server answered 404"),
    ],
)
def test_a_ping_is_tried_again_where_that_may_help(
    site: Site, server: Listener, answers: list[int], asked: list[str], complaint: str | None
) -> None:
    """After an error of the server's own."""
    _notify(site, **{"ping-url": server.url, "on": ["ok"]})
    server.answers = answers
    record = site.succeed()
    assert server.paths == asked
    assert _warnings(record) == ([f"notification someone: {complaint}"] if complaint else [])


def test_a_ping_that_hangs_delays_no_backup(site: Site, server: Listener) -> None:
    """Its start goes on without it, its end waits some seconds; a warning says so on record."""
    _notify(site, **{"ping-url": server.url})
    server.answers = [HANG] * 9
    record = site.succeed()
    (warning,) = _warnings(record)
    assert "did not answer in time" in warning or "no answer within 10 s" in warning
    assert server.url not in json.dumps(record)
    assert json.loads(site.run("history", "--json").stdout) == record


def test_a_server_that_is_not_there(site: Site) -> None:
    """Its URL is a secret, and stays one."""
    with listener() as gone:
        url = gone.url
    _write_secret(site.path("url"), url)
    _notify(site, **{"ping-url-file": site.path("url")})
    done = site.run("backup", "--json")
    (warning,) = _warnings(json.loads(done.stdout))
    assert warning == "notification someone: Connection refused"
    assert "secret-path" not in done.stdout + done.stderr


_HOOK = """#!/bin/sh
cat >"$OUT.part"
echo "$HOLDSTILL_JOB $HOLDSTILL_OUTCOME $HOLDSTILL_RUN_ID" >>"$OUT.said"
mv "$OUT.part" "$OUT"
"""


def test_a_command_gets_the_record(site: Site) -> None:
    """On standard input; of what it was asked to hear of."""
    site.install(_HOOK, "hook")
    site.environment["OUT"] = site.path("heard")
    _notify(site, command=["hook"], on=["started", "ok"])
    record = site.succeed()
    assert json.loads(Path(site.path("heard")).read_text(encoding="utf-8")) == record
    said = Path(site.path("heard.said")).read_text(encoding="utf-8").splitlines()
    assert said == [f"data started {record['run_id']}", f"data ok {record['run_id']}"]


def test_a_command_is_not_asked_for_what_it_does_not_want(site: Site) -> None:
    """By default it hears of what somebody should look at."""
    site.install(_HOOK, "hook")
    site.environment["OUT"] = site.path("heard")
    _notify(site, command=["hook"])
    site.succeed()
    assert not os.path.exists(site.path("heard"))
    site.install_restic(before='[ "$1" != backup ] || exit 1')
    site.back_up()
    assert json.loads(Path(site.path("heard")).read_text(encoding="utf-8"))["outcome"] == "failed"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo some words >&2; exit 3", "hook ended with 3"),
        ("sleep 1000", "hook was killed after 9 s"),
        (None, "no-such-hook: command not found"),
    ],
)
def test_a_command_that_fails_or_hangs(site: Site, script: str | None, complaint: str) -> None:
    """Is a warning, and nothing more."""
    if script is not None:
        site.install(f"#!/bin/sh\n{script}\n", "hook")
    _notify(site, command=["hook" if script else "no-such-hook"], on=["ok"])
    assert _warnings(site.succeed()) == [f"notification someone: {complaint}"]


def test_apprise_tells(site: Site, server: Listener) -> None:
    """Through a service of its own, with the run's outcome as the title."""
    url = server.url.replace("http://", "json://")
    _write_secret(site.path("urls"), f"# mine\n{url}")
    _notify(site, **{"apprise-url-file": site.path("urls"), "on": ["ok"]})
    assert site.succeed()["warnings"] == []
    (request,) = server.requests
    assert json.loads(request.body)["title"].startswith("data: ok in ")


_WITH_JOURNAL = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
shift
export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)
exec "$@" >&2
"""


def test_the_journal_gets_fields(site: Site) -> None:
    """A run leaves one entry for each thing it says, and one for what became of it."""
    directory = site.path("journal")
    os.mkdir(directory)
    with journal(f"{directory}/socket") as entries:
        wrapper = ["unshare", "--mount", "sh", "-ec", _WITH_JOURNAL, "sh", directory]
        done = site.run("backup", wrapper=wrapper)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        frozen, backing_up, result = entries.entries()
    (record,) = [json.loads(line) for line in site.run("history", "--json").stdout.splitlines()]
    for entry in (frozen, backing_up, result):
        assert entry["HOLDSTILL_JOB"] == "data"
        assert entry["HOLDSTILL_RUN_ID"] == record["run_id"]
        assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "holdstill")
    assert frozen["MESSAGE"].startswith("data: frozen in")
    assert backing_up["MESSAGE"] == "data: backing up to main"
    assert result["HOLDSTILL_OUTCOME"] == "ok"
    assert "main: ok, snapshot" in result["MESSAGE"]


def test_a_bug_in_telling_fails_no_backup(site: Site) -> None:
    """The history has a number where a repository should be: what nobody has thought of."""
    os.mkdir(site.path("metrics"))
    site.directories["metrics-directory"] = site.path("metrics")
    site.succeed()
    with closing(sqlite3.connect(site.path("state/history.sqlite"))) as history:
        history.execute("UPDATE runs SET record = json_set(record, '$.repositories', json('[1]'))")
        history.commit()
    done = site.run("backup", "--json")
    record = json.loads(done.stdout)
    assert (done.returncode, record["outcome"]) == (0, "ok")
    (warning,) = record["warnings"]
    assert warning.startswith("unexpected error (TypeError)")
