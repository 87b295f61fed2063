"""The tests clean up after themselves, also when they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.kernel import disks
from tests.kernel.backups import TIMEOUT_SECONDS, wait_until
from tests.kernel.guardian import end_onlookers, onlookers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KILLED = """
import os, signal, subprocess, sys
from holdstill.linux import mounts
from tests.kernel.disks import Arena
mounts.enter_private_namespace()
arena = Arena(sys.argv[1])
arena.open()
arena.disk(256).source()
# In a session of its own without a trace in its environment, and in a namespace as a view has one.
for command in (["sleep", "300"], ["unshare", "--mount", "sleep", "300"]):
    subprocess.Popen(command, start_new_session=True, env={"PATH": os.environ["PATH"]})
print("ready", flush=True)
signal.pause()
"""


def test_what_killed_tests_have_left_running_is_ended(tmp_path: Path) -> None:
    """Whatever they have started, wherever it is: else it holds their disks for ever."""
    base = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED, base], stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        assert tests.stdout.readline() == "ready\n"
        assert tests.pid in onlookers(base)
        wait_until(lambda: len(onlookers(base)) == len(("tests", "guardian", "plain", "unshared")))
        os.kill(tests.pid, signal.SIGKILL)
    try:
        wait_until(lambda: onlookers(base) == [])
    finally:
        end_onlookers(base)


def test_what_a_test_leaves_running_is_named_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by its environment, wherever it is."""
    monkeypatch.setattr(disks, "_PATIENCE_SECONDS", 0.0)
    arena = disks.Arena(str(tmp_path))
    with subprocess.Popen(["sleep", "300"], env={disks.MARK: arena.base}) as stray:
        try:
            assert arena.left_behind() == [f"process {stray.pid}"]
            assert stray.wait(timeout=TIMEOUT_SECONDS) == -signal.SIGKILL
        finally:
            stray.kill()  # does nothing to one that has ended
