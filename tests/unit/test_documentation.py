"""Help texts say what a user needs; man pages and completions come from the same parser."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from holdstill.cli.main import COMMANDS, build_parser
from tools.docs import write_docs

ROOT = Path(__file__).parents[2]


def _parsers() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser()
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {"": parser, **action.choices}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_text_ends_with_its_exit_statuses(name: str) -> None:
    """Each command says what its exit means, in lines that fit a terminal."""
    text = _parsers()[name].format_help()
    assert "exit status:" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_argument_is_explained(name: str) -> None:
    """No option without a help text."""
    for action in _parsers()[name]._actions:
        explained = action.help or isinstance(action, argparse._SubParsersAction)
        assert explained, action


def test_there_is_a_man_page_for_every_command(tmp_path: Path) -> None:
    """And one for the program that names them all."""
    write_docs(build_parser(), tmp_path)
    overview = (tmp_path / "man/man1/holdstill.1").read_text(encoding="utf-8")
    for command in COMMANDS:
        page = (tmp_path / f"man/man1/holdstill-{command}.1").read_text(encoding="utf-8")
        assert page.startswith(".TH")
        assert "EXIT STATUS" in page.upper()
        assert f"holdstill\\-{command}" in overview


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", "bash-completion/completions/holdstill"),
        ("zsh", "zsh/site-functions/_holdstill"),
        ("fish", "fish/vendor_completions.d/holdstill.fish"),
    ],
)
def test_completions_know_every_command(tmp_path: Path, shell: str, path: str) -> None:
    """For each shell; one that is at hand reads them without complaint."""
    write_docs(build_parser(), tmp_path)
    text = (tmp_path / path).read_text(encoding="utf-8")
    assert [command for command in COMMANDS if command not in text] == []
    assert "dry-run" in text
    if program := shutil.which(shell):
        subprocess.run([program, "-n", tmp_path / path], check=True)


def test_every_test_that_a_document_names_is_there() -> None:
    """docs/reliability.md has at least one for each promise, and names none that is gone."""
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    sections = re.split(r"^## \d+\. ", text.partition("\n## What is not")[0], flags=re.MULTILINE)
    named = [re.findall(r"`(tests/\S+\.py)::(\w+)`", section) for section in sections[1:]]
    assert len(named) == 10
    assert all(named)
    known: dict[str, str] = {}
    for path, name in (pair for section in named for pair in section):
        source = known.setdefault(path, (ROOT / path).read_text(encoding="utf-8"))
        assert f"\ndef {name}(" in source, f"{path}::{name}"
