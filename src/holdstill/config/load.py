"""From a TOML file to a `Config`, or to one error that lists everything wrong with it."""

from __future__ import annotations

import codecs
import re
import tomllib

import msgspec

from holdstill.config.model import Config
from holdstill.config.problems import Problem, configuration_error, correct_it, refused
from holdstill.config.rules import RULES, normalised
from holdstill.config.tables import config_from
from holdstill.errors import ConfigurationError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

DEFAULT_FILE: Final = "/etc/holdstill/config.toml"
DIRECTORY_VARIABLES: Final = {
    "state-directory": "STATE_DIRECTORY",
    "runtime-directory": "RUNTIME_DIRECTORY",
    "cache-directory": "CACHE_DIRECTORY",
}


def locate(option: str | None, environment: Mapping[str, str]) -> str:
    """Return the path of the configuration: `--config`, else HOLDSTILL_CONFIG, else the default."""
    if option is not None:
        return option
    return environment.get("HOLDSTILL_CONFIG") or DEFAULT_FILE


def load(path: str, environment: Mapping[str, str]) -> Config:
    """Return the configuration in the file `path`.

    Raises ConfigurationError for a file that cannot be read, is not TOML, or has problems: all
    of them are in the message, none with a secret.
    """
    return parse(_content(path), path, environment)


def parse(content: bytes, source: str, environment: Mapping[str, str]) -> Config:
    """Return the configuration in `content`, the bytes of a file that errors call `source`.

    Bytes that are not UTF-8 are kept as surrogates, as in every path.
    """
    document = _document(content, source)
    directories, wrong_directories = _directories(document, environment)
    config, wrong_tables = config_from(document)
    problems = (*wrong_directories, *wrong_tables)
    if config is None or problems:
        raise configuration_error(source, problems)
    return msgspec.structs.replace(config, **directories)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(
            f"{shown(path)}: cannot read the configuration: {error.strerror}",
            remedy="name the configuration file with --config FILE or in HOLDSTILL_CONFIG",
        ) from error


def _document(content: bytes, source: str) -> dict[str, Any]:
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    try:
        return tomllib.loads(text)
    except RecursionError:
        where, reason = "", "nested too deeply"
    except ValueError as error:
        where, reason = _position(str(error), text)
    raise ConfigurationError(
        f"{shown(source)}{where}: not TOML: {reason}",
        remedy=correct_it(source),
    )


def _position(message: str, text: str) -> tuple[str, str]:
    """Take tomllib's message apart into ":line:column", where it has them, and the reason."""
    reason, _, place = message.rpartition(" (at ")
    if match := re.fullmatch(r"line (\d+), column (\d+)\)", place):
        return f":{match[1]}:{match[2]}", reason
    if place == "end of document)":
        text = text.replace("\r\n", "\n")
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        return f":{line}:{column}", f"{reason} at the end of the file"
    return "", "a number is too long" if "int_max_str" in message else message


def _directories(
    document: Mapping[str, object], environment: Mapping[str, str]
) -> tuple[dict[str, str], list[Problem]]:
    """Return the directories that systemd's variables set and the file does not."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for key, variable in DIRECTORY_VARIABLES.items():
        directory = environment.get(variable, "").partition(":")[0]
        if directory and key not in document:
            found[key.replace("-", "_")] = normalised(directory)
            problems.extend(
                refused((variable,), complaint.must, directory)
                for complaint in RULES[Config][key](directory)
            )
    return found, problems
