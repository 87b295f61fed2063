"""A virtual machine whose power can be cut: Debian's kernel, emulated by QEMU without KVM.

Its disk is a raw image with a write cache, as the guest sees it: what it has not flushed is not
safe. The end of the emulator alone would be kind: all that it was given is in the host's page
cache. So it logs all writes (tests.power.write_log), and what the next start finds on the disk is
made of the disk before this start and of a part of the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.power.write_log import Loss, lose_power

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

_PATIENCE_SECONDS = 240.0
"""For anything that a guest does, on a machine that others use as well."""

# What dm-crypt, btrfs and restic compute with. More, AVX above all, is slower when it is emulated.
# Without cmpxchg16b: as QEMU 7.2 emulates it, one boot in seven ended in a crash of the guest.
_CPU = "qemu64,-cx16,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand"
# Both processors on one thread: as QEMU 7.2 emulates them on two, one may go on with code that the
# other has changed (int3). 1 boot in 60 of kernel 6.12 ended in a crash; on one thread, 0 in 120,
# and 0 in 60 of kernel 6.1. It costs time, if a machine is idle, and no more processor time.
_ACCELERATOR = "tcg,thread=single"
_EMULATOR = (
    # The emulator ends with the tests, however these do.
    *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
    *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
    *("-machine", "q35", "-accel", _ACCELERATOR, "-cpu", _CPU),
    *("-m", "1024", "-smp", "2"),
)
_COMMAND_LINE = "console=ttyS0 loglevel=5 panic=-1 nokaslr mitigations=off"


class Finished(NamedTuple):
    """A command of the guest that has ended."""

    status: int
    out: str
    err: str


class Command:
    """A command that was started in the guest."""

    def __init__(self, number: int, words: str, console: str) -> None:
        """Take over a number; a machine makes them, and knows where its console's text is."""
        self.number = number
        self.words = words
        self._console = console
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._said: list[str] = []
        self.finished: Finished | None = None

    def said(self) -> list[str]:
        """Return what has been reported so far, also by a machine that is no more."""
        while not self.inbox.empty():
            if message := self.inbox.get():
                self._take(message)
        return self._said

    def wait_for(self, line: str) -> None:
        """Wait for a report; fail if the command ends without it."""
        while line not in self._said:
            assert self.finished is None, f"{self.words} ended without saying {line}"
            self._next()

    def wait(self) -> Finished:
        """Wait for its end."""
        while self.finished is None:
            self._next()
        return self.finished

    def _next(self) -> None:
        with contextlib.suppress(queue.Empty):
            if message := self.inbox.get(timeout=_PATIENCE_SECONDS):
                self._take(message)
                return
        seen = Path(self._console).read_text(encoding="utf-8", errors="replace")
        pytest.fail(f"the machine ended, or stands still, before {self.words} was done:\n{seen}")

    def _take(self, message: dict[str, Any]) -> None:
        if "said" in message:
            self._said.append(message["said"])
        else:
            self.finished = Finished(message["status"], message["out"], message["err"])


class Machine:
    """One disk, and the machine that runs from it, until the power is cut."""

    def __init__(self, directory: str, kernel: str, initramfs: str, disk_megabytes: int) -> None:
        """Make an empty disk."""
        self._boot_files = ("-kernel", kernel, "-initrd", initramfs)
        self._disk = f"{directory}/disk"
        self._working = f"{directory}/working"
        self._log = f"{directory}/log"
        self.console = f"{directory}/console"
        self._emulator: subprocess.Popen[bytes] | None = None
        self._commands: dict[int, Command] = {}
        self._reader = threading.Thread()
        Path(self._disk).touch()
        os.truncate(self._disk, disk_megabytes << 20)

    def boot(self) -> None:
        """Switch the power on, and wait until the guest listens."""
        subprocess.run(["cp", "--sparse=always", self._disk, self._working], check=True)
        Path(self._log).write_bytes(b"")
        Path(self.console).write_bytes(b"")
        self._commands = {0: Command(0, "the boot", self.console)}
        self._port, theirs = socket.socketpair()
        with theirs:
            self._emulator = subprocess.Popen(
                self._argv(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Without the mark that the disks' tests know strays by: a guest outlives its test.
                env={"PATH": os.environ["PATH"]},
            )
        self._reader = threading.Thread(target=self._read, args=(self._port,), daemon=True)
        self._reader.start()
        self._commands[0].wait()

    def _argv(self, port: int) -> tuple[str, ...]:
        # The guest's flushes end in the log: the host, which loses no power, need not sync.
        file = "driver=file,cache.no-flush=on"
        return (
            *_EMULATOR,
            *self._boot_files,
            *("-append", _COMMAND_LINE, "-serial", f"file:{self.console}"),
            *("-blockdev", f"{file},node-name=disk,filename={self._working}"),
            *("-blockdev", f"{file},node-name=log,filename={self._log}"),
            *("-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
            *("-device", "virtio-blk-pci,drive=logged,write-cache=on"),
            *("-chardev", f"socket,id=port,fd={port}", "-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=port"),
        )

    def _read(self, port: socket.socket) -> None:
        with port.makefile(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    message = json.loads(line)
                    self._commands[message["id"]].inbox.put(message)
        for command in self._commands.values():
            command.inbox.put(None)

    def start(self, *argv: str, stdin: str = "") -> Command:
        """Start a command."""
        number = len(self._commands)
        self._commands[number] = command = Command(number, " ".join(argv), self.console)
        self._send({"id": number, "argv": argv, "input": stdin})
        return command

    def run(self, *argv: str, stdin: str = "") -> Finished:
        """Run a command to its end."""
        return self.start(*argv, stdin=stdin).wait()

    def succeed(self, *argv: str, stdin: str = "") -> str:
        """Run a command that must not fail; return what it printed."""
        done = self.run(*argv, stdin=stdin)
        assert done.status == 0, f"{' '.join(argv)}: status {done.status}\n{done.out}{done.err}"
        return done.out

    def end(self, command: Command, signal: int) -> Finished:
        """Send a signal to a command, and wait for its end."""
        self._send({"id": command.number, "signal": signal})
        return command.wait()

    def _send(self, message: Mapping[str, object]) -> None:
        self._port.sendall(json.dumps(message).encode() + b"\n")

    def cut(self, chance: random.Random) -> Loss | None:
        """Cut the power; a part of what the disk had in its cache is lost, or (None) nothing."""
        self.destroy()
        loss = lose_power(self._disk, self._log, chance)
        if loss is None:
            os.replace(self._working, self._disk)
        return loss

    def destroy(self) -> None:
        """End the emulator, if it runs; the disk is as it was at the last boot."""
        if self._emulator is None:
            return
        self._emulator.kill()
        self._emulator.wait()
        self._emulator = None
        self._reader.join()
        self._port.close()
