"""Reads the tables of a TOML document into structs, and says everything that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from holdstill.config.model import Config, Job, Notification, Repository
from holdstill.config.problems import (
    Key,
    Problem,
    can_be_shown,
    key_text,
    refused,
    unknown_key,
    value_text,
)
from holdstill.config.rules import (
    RULES,
    Complaint,
    common_retentions,
    contradictions,
    name_complaint,
    normalised,
    unknown_names,
)
from holdstill.config.upkeep import Check, Keep, Prune

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

S = TypeVar("S", bound=msgspec.Struct)
StructType = type[msgspec.Struct]

_TABLES: Final[Mapping[str, StructType]] = {"keep": Keep, "prune": Prune, "check": Check}
_TABLES_BY_NAME: Final[Mapping[str, StructType]] = {
    "repositories": Repository,
    "jobs": Job,
    "notifications": Notification,
}
_NAMED_BY_JOBS: Final = {"repositories": "repositories", "notify": "notifications"}
_NORMALISED: Final = {
    "paths",
    "exclude-files",
    "nested-exclude",
    "nested-include",
    "state-directory",
    "runtime-directory",
    "cache-directory",
    "metrics-directory",
}


def config_from(document: Mapping[str, object]) -> tuple[Config | None, list[Problem]]:
    """Return the configuration in `document`, or None, and what is wrong with it."""
    reading = _Reading(document)
    config = reading.struct(Config, document, ())
    if config is not None:
        reading.problems.extend(
            Problem(("jobs", name, "keep"), text) for name, text in common_retentions(config)
        )
    return config, reading.problems


class _Reading:
    """One pass over a document: and its problems so far."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self.problems: list[Problem] = []
        self._document = document

    def struct(self, kind: type[S], table: object, key: Key) -> S | None:
        if not isinstance(table, dict):
            self.problems.append(refused(key, f"must be a table, like [{key_text(key)}]", table))
            return None
        before = len(self.problems)
        known = {field.encode_name: field for field in fields(kind)}
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name in known:
                values[known[name].name] = self._value(kind, known[name], value, (*key, name))
            else:
                self.problems.append(unknown_key((*key, name), list(known)))
        missing = (f for f in known.values() if f.required and f.encode_name not in table)
        self.problems.extend(
            Problem((*key, f.encode_name), f"is missing: it {_wanted(f)}") for f in missing
        )
        if len(self.problems) == before:
            self.problems.extend(Problem(key, text) for text in contradictions(kind, table))
        return kind(**values) if len(self.problems) == before else None

    def _value(self, kind: StructType, field: FieldInfo, value: object, key: Key) -> object:
        name = field.encode_name
        if name in _TABLES:
            return self.struct(_TABLES[name], value, key)
        if name in _TABLES_BY_NAME and kind is Config:
            return self._tables(_TABLES_BY_NAME[name], field, value, key)
        return self._plain(kind, field, value, key)

    def _tables(self, kind: StructType, field: FieldInfo, tables: object, key: Key) -> object:
        if not isinstance(tables, dict) or not tables:
            self.problems.append(refused(key, _wanted(field), tables))
            return None
        return {name: self._named(kind, tables[name], (*key, name)) for name in tables}

    def _named(self, kind: StructType, table: object, key: Key) -> object:
        if complaint := name_complaint(str(key[-1])):
            self.problems.append(Problem(key, complaint))
        return self.struct(kind, table, key)

    def _plain(self, kind: StructType, field: FieldInfo, value: object, key: Key) -> object:
        """Check a value that is no table: first its type, then what else it must be."""
        example = value if can_be_shown(key, value) else None
        if self._complained(key, _type_complaints(field, value, example)):
            return None
        plain = _plain_value(field.encode_name, value)
        rule = RULES[kind].get(field.encode_name)
        if rule is not None:
            self._complained(key, rule(plain))
        if kind is Job and (named := _NAMED_BY_JOBS.get(field.encode_name)):
            tables = self._document.get(named)
            known = list(tables) if isinstance(tables, dict) else []
            self._complained(key, unknown_names(plain, named, known))
        return plain

    def _complained(self, key: Key, complaints: Iterable[Complaint]) -> bool:
        before = len(self.problems)
        for must, value, position, hint in complaints:
            place = key if position is None else (*key, position)
            self.problems.append(refused(place, must, value, hint))
        return len(self.problems) > before


def _type_complaints(field: FieldInfo, value: object, example: object) -> Iterator[Complaint]:
    kind = _kind(field)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield Complaint(_wanted(field, example), value)
    elif isinstance(value, list):
        for position, element in enumerate(value):
            if not isinstance(element, str):
                yield Complaint("must be a string", element, position)
            elif "\0" in element:
                yield Complaint("must not contain a NUL character", element, position)
    elif isinstance(value, str) and "\0" in value:
        yield Complaint("must not contain a NUL character", value)


def _kind(field: FieldInfo) -> type:
    """Return the type that tomllib gives a value of this field."""
    bare = get_args(field.type)[0]
    kinds: dict[object, type] = {str: str, int: int, bool: bool, tuple: list, dict: dict}
    return kinds[get_origin(bare) or bare]


def _wanted(field: FieldInfo, value: object = None) -> str:
    """Say what type a field has, with an example, made of the wrong value where it can be."""
    kind, example = _kind(field), get_args(field.type)[1].examples
    if kind is dict:
        return f"must have at least one table, like [{field.encode_name}.NAME]"
    if kind is list:
        element = value if isinstance(value, str) else example[0][0]
        return f"must be a list of strings, like [{value_text(element)}]"
    if kind is bool:
        return "must be true or false"
    word = "a string" if kind is str else "a whole number"
    return f"must be {word}, like {value_text(example[0])}"


def _plain_value(name: str, value: object) -> Any:  # noqa: ANN401 (its type was checked)
    clean = normalised if name in _NORMALISED else str
    if isinstance(value, list):
        return tuple(map(clean, value))
    return clean(value) if isinstance(value, str) else value
