"""Writes configurations and secrets: whole or not at all, for root alone, never over another."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager

from holdstill.errors import ConfigurationError, HoldstillError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def store(path: str, content: bytes, *, replace: bool = False) -> None:
    """Write a file with mode 0600, synced; its directory is made with 0700 where it is missing.

    What is there already stays, and is an error, unless it is to be replaced. Raises
    HoldstillError, ConfigurationError.
    """
    directory = os.path.dirname(path)
    try:
        _make(directory)
        refuse_shared(directory)
        with _draft(directory, content) as draft:
            _move(draft, path, replace=replace)
        _sync(directory)
    except OSError as error:
        raise HoldstillError(f"{shown(path)} cannot be written: {error.strerror}") from error


def in_the_way(path: str) -> ConfigurationError:
    """Return the error over a file that would be overwritten."""
    return ConfigurationError(
        f"{shown(path)} is there already, and stays as it is",
        remedy="write another file with --output FILE, or replace this one with --replace",
    )


def _make(directory: str) -> None:
    """Make a directory, and those that it lies in, so that a power cut takes none of them."""
    if not os.path.isdir(directory):
        around = os.path.dirname(directory)
        _make(around)
        os.mkdir(directory, 0o700)
        _sync(around)


def _move(draft: str, path: str, *, replace: bool) -> None:
    if replace:
        os.replace(draft, path)
        return
    try:
        os.link(draft, path)  # unlike a rename, it never takes another's place
    except FileExistsError:
        raise in_the_way(path) from None


def refuse_shared(directory: str) -> None:
    """Raise ConfigurationError where others could exchange what is written; OSError."""
    found = os.stat(directory)
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if writable or found.st_uid not in {0, os.geteuid()}:
        raise ConfigurationError(
            f"{shown(directory)} can be changed by others, and so could what is written there",
            remedy=f"chown root {shown(directory)}; chmod go-w {shown(directory)}",
        )


@contextmanager
def _draft(directory: str, content: bytes) -> Iterator[str]:
    """Write a file under a name of its own, which is gone at the end."""
    descriptor, path = tempfile.mkstemp(prefix=".holdstill-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        if os.path.lexists(path):
            os.unlink(path)


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # the name, too, survives a power cut
    finally:
        os.close(descriptor)
