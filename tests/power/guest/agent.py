"""The guest's first process: brings the machine up, then runs what it is told through a port.

In comes a line of JSON for each command, with `id`, `argv` and `input`; or with `id` and `signal`
for one that runs. Out go `id` and `said` for each line that a command writes to the descriptor that
its environment calls REPORT, and at its end `id`, `status`, `out` and `err`.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import subprocess
import threading
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_FINIT_MODULE = 313  # x86-64
_SYSTEMS = {"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "tmpfs": "/run"}
_ENVIRONMENT = {
    "PATH": "/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": "/lib/holdstill",
    "DM_DISABLE_UDEV": "1",
}


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def bring_up() -> int:
    """Mount, load the modules; return the open port."""
    for kind, at in _SYSTEMS.items():
        _checked(_LIBC.mount(kind.encode(), at.encode(), kind.encode(), 0, None), at)
    console = os.open("/dev/console", os.O_RDWR)
    for number in range(3):
        os.dup2(console, number)
    for path in sorted(glob.glob("/modules/*.ko")):
        module = os.open(path, os.O_RDONLY)
        _checked(_LIBC.syscall(_FINIT_MODULE, module, b"", 0), path)
        os.close(module)
    _checked(_LIBC.sethostname(b"guest", 5), "hostname")
    (path,) = glob.glob("/dev/vport*")
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


class Agent:
    """Runs commands, each in threads of its own."""

    def __init__(self, port: int) -> None:
        """Talk through an open port."""
        self._port = port
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[str]] = {}

    def listen(self) -> None:
        """Obey until the power goes."""
        self.say(id=0, status=0, out="", err="")
        with open(self._port, "rb", closefd=False) as file:
            for line in file:
                self._obey(json.loads(line))

    def say(self, **message: object) -> None:
        """Send one line."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._port, line) :]

    def _obey(self, message: dict[str, Any]) -> None:
        if "signal" in message:
            self._running[message["id"]].send_signal(message["signal"])
        else:
            threading.Thread(target=self._run, args=(message,)).start()

    def _run(self, message: dict[str, Any]) -> None:
        number = message["id"]
        ears, mouth = os.pipe()
        with subprocess.Popen(
            message["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[mouth],
            env={**_ENVIRONMENT, "REPORT": str(mouth)},
            encoding="utf-8",
            errors="surrogateescape",
        ) as process:
            self._running[number] = process
            os.close(mouth)
            listener = threading.Thread(target=self._relay, args=(number, ears))
            listener.start()
            out, err = process.communicate(message["input"])
            listener.join()
        self.say(id=number, status=process.returncode, out=out, err=err)

    def _relay(self, number: int, ears: int) -> None:
        with open(ears, encoding="utf-8") as file:
            for line in file:
                self.say(id=number, said=line.rstrip("\n"))


if __name__ == "__main__":
    Agent(bring_up()).listen()
