"""The entry point: parsing, and every error in words with its exit status."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from holdstill.cli.main import COMMANDS, build_parser, main, parse
from holdstill.errors import CommandNotFoundError, ConfigurationError, SourceError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The installed one."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"holdstill {version('holdstill')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, with 0."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: holdstill {command}")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        ([], 2),
        (["nonsense"], 2),
        (["backup", "--nonsense"], 2),
        (["backup", "--", "x"], 2),
        (["restic", "job"], 2),
        (["exec"], 125),
        (["exec", "/x"], 125),
        (["exec", "/x", "--"], 125),
    ],
)
def test_a_wrong_command_line(
    argv: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """2, or what the command promises for its own failures; nothing on standard output."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (status, "")
    assert "error: " in printed.err


def test_what_follows_the_dashes_is_untouched() -> None:
    """Options of the command, and a second --, are its own."""
    arguments = parse(["exec", "/x", "--", "ls", "--", "--help"])
    assert (arguments.paths, arguments.rest) == (["/x"], ["ls", "--", "--help"])


@pytest.mark.parametrize("argv", [["--config", "/c", "plan"], ["plan", "--config", "/c"]])
def test_the_configuration_can_be_named_before_or_after_the_command(argv: list[str]) -> None:
    """Both places mean the same."""
    assert parse(argv).config == "/c"


def test_one_command_is_parsed_as_all_are() -> None:
    """Only the named command's parser is built: its usage must not differ for that."""
    assert build_parser(["plan"]).parse_args(["plan", "a"]).jobs == ["a"]
    assert build_parser().parse_args(["plan", "a"]).jobs == ["a"]


@pytest.mark.parametrize(
    ("error", "failed", "status"),
    [
        (SourceError("it is gone", remedy="look"), None, 1),
        (ConfigurationError("it is wrong", remedy="look"), None, 78),
        (SourceError("it is gone", remedy="look"), 125, 125),
        (CommandNotFoundError("no such", remedy="look"), 125, 127),
        (RuntimeError("a bug"), None, 1),
    ],
)
def test_every_error_becomes_words_and_a_status(
    error: Exception,
    failed: int | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Expected ones without a traceback, bugs with one: a command that raises is put in place."""

    def fail(_: object) -> int:
        raise error

    arguments = parse(["plan"])
    arguments.run, arguments.failed = fail, failed
    monkeypatch.setattr("holdstill.cli.main.parse", lambda _: arguments)
    assert main(["plan"]) == status
    printed = capsys.readouterr().err
    if isinstance(error, RuntimeError):
        assert "Traceback" in printed
    else:
        assert printed == f"holdstill: error: {error}\n  look\n"
