"""The guest's userland: programs of this machine, Python and holdstill, packed as an initramfs.

A cpio archive (newc, Documentation/driver-api/early-userspace/buffer-format.rst), not compressed:
an emulated processor unpacks slowly. Libraries and Python lie where they lie on this machine, so
that nothing has to be told where they are; programs in /bin, holdstill in /lib/holdstill, the
guest's side of the tests in /guest.
"""

from __future__ import annotations

import compileall
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

import holdstill

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROGRAMS = ("btrfs", "mkfs.btrfs", "cryptsetup", "mount", "ls", "cp", "sync")
_MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_console"),
    *("dm_crypt", "xts", "ecb", "aesni_intel", "algif_skcipher", "algif_hash"),
    *("crc32c_intel", "btrfs"),
)
_EMPTY = ("proc", "sys", "dev", "run", "tmp", "mnt", "root")
_FILE = stat.S_IFREG | 0o644
_PROGRAM = stat.S_IFREG | 0o755
_DIRECTORY = stat.S_IFDIR | 0o755

_LEFT_OUT = re.compile(
    "(site|dist)-packages|tests?|idle.*|tkinter|turtledemo|lib2to3|ensurepip|distutils|pydoc_data"
    "|unittest|asyncio|xmlrpc|wsgiref|curses|dbm|venv|config-.*|_(tkinter|ssl|curses|test)[._].*"
    r"|.*\.opt-[12]\.pyc"
)
"""Large parts of the standard library that nothing in the guest imports."""


class _Archive:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._names: set[str] = set()

    def add(
        self, path: str, content: bytes = b"", mode: int = _DIRECTORY, modified: int = 0
    ) -> None:
        """Add a file or directory, and the directories above it; `modified` is in seconds."""
        if path in self._names or path == "/":
            return
        self.add(os.path.dirname(path))
        self._names.add(path)
        self._write(path.lstrip("/"), content, mode, modified)

    def end(self) -> None:
        self._write("TRAILER!!!", b"", 0, 0)

    def _write(self, name: str, content: bytes, mode: int, modified: int) -> None:
        raw = os.fsencode(name) + b"\0"
        inode = len(self._names)
        fields = (inode, mode, 0, 0, 1, modified, len(content), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        for part in (head, content):
            self._file.write(part)
            self._file.write(b"\0" * (-len(part) % 4))

    def copy(self, path: str, at: str) -> list[str]:
        """Add a file, or a tree of them; a symlink becomes what it points to.

        Returns the paths of the shared objects among them.
        """
        if not os.path.isdir(path):
            found = os.stat(path)
            mode = stat.S_IFREG | found.st_mode & 0o755
            # Python believes a compiled module only if it knows its source's time.
            self.add(at, Path(path).read_bytes(), mode, int(found.st_mtime))
            return [path] if path.endswith(".so") else []
        self.add(at)
        names = [name for name in sorted(os.listdir(path)) if not _LEFT_OUT.fullmatch(name)]
        return [found for name in names for found in self.copy(f"{path}/{name}", f"{at}/{name}")]


def build(target: str, modules: str, more: Mapping[str, str]) -> None:
    """Write the archive, with the modules of a kernel; `more` maps paths in it to others here."""
    package = os.path.dirname(holdstill.__file__)
    compileall.compile_dir(package, quiet=1)
    python = os.path.realpath(sys.executable)
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    sources = {
        **{f"/bin/{name}": _which(name) for name in _PROGRAMS},
        "/bin/python": python,
        **{path: path for path in (python, *standard, "/etc/ld.so.cache")},
        "/lib/holdstill/holdstill": package,
        "/lib/holdstill/msgspec": os.path.dirname(msgspec.__file__),
        "/guest": str(Path(__file__).with_name("guest")),
        **more,
    }
    with open(target, "wb") as file:
        archive = _Archive(file)
        for name in _EMPTY:
            archive.add(f"/{name}")
        shared = [found for at, path in sources.items() for found in archive.copy(path, at)]
        programs = [path for at, path in sources.items() if at.startswith("/bin/")]
        for path in _libraries([*programs, *shared]):
            archive.copy(path, path)
        for number, content in enumerate(_modules(modules)):
            archive.add(f"/modules/{number:02}.ko", content, _FILE)
        agent = Path(__file__).with_name("guest").joinpath("agent.py").read_bytes()
        archive.add("/init", f"#!{python} -IS\n".encode() + agent, _PROGRAM)
        archive.end()


def _which(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert path is not None, f"{name} is not installed"
    return path


def _libraries(binaries: Iterable[str]) -> list[str]:
    """Return what the dynamic linker would load for these, itself included."""
    # It complains of those that need nothing.
    done = subprocess.run(
        ["ldd", *binaries],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return sorted(set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", done.stdout, re.MULTILINE)))


def _modules(directory: str) -> list[bytes]:
    """Return the kernel's modules that are wanted, each after those that it needs."""
    files = {_module_name(path): path for path in Path(directory).rglob("*.ko*")}
    contents: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in contents or name not in files:  # the latter are parts of the kernel itself
            return
        content = _unpacked(files[name])
        if found := re.search(rb"\0depends=([^\0]+)\0", content):
            for needed in found[1].decode().split(","):
                add(needed.replace("-", "_"))
        contents[name] = content

    for name in _MODULES:
        add(name)
    return list(contents.values())


def _module_name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content
