"""Who lives in a mount namespace (namespaces(7))."""

from __future__ import annotations

import os
import signal
import time

_POLL_SECONDS = 0.01


def of_process(process: int | str) -> int:
    """Return the id of a process's mount namespace; raises OSError if the process is gone."""
    return os.stat(f"/proc/{process}/ns/mnt").st_ino


def members(namespace: int) -> list[int]:
    """Return the processes in a mount namespace, as far as this process may know."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                inside = of_process(name) == namespace
            except OSError:  # it ended meanwhile
                continue
            if inside:
                found.append(int(name))
    return found


def end_members(namespace: int, seconds: float) -> list[int]:
    """Kill all processes in a mount namespace; return those that still live after `seconds`."""
    deadline = time.monotonic() + seconds
    while left := members(namespace):
        if time.monotonic() > deadline:
            return left
        for process in left:
            _kill(process, namespace)
        time.sleep(_POLL_SECONDS)
    return []


def _kill(process: int, namespace: int) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        # Through the handle, once more: the number may be another process's by now.
        if of_process(process) == namespace:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return
    finally:
        os.close(handle)
