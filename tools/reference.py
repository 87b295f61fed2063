"""Writes docs/configuration.md and docs/commands.md from the program's own schema and parser.

`reference.py DIRECTORY` writes both there; the suite fails when the checked-in ones are old.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdstill.cli.main import build_parser
from holdstill.config.schema import json_schema
from tools.docs import commands_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGURATION = """\
# Configuration

`/etc/holdstill/config.toml`, or what `--config FILE` or `HOLDSTILL_CONFIG` names, in
[TOML](https://toml.io). Unknown keys, wrong types and contradictions are errors, all reported at
once by `holdstill config check`. `holdstill config show` prints what is in force, with its
defaults. A path may hold any byte, also one that is not UTF-8: write it raw.

For completion in an editor: `holdstill config schema >holdstill.schema.json`, and as the first
line of the configuration `#:schema ./holdstill.schema.json`.
"""

_COMMANDS = """\
# Commands

Standard output carries results, standard error everything else.
"""

_TABLES = {
    "Config": "The file itself",
    "Repository": "[repositories.NAME]",
    "Job": "[jobs.NAME]",
    "Keep": "[jobs.NAME.keep]",
    "Prune": "[jobs.NAME.prune]",
    "Notification": "[notifications.NAME]",
    "Check": "[jobs.NAME.check]",
}


def configuration_text() -> str:
    """Return the reference of the configuration."""
    definitions = json_schema()["$defs"]
    tables = (_table(heading, definitions[name]) for name, heading in _TABLES.items())
    return "\n".join((_CONFIGURATION, *tables))


def _table(heading: str, definition: dict[str, Any]) -> str:
    rows = "".join(
        f"| `{key}` | {_default(key, value, definition)} | {value['description']} |\n"
        for key, value in definition["properties"].items()
    )
    head = "| key | default | meaning |\n|---|---|---|\n"
    return f"## {heading}\n\n{definition['description']}\n\n{head}{rows}"


def _default(key: str, value: dict[str, Any], definition: dict[str, Any]) -> str:
    if key in definition.get("required", ()):
        return "required"
    default = value.get("default")
    return f"`{json.dumps(default)}`" if default else ""


def command_texts() -> str:
    """Return the help texts of all commands."""
    os.environ["COLUMNS"] = "80"
    texts = (
        f"## {parser.prog}\n\n```\n{parser.format_help().rstrip()}\n```\n" for parser in _parsers()
    )
    return "\n".join((_COMMANDS, *texts))


def _parsers() -> Iterator[Any]:
    parser = build_parser()
    yield parser
    yield from (command for _, _, command in commands_of(parser))


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "configuration.md").write_text(configuration_text(), encoding="utf-8")
    (directory / "commands.md").write_text(command_texts(), encoding="utf-8")
