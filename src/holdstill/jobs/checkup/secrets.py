"""The files that hold a repository's secrets, and the configuration, which can name commands."""

from __future__ import annotations

import os
import stat

from holdstill.errors import shown
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdstill.config.model import Repository
    from holdstill.jobs.checkup.finding import Finding

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class File(NamedTuple):
    """What is known of a file."""

    path: str
    problem: str
    """Why it cannot be looked at; empty where it can."""
    mode: int = 0
    owner: int = 0
    size: int = 0


def secrets(name: str, repository: Repository) -> Iterator[Finding]:
    """Look at the files that a repository names."""
    about = About(Check.SECRETS, name)
    paths = (repository.password_file, repository.environment_file)
    files = [observe(path) for path in paths if path]
    bad = [finding for one in files for finding in judge_secret(about, one)]
    yield from bad
    if files and not bad:
        yield about.ok("private")


def observe(path: str) -> File:
    """Look at a file, which may be a symbolic link."""
    try:
        found = os.stat(path)
    except OSError as error:
        return File(path, error.strerror or str(error))
    return File(path, "", found.st_mode, found.st_uid, found.st_size)


def judge_secret(about: About, file: File) -> Iterator[Finding]:
    """Judge a file that nobody else should read, or write to."""
    path = shown(file.path)
    if file.problem:
        yield about.error(f"{path}: {file.problem}", remedies.FIND_FILE.format(path=path))
        return
    if stat.S_ISREG(file.mode) and not file.size:
        yield about.error(f"{path} is empty", remedies.FILL_FILE.format(path=path))
    if file.mode & stat.S_IROTH:
        text = f"{path} can be read by every user"
        yield about.warning(text, remedies.HIDE_FILE.format(path=path))
    yield from judge_owner(about, file)


def judge_owner(about: About, file: File) -> Iterator[Finding]:
    """Judge who can change a file that root believes."""
    path = shown(file.path)
    if file.owner not in {0, os.geteuid()} or file.mode & _OTHERS_WRITE:
        mode = stat.filemode(file.mode)
        text = f"{path} can be changed by others: owner {file.owner}, mode {mode}"
        yield about.error(text, remedies.OWN_FILE.format(path=path))
