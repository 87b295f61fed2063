"""The command `holdstill config`: check, show, schema."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from holdstill.cli.config import add_parser
from holdstill.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"""\
[repositories.nas]
url = "rest:https://me:secret@nas/"
password-file = "/nowhere/password"
[jobs.home]
paths = ["/ho\xffme"]
repositories = ["nas"]
[jobs.etc]
paths = ["/etc"]
repositories = ["nas"]
"""


def run(*words: str) -> int:
    """Run one command line as the program does."""
    parser = argparse.ArgumentParser(prog="holdstill")
    add_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["config", *words])
    status: int = arguments.run(arguments)
    return status


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return the path of a good configuration."""
    (tmp_path / "config.toml").write_bytes(TEXT)
    return f"{tmp_path}/config.toml"


def test_check_counts_what_it_found_and_warns(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result goes to standard output, the warning to standard error."""
    assert run("check", "--config", path) == 0
    output = capsys.readouterr()
    assert output.out == f"{path}: ok: 2 jobs, 1 repository\n"
    assert output.err == (
        "holdstill: warning: repositories.nas.password-file: /nowhere/password: "
        "No such file or directory\n"
    )


def test_check_fails_with_the_status_of_a_configuration_error(tmp_path: Path) -> None:
    """EX_CONFIG, 78."""
    (tmp_path / "bad.toml").write_text("x = 1")
    with pytest.raises(ConfigurationError, match="3 problems") as caught:
        run("check", "--config", f"{tmp_path}/bad.toml")
    assert caught.value.exit_status == 78


def test_variable_names_the_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDSTILL_CONFIG stands in for the option."""
    monkeypatch.setenv("HOLDSTILL_CONFIG", path)
    assert run("check") == 0
    monkeypatch.setenv("HOLDSTILL_CONFIG", "/nowhere/config.toml")
    with pytest.raises(ConfigurationError, match="/nowhere/config"):
        run("check")


def test_show_prints_toml_with_the_bytes_of_its_paths(
    path: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What is printed can be saved as a configuration; the URL's password is not in it."""
    assert run("show", "--config", path) == 0
    output = capfdbinary.readouterr().out
    assert b'"/ho\xffme"' in output
    assert b"rest:https://me:***@nas/" in output


def test_show_prints_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the same keys as the file has."""
    assert run("show", "--json", "--config", path) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["jobs"]["home"]["paths"] == ["/ho\udcffme"]
    assert shown["cache-directory"] == "/var/cache/holdstill"


def test_schema_needs_no_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor wants the schema before there is a file."""
    monkeypatch.setenv("HOLDSTILL_CONFIG", "/nowhere/config.toml")
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], ["show", "--help"]])
def test_help_ends_with_the_exit_statuses(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each help text says what the program's status means."""
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 0
    assert "exit status:\n  0 ok" in capsys.readouterr().out
