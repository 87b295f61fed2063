"""Fills directories, and tells what is in them.

tree.py fill COUNT BYTES DIRECTORY...    files of random bytes; of those there, every other one
tree.py digest DIRECTORY...              one digest of all names, modes, times and contents each
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def fill(count: str, size: str, *directories: str) -> None:
    """Write files anew, and sync them; half of what is there stays."""
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
        for number in range(0, int(count), 2 if os.listdir(directory) else 1):
            with open(f"{directory}/{number}", "wb") as file:
                file.write(os.urandom(int(size)))
                file.flush()
                os.fsync(file.fileno())


def digest(*directories: str) -> None:
    """Print one digest for everything below each directory."""
    for directory in directories:
        whole = hashlib.sha256()
        for path in sorted(_below(directory)):
            found = os.lstat(path)
            name = os.path.relpath(path, directory)
            whole.update(f"{name}\0{found.st_mode}\0{found.st_mtime_ns}\0".encode())
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    whole.update(hashlib.sha256(file.read()).digest())
        print(whole.hexdigest())


def _below(directory: str) -> Iterator[str]:
    for top, names, files in os.walk(directory):
        yield from (os.path.join(top, name) for name in (*names, *files))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "fill":
        fill(*rest)
    else:
        digest(*rest)
