"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

import msgspec

from holdstill.config.model import CHANNEL_KEYS, PASSWORD_KEYS, Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file, its keys described.

    What it accepts is a little more than `load` does: a schema cannot compare names, say.
    """
    schema = msgspec.json.schema(Config)
    definitions = schema["$defs"]
    for definition in definitions.values():
        for key in definition["properties"].values():
            _without_null(key)
    definitions["Job"]["dependentRequired"] = {"prune": ["keep"]}
    definitions["Repository"]["anyOf"] = [
        {"required": [key]} for key in (*PASSWORD_KEYS, "environment-file")
    ]
    definitions["Notification"]["oneOf"] = [{"required": [key]} for key in CHANNEL_KEYS]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "holdstill's configuration",
        **schema,
    }


def _without_null(key: dict[str, Any]) -> None:
    """Make a table that may be absent just that: TOML has no null."""
    if key.get("default", ...) is None:
        del key["default"]
        key.update(key.pop("anyOf")[0])
