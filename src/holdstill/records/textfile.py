"""Files that node_exporter's textfile collector reads at any moment, whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def publish(directory: str, name: str, text: str) -> None:
    """Put a file there, readable for all, in place of the one before; raises OSError.

    The directory may be another user's: what lies there is replaced, never followed or written to.
    """
    own = os.open(directory, _DIRECTORY)
    try:
        _replace(own, name, text)
    finally:
        os.close(own)


def _replace(own: int, name: str, text: str) -> None:
    unfinished = f"{name}.tmp"  # which the collector does not read, whatever a crash leaves of it
    with suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=own)
    try:
        with open(os.open(unfinished, _NEW, 0o600, dir_fd=own), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(unfinished, name, src_dir_fd=own, dst_dir_fd=own)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=own)
        raise
