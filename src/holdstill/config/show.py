"""The configuration as it is in force, with its defaults, fit to be shown to anyone."""

from __future__ import annotations

import msgspec

from holdstill.config.model import EVENTS
from holdstill.locations import MASK, without_password

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdstill.config.model import Config


def as_dict(config: Config) -> dict[str, Any]:
    """Return `config` under the keys of the file, without what is not set, passwords masked.

    The directories are those in force, also where systemd's environment has set them.
    """
    document: dict[str, Any] = msgspec.to_builtins(config)
    for repository in document["repositories"].values():
        repository["url"] = without_password(repository["url"])
    for name, notification in config.notifications.items():
        shown = document["notifications"][name]
        shown["on"] = [event for event in EVENTS if event in notification.events]
        shown["ping-url"] = notification.ping_url and MASK
    return _set_only(document)


def as_toml(config: Config) -> str:
    """Return `config` as TOML; a path that is not UTF-8 has surrogates in it."""
    import tomli_w

    return tomli_w.dumps(as_dict(config))


def as_json(config: Config) -> str:
    r"""Return `config` as JSON; a byte of a path that is not UTF-8 appears as `\udcXX`."""
    import json

    return json.dumps(as_dict(config), indent=2) + "\n"


def _set_only(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _set_only(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value not in (None, "", {})
    }
