"""What the documents say of the program is what the program says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdstill.cli.main import COMMANDS
from holdstill.records.record import RepositoryResult, RetentionResult, RunRecord
from tools.reference import command_texts, configuration_text

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "current"),
    [("configuration.md", configuration_text), ("commands.md", command_texts)],
)
def test_a_reference_is_what_make_docs_would_write_now(
    name: str, current: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key, an option or a text that changes has to change in docs/ too: run `make docs`."""
    monkeypatch.setenv("COLUMNS", "80")
    assert callable(current)
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == current()


def test_every_field_of_a_record_is_documented() -> None:
    """docs/records.md names each key that `backup --json` prints."""
    text = (ROOT / "docs/records.md").read_text(encoding="utf-8")
    kinds = (RunRecord, RepositoryResult, RetentionResult)
    names = {name for kind in kinds for name in kind._fields}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_every_command_is_in_the_reference() -> None:
    """docs/commands.md has a section for each command of the parser."""
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"## holdstill {name}\n" not in text] == []
