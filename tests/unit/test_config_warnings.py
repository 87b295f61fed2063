"""Warnings about the files that a configuration names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from holdstill.config.model import Config, Job, Repository
from holdstill.config.warnings import warnings

if TYPE_CHECKING:
    from pathlib import Path


def config(password: str, environment: str = "", excludes: tuple[str, ...] = ()) -> Config:
    """Return a configuration that names these files."""
    repository = Repository(url="/r", password_file=password, environment_file=environment)
    job = Job(paths=("/x",), repositories=("nas",), exclude_files=excludes)
    return Config(repositories={"nas": repository}, jobs={"home": job})


def file(path: Path, mode: int) -> str:
    """Make a file with this mode."""
    path.write_text("secret")
    path.chmod(mode)
    return os.fspath(path)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_private_password_file_is_fine(tmp_path: Path, mode: int) -> None:
    """The owner, and a group that the administrator chose, may read it."""
    assert warnings(config(file(tmp_path / "password", mode))) == ()


def test_secret_that_every_user_can_read_is_a_warning(tmp_path: Path) -> None:
    """Password files and environment files are both secrets; the remedy is a command."""
    password, environment = file(tmp_path / "p w", 0o644), file(tmp_path / "env", 0o604)
    assert warnings(config(password, environment)) == (
        (
            f"repositories.nas.password-file: '{password}' can be read by every user; "
            f"run: chmod o= '{password}'"
        ),
        (
            f"repositories.nas.environment-file: {environment} can be read by every user; "
            f"run: chmod o= {environment}"
        ),
    )


def test_missing_file_is_a_warning_that_names_its_key(tmp_path: Path) -> None:
    """A file may come with a disk that is not mounted yet, so it is no error."""
    readable = file(tmp_path / "excludes", 0o644)
    assert warnings(config("/nowhere/p", excludes=(readable, "/nowhere/e"))) == (
        "repositories.nas.password-file: /nowhere/p: No such file or directory",
        "jobs.home.exclude-files[1]: /nowhere/e: No such file or directory",
    )
