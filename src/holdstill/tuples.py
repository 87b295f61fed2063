"""Named tuples that are cheap to define: every command defines dozens of them as it starts.

typing.NamedTuple compiles each annotation and a constructor when a class is made, which costs
CPython 3.11 three times as much: it was a fifth of what a backup needs beyond restic.
"""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Self


_VALUES = 1
"""annotationlib.Format.VALUE: what they are, not their text."""


class _Definition(type):
    """Makes a class from its annotations: a tuple whose items have these names."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Definition:
        """Return the class."""
        # Python 3.14 has them made when they are asked for, where no module wants them as texts.
        made = namespace.get("__annotate_func__", lambda _: ())
        fields = tuple(namespace.get("__annotations__") or made(_VALUES))
        own = {
            "__slots__": (),
            "__match_args__": fields,
            "_fields": fields,
            "_field_defaults": {f: namespace[f] for f in fields if f in namespace},
            **{field: property(itemgetter(place)) for place, field in enumerate(fields)},
        }
        return super().__new__(cls, name, bases, {**namespace, **own})


class _Tuple(tuple[object, ...], metaclass=_Definition):  # noqa: SLOT001 - they all have
    """Does what typing.NamedTuple does, as far as it is used here."""

    if TYPE_CHECKING:
        _fields: tuple[str, ...]
        _field_defaults: Mapping[str, object]

    def __new__(cls, /, *values: object, **named: object) -> Self:
        """Take values by their places or names; raises TypeError for too many or too few."""
        if named or len(values) != len(cls._fields):
            return tuple.__new__(cls, cls._all(values, named))
        return tuple.__new__(cls, values)

    @classmethod
    def _all(cls, values: Sequence[object], named: Mapping[str, object]) -> Iterable[object]:
        by_place = dict(zip(cls._fields, values, strict=False))
        found = {**cls._field_defaults, **by_place, **named}
        is_twice = len(values) > len(by_place) or not by_place.keys().isdisjoint(named)
        if is_twice or found.keys() != set(cls._fields):
            given = ", ".join([*map(repr, values), *named])
            message = f"{cls.__name__} has {', '.join(cls._fields)}; given: {given}"
            raise TypeError(message)
        return [found[field] for field in cls._fields]

    def __getnewargs__(self) -> tuple[object, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        items = map("{}={!r}".format, self._fields, self)
        return f"{type(self).__name__}({', '.join(items)})"

    def _replace(self, **named: object) -> Self:
        return type(self)(**{**self._asdict(), **named})

    def _asdict(self) -> dict[str, object]:
        return dict(zip(self._fields, self, strict=True))


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - re-exported
else:
    NamedTuple = _Tuple
