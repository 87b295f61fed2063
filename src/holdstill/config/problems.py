"""What is wrong with a configuration, in words: the key, what its value must be, what it is."""

from __future__ import annotations

import re

from holdstill.errors import ConfigurationError, shown
from holdstill.locations import without_password
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Key = tuple[str | int, ...]

_LONGEST_VALUE = 200


class Problem(NamedTuple):
    """One thing to correct, at one key."""

    key: Key
    text: str

    def __str__(self) -> str:
        """Return the line that stands in the error's message."""
        return f"{key_text(self.key)}: {self.text}"


def refused(key: Key, must: str, value: object, hint: str = "") -> Problem:
    """Return the problem of a value that is not what it must be."""
    unlike = f", not {value_text(value)}" if can_be_shown(key, value) else ""
    return Problem(key, f"{must}{unlike}{hint}")


def configuration_error(source: str, problems: Sequence[Problem]) -> ConfigurationError:
    """Return the error that lists all problems of the file `source`, one line each."""
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    lines = [f"{shown(source)}: {count}", *(f"  {problem}" for problem in problems)]
    return ConfigurationError(
        "\n".join(lines),
        remedy=correct_it(source),
    )


def correct_it(source: str) -> str:
    """Say what to do about the file `source`, which may not be the one that is looked for."""
    return f"correct {shown(source)}, then run `holdstill config check --config {shown(source)}`"


def key_text(key: Key) -> str:
    """Return `key` as TOML would write it, `jobs.home.paths[0]`, on one line."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _bare_or_quoted(part)
    return text


def _bare_or_quoted(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else _quoted(part)


def value_text(value: object) -> str:
    """Return a value of a TOML file as it can stand in a message, without any password."""
    if isinstance(value, str):
        return _quoted(without_password(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a huge number"
    kinds: dict[type, str] = {list: "a list", tuple: "a list", dict: "a table"}
    kind = kinds.get(type(value), "a date or time")
    return kind if value else f"an empty {kind[2:]}"


def unknown_key(key: Key, known: Collection[str]) -> Problem:
    """Return the problem of a key that its table does not have; its value may be a secret."""
    name = str(key[-1])
    if key[0] == "repositories" and re.fullmatch("[a-z]*(pass|secret)[a-z]*", name, re.IGNORECASE):
        hint = "; put the password into a file and name that with password-file"
    else:
        hint = suggestion(name, known) or listing(known)
    return Problem(key, f"is not a known key{hint}")


def suggestion(word: str, known: Collection[str]) -> str:
    """Return "; did you mean X?" with the name nearest to `word`, "" when none is near."""
    import difflib

    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1)
    return f"; did you mean {_bare_or_quoted(folded[near[0]])}?" if near else ""


def listing(known: Collection[str]) -> str:
    """Return "; known: X, Y" for a choice to which nothing comes near."""
    return f"; known: {', '.join(map(_bare_or_quoted, known))}" if known else ""


def can_be_shown(key: Key, value: object) -> bool:
    """Tell whether `value` cannot be a secret: of a repository only its masked url is none."""
    public = {"repositories": "url", "notifications": "on"}.get(str(key[0]))
    return public is None or public in key[2:] or isinstance(value, (list, dict))


def _quoted(text: str) -> str:
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "…"
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
