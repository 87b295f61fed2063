"""Runs that systemd starts: timers, failures, stops, power cuts, secrets, and few powers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import PASSWORD
from tests.system.jobs import SERVICE, TIMER
from tests.system.machine import CHECKOUT

if TYPE_CHECKING:
    from tests.system.jobs import Job
    from tests.system.machine import Machine

pytest_plugins = ["tests.kernel.backup_fixtures"]

EXPOSURE = 3.2
"""What `systemd-analyze security` says of the units; docs/systemd.md explains all of it."""
_WITHOUT_PRIVATE_TMP = 0.21

_SLOW_RESTIC = """\
#!/bin/sh
exec {restic} --limit-upload 256 "$@"
"""
_NOTE_FAILURE = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >>/var/tmp/failures'\n"


def slow_down(job: Job) -> None:
    """Let a backup take a minute or so, nearly all of it with nothing to do."""
    machine = job.machine
    machine.shell("head -c 20M /dev/urandom >/srv/data/large")
    restic = machine.shell("readlink /usr/local/bin/restic").strip()
    machine.write("/usr/local/sbin/restic", _SLOW_RESTIC.format(restic=restic), 0o755)


@pytest.fixture
def note_failures(machine: Machine) -> None:
    """Set up a unit that takes note of units that have failed."""
    machine.write("/etc/systemd/system/note@.service", _NOTE_FAILURE)
    machine.shell("rm -f /var/tmp/failures")


@pytest.fixture(autouse=True)
def _fast_again(machine: Machine) -> None:
    machine.shell("rm -f /usr/local/sbin/restic")


def leftovers(machine: Machine) -> list[str]:
    """Return the subvolumes on the disk that are holdstill's."""
    listed = machine.succeed("btrfs", "subvolume", "list", "/srv/data")
    return [line for line in listed.splitlines() if ".holdstill" in line]


def backing_up(machine: Machine) -> bool:
    """Whether a restic is in the middle of a backup."""
    return "backing up to main" in machine.properties(SERVICE).get("StatusText", "")


def test_a_timer_starts_a_backup(job: Job, machine: Machine) -> None:
    """Its words are in the journal, its snapshot shows the original path."""
    job.job["schedule"] = "*:*:0/5"
    job.install()
    machine.wait_until(
        lambda: machine.properties(TIMER).get("LastTriggerUSec"), "the timer starts nothing"
    )
    machine.succeed("systemctl", "stop", TIMER)
    machine.wait_for_unit(SERVICE, "inactive")
    assert job.last()["outcome"] == "ok"
    assert machine.properties(SERVICE)["Result"] == "success"
    assert machine.properties(SERVICE)["StatusText"] == "data: ok"
    said = machine.journal(SERVICE)
    assert "data: frozen in" in said
    assert "data: ok in" in said
    snapshot = job.snapshots()[-1]
    assert snapshot["paths"] == ["/srv/data"]
    assert snapshot["hostname"] == "machine"
    assert leftovers(machine) == []


def test_a_failure_is_visible_and_starts_other_units(
    job: Job, machine: Machine, note_failures: None
) -> None:
    """The unit has failed with the run's exit status, `show` says so, and OnFailure= is started."""
    assert note_failures is None
    job.job["on-failure"] = ["note@%n.service"]
    job.install()
    machine.shell("mv /backup /gone")
    try:
        assert job.start()["outcome"] == "failed"
    finally:
        machine.shell("mv /gone /backup")
    assert machine.properties(SERVICE)["ExecMainStatus"] == "1"
    machine.wait_until_succeeds("test", "-e", "/var/tmp/failures")
    assert machine.shell("cat /var/tmp/failures").split() == [SERVICE]
    said = machine.run("holdstill", "schedule", "show").stdout
    assert f"data: backup: failed: journalctl -u {SERVICE}" in said
    assert job.start()["outcome"] == "ok"
    machine.succeed("holdstill", "schedule", "show")


def test_a_partial_backup_is_a_failure(job: Job, machine: Machine, note_failures: None) -> None:
    """Somebody should know of it, as of any other."""
    assert note_failures is None
    job.job |= {"on-failure": ["note@%n.service"], "exclude-files": ["/etc/holdstill/excludes"]}
    machine.write("/usr/local/sbin/restic", _partial(machine), 0o755)
    machine.write("/etc/holdstill/excludes", "")
    job.install()
    assert job.start()["outcome"] == "partial"
    assert machine.properties(SERVICE)["ExecMainStatus"] == "3"
    machine.wait_until_succeeds("test", "-e", "/var/tmp/failures")


def _partial(machine: Machine) -> str:
    """Return a restic that cannot read everything: there is nothing that root cannot read."""
    restic = machine.shell("readlink /usr/local/bin/restic").strip()
    return f'#!/bin/sh\n{restic} "$@" || exit\n[ "$1" != backup ] || exit 3\n'


def test_a_stop_in_the_middle_cleans_up(job: Job, machine: Machine, note_failures: None) -> None:
    """The snapshot goes, restic ends, the record says so; to be stopped is no failure."""
    assert note_failures is None
    job.job["on-failure"] = ["note@%n.service"]
    slow_down(job)
    job.install()
    machine.succeed("systemctl", "start", SERVICE)
    machine.wait_until(lambda: backing_up(machine), "no backup begins")
    assert len(leftovers(machine)) == 1
    machine.succeed("systemctl", "stop", SERVICE)
    assert leftovers(machine) == []
    assert job.last()["outcome"] == "interrupted"
    assert machine.properties(SERVICE)["ActiveState"] == "inactive"
    assert machine.run("pgrep", "-x", "restic").stdout == ""
    assert machine.run("ls", "/backup/locks").stdout == ""
    assert machine.run("test", "-e", "/var/tmp/failures").returncode == 1


def test_a_run_that_stands_still_is_ended(job: Job, machine: Machine, note_failures: None) -> None:
    """The watchdog hears nothing of holdstill any more; the next run cleans up."""
    assert note_failures is None
    job.job["on-failure"] = ["note@%n.service"]
    slow_down(job)
    job.install()
    short = "[Service]\nWatchdogSec=2s\nTimeoutStopSec=1s\n"
    machine.write(f"/etc/systemd/system/{SERVICE}.d/short.conf", short)
    machine.shell("systemctl daemon-reload")
    machine.succeed("systemctl", "start", SERVICE)
    machine.wait_until(lambda: backing_up(machine), "no backup begins")
    alive = machine.properties(SERVICE)["WatchdogTimestampMonotonic"]
    machine.wait_until(
        lambda: machine.properties(SERVICE)["WatchdogTimestampMonotonic"] != alive, "no pulse comes"
    )
    machine.succeed("systemctl", "kill", "--kill-whom=main", "--signal=STOP", SERVICE)
    assert machine.wait_for_unit(SERVICE, "failed")["Result"] == "watchdog"
    machine.wait_until_succeeds("test", "-e", "/var/tmp/failures")
    machine.shell("rm /usr/local/sbin/restic")
    assert job.start()["outcome"] == "ok"
    assert leftovers(machine) == []


def test_restic_cannot_speak_in_the_name_of_the_unit(job: Job, machine: Machine) -> None:
    """Neither NOTIFY_SOCKET nor the variables of the watchdog reach it; HOME does."""
    restic = machine.shell("readlink /usr/local/bin/restic").strip()
    script = f'#!/bin/sh\nenv >>/var/tmp/environment\nexec {restic} "$@"\n'
    machine.shell("rm -f /var/tmp/environment")
    machine.write("/usr/local/sbin/restic", script, 0o755)
    machine.write("/etc/holdstill/excludes", "")
    job.job["exclude-files"] = ["/var/tmp/no-private-tmp-please"]
    machine.shell("touch /var/tmp/no-private-tmp-please")
    job.install()
    assert job.start()["outcome"] == "ok"
    names = {line.partition("=")[0] for line in machine.shell("cat /var/tmp/environment").split()}
    assert {"RESTIC_REPOSITORY", "HOME"} <= names
    assert not {name for name in names if "NOTIFY" in name or "WATCHDOG" in name}


def test_a_power_cut_in_the_middle_and_the_run_after_it(job: Job, machine: Machine) -> None:
    """What it left is swept; a start that fell into the time without power is made up for."""
    slow_down(job)
    job.job["schedule"] = "*-*-* 00:00:00"
    job.install()
    machine.succeed("systemctl", "start", SERVICE)
    machine.wait_until(lambda: backing_up(machine), "no backup begins")
    machine.kill()
    machine.shell_outside("rm usr/local/sbin/restic")
    machine.shell_outside(f"touch --date='2 days ago' var/lib/systemd/timers/stamp-{TIMER}")
    machine.boot()
    machine.wait_until(lambda: len(job.runs()) > 1, "what was missed is not made up for")
    machine.wait_for_unit(SERVICE, "inactive")
    after, cut = job.runs()
    assert cut["outcome"] == "interrupted"
    assert after["outcome"] == "ok"
    assert any("removing what the dead run" in text for text in after["warnings"])
    assert leftovers(machine) == []


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_password_that_systemd_hands_over(job: Job, machine: Machine, *, encrypted: bool) -> None:
    """From the credential store, sealed or not; without it nothing is installed."""
    del job.repository["password-file"]
    job.repository["password-credential"] = "main-password"
    job.configure()
    machine.shell("rm -rf /etc/credstore*; mkdir -p /etc/credstore /etc/credstore.encrypted")
    complaint = machine.fail("holdstill", "schedule", "install", status=78)
    assert "there is no credential main-password in /etc/credstore.encrypted" in complaint
    if encrypted:
        path = "/etc/credstore.encrypted/main-password"
        seal = ("systemd-creds", "encrypt", "--with-key=host", "--name=main-password", "-", path)
        machine.succeed(*seal, stdin=PASSWORD)
    else:
        machine.write("/etc/credstore/main-password", PASSWORD, 0o600)
    job.install()
    assert job.start()["outcome"] == "ok"
    assert PASSWORD not in machine.journal(SERVICE)
    (key,) = re.findall("LoadCredential.*", machine.shell(f"systemctl cat {SERVICE}"))
    by_hand = ("systemd-run", "--quiet", "--pipe", "--wait", f"--property={key}")
    machine.succeed(*by_hand, "holdstill", "restic", "data", "--", "snapshots")


def test_the_units_are_exposed_as_little_as_can_be(job: Job, machine: Machine) -> None:
    """By systemd's own figure, from 0 to 10, of all that a unit may do that it could do without."""
    job.install()
    # A checkout in there, and so the program, is to be seen: nobody has it so installed.
    in_temporary = any(CHECKOUT.startswith(f"{place}/") for place in ("/tmp", "/var/tmp"))
    assert machine.properties(SERVICE)["PrivateTmp"] == ("no" if in_temporary else "yes")
    said = machine.run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
    figure = re.search(rf"Overall exposure level for {re.escape(SERVICE)}: ([0-9.]+)", said)
    assert figure is not None, said
    assert float(figure[1]) <= EXPOSURE + (_WITHOUT_PRIVATE_TMP if in_temporary else 0)


def test_a_unit_sees_the_mounts_of_the_machine(job: Job, machine: Machine) -> None:
    """Those below a source, also ones that are younger than the unit's own namespace."""
    job.install()
    machine.shell("mkdir -p /srv/data/inner; mount -t tmpfs tmpfs /srv/data/inner")
    try:
        run = job.start()
    finally:
        machine.shell("umount /srv/data/inner; rmdir /srv/data/inner")
    assert run["outcome"] == "ok"
    (left_out,) = run["left_out"]
    assert left_out["path"] == "/srv/data/inner"


def test_what_systemd_mounts_on_itself_is_backed_up(job: Job, machine: Machine) -> None:
    """Hardening makes mounts of directories that were none: they are a part of the source."""
    job.install()
    machine.shell("mkdir -p /srv/data/etc; echo x >/srv/data/etc/file")
    machine.write(
        f"/etc/systemd/system/{SERVICE}.d/more.conf", "[Service]\nReadOnlyPaths=/srv/data/etc\n"
    )
    machine.shell("systemctl daemon-reload")
    run = job.start()
    assert run["outcome"] == "ok"
    assert run["left_out"] == []
    assert "/srv/data/etc/file" in job.restic("ls", "latest")


def test_a_unit_mounts_what_its_job_needs(job: Job, machine: Machine) -> None:
    """The source's file system, which is not mounted when the timer starts it."""
    job.install()
    machine.shell("systemctl stop srv-data.mount; ! mountpoint -q /srv/data")
    assert job.start()["outcome"] == "ok"
    machine.shell("mountpoint -q /srv/data")


def test_a_disk_that_cannot_be_mounted_is_a_failure(
    job: Job, machine: Machine, note_failures: None
) -> None:
    """Nothing is started, so there is no record; OnFailure= is what tells."""
    assert note_failures is None
    job.job["on-failure"] = ["note@%n.service"]
    job.install()
    machine.shell("systemctl stop srv-data.mount")
    broken = "[Mount]\nWhat=/dev/loop-that-is-not-there\n"
    machine.write("/etc/systemd/system/srv-data.mount.d/broken.conf", broken)
    machine.shell("systemctl daemon-reload; ! systemctl start " + SERVICE)
    machine.shell("rm -r /etc/systemd/system/srv-data.mount.d; systemctl daemon-reload")
    machine.shell("systemctl start srv-data.mount")
    machine.wait_until_succeeds("test", "-e", "/var/tmp/failures")
    assert job.runs() == []


def test_a_unit_of_another_user(job: Job, machine: Machine) -> None:
    """Who runs restic can be somebody else, who reads everything."""
    machine.shell("chown -R daemon /backup; chmod 600 /srv/data/file")
    job.job["run-as"] = "daemon"
    job.install()
    try:
        assert job.start()["outcome"] == "ok"
    finally:
        machine.shell("chown -R root /backup")
    assert "/srv/data/file" in job.restic("ls", "latest")
