"""A configuration as TOML with comments, for the people who will edit it."""

from __future__ import annotations

import msgspec
from msgspec.structs import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Final

    from holdstill.config.model import Config
    from holdstill.config.problems import Key

_WIDTH: Final = 100

Comments = dict["Key", tuple[str, ...]]
"""What stands above a table or a key, which need not be set; above all of it for `()`."""


def commented_toml(config: Config, comments: Mapping[Key, Sequence[str]]) -> str:
    """Return what of `config` differs from the defaults, passwords in URLs included.

    It loads to `config` again; a path that is not UTF-8 has surrogates in it.
    """
    return "\n".join("\n".join(lines) + "\n" for lines in _tables(config, comments))


def _tables(config: Config, comments: Mapping[Key, Sequence[str]]) -> Iterator[list[str]]:
    """Yield the lines of each table; the first are those of the file itself, if it has any."""
    if first := list(_keys(config, (), comments)):
        yield first
    for group in ("repositories", "jobs"):
        for name, table in getattr(config, group).items():
            yield from _table(table, (group, name), comments)


def _table(
    table: msgspec.Struct, key: Key, comments: Mapping[Key, Sequence[str]]
) -> Iterator[list[str]]:
    header = _dumped(dict(_nested(key)))
    above = () if key not in comments else _comment(comments[key])
    yield [*above, header, *_keys(table, key, comments)]
    for field in fields(table):
        inner = getattr(table, field.name)
        if isinstance(inner, msgspec.Struct):
            yield from _table(inner, (*key, field.encode_name), comments)


def _nested(key: Key) -> dict[str, Any]:
    return {str(key[0]): _nested(key[1:])} if key else {}


def _keys(table: msgspec.Struct, key: Key, comments: Mapping[Key, Sequence[str]]) -> Iterator[str]:
    if not key:
        yield from _comment(comments.get(key, ()))
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, msgspec.Struct | dict) or value is None:
            continue
        yield from _comment(comments.get((*key, field.encode_name), ()))
        if value != field.default:
            yield f"{field.encode_name} = {_value(value)}"


def _comment(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines that begin with `#`; no text in them can be anything but a comment."""
    for line in lines:
        yield "# " + "".join(c if c.isprintable() else "?" for c in line)


def _value(value: object) -> str:
    if not isinstance(value, tuple):
        return _dumped({"x": value}).removeprefix("x = ")
    elements = [_value(element) for element in value]
    line = f"[{', '.join(elements)}]"
    if len(line) <= _WIDTH:
        return line
    return "\n".join(("[", *(f"    {element}," for element in elements), "]"))


def _dumped(document: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(document).removesuffix("\n")
