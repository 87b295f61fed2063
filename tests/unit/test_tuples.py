"""Named tuples: what typing's own do, as far as this program uses them."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from holdstill import tuples


class Ours(tuples.NamedTuple):
    """A class like those of the program."""

    first: int
    second: str = "two"
    third: tuple[str, ...] = ()

    @property
    def both(self) -> str:
        """Something that is computed."""
        return f"{self.first}{self.second}"


class Theirs(typing.NamedTuple):
    """The same by the standard library."""

    first: int
    second: str = "two"
    third: tuple[str, ...] = ()

    @property
    def both(self) -> str:
        """Something that is computed."""
        return f"{self.first}{self.second}"


def test_it_is_the_tuple_that_typing_makes() -> None:
    """By places, by names, and with what is left to its default."""
    ours: typing.Any = Ours(1, third=("a",))
    theirs: typing.Any = Theirs(1, third=("a",))
    assert ours == theirs == (1, "two", ("a",))
    assert hash(ours) == hash(theirs)
    assert (ours.first, ours.second, ours.third, ours.both) == (1, "two", ("a",), "1two")
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._fields == theirs._fields == Ours.__match_args__
    assert Ours._field_defaults == Theirs._field_defaults
    assert tuple(Ours(1, "2", ("3",))) == (1, "2", ("3",))
    assert ours._asdict() == theirs._asdict()


def test_annotations_that_are_made_when_they_are_asked_for() -> None:
    """As Python 3.14 makes them in a module that does not import annotations from __future__."""
    bases = (typing.cast("type", tuples.NamedTuple),)
    namespace = {"__annotate_func__": lambda _: {"first": int, "second": str}, "second": "two"}
    late: typing.Any = type(bases[0])("Late", bases, namespace)
    assert late._fields == ("first", "second")
    assert late(1) == (1, "two")


def test_it_is_replaced_and_taken_apart() -> None:
    """In a match statement, too; a copy is of the same class."""
    ours = Ours(1)._replace(second="2")
    assert (type(ours), ours) == (Ours, (1, "2", ()))
    with pytest.raises(TypeError):
        ours._replace(**typing.cast("dict[str, typing.Any]", {"fourth": 4}))
    match ours:
        case Ours(first, second=second):
            assert (first, second) == (1, "2")
    for copied in (copy.copy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301 - our own
        assert (type(copied), copied) == (Ours, ours)


def test_nothing_can_be_set() -> None:
    """Neither an item nor anything else."""
    ours = typing.cast("typing.Any", Ours(1))
    for name in ("first", "other"):
        with pytest.raises(AttributeError):
            setattr(ours, name, 2)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        ((1, "2", (), 4), {}),
        ((1,), {"first": 1}),
        ((1,), {"fourth": 4}),
        ((1, "2", ()), {"second": "2"}),
    ],
)
def test_wrong_arguments_are_an_error(values: tuple[object, ...], named: dict[str, object]) -> None:
    """As they are for typing's, and it names the class."""
    with pytest.raises(TypeError):
        typing.cast("typing.Any", Theirs)(*values, **named)
    with pytest.raises(TypeError, match="Ours"):
        typing.cast("typing.Any", Ours)(*values, **named)
