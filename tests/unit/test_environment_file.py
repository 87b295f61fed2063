"""Files of environment variables, in the syntax of systemd's EnvironmentFile=."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.environment_file import parse
from holdstill.errors import ConfigurationError

TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12)
BLANKS = st.text(" \t", max_size=3)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("A=b", {"A": "b"}),
        ("  A = b c \t\n", {"A": "b c"}),
        ("A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        ("A=", {"A": ""}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("# A=1\n; A=2\n\n  # A=3\nB=4\n", {"B": "4"}),
        ("a line without an assignment\nA=1", {"A": "1"}),
        ("A=b # no comment", {"A": "b # no comment"}),
        ("A=it's \"so\"", {"A": "it's \"so\""}),
        ("A=$HOME ${X} `id`", {"A": "$HOME ${X} `id`"}),
        ("A='x y' \nB=1", {"A": "x y", "B": "1"}),
        ("A='a\nb'\nB=1", {"A": "a\nb", "B": "1"}),
        ('A="a\nb"\nB=1', {"A": "a\nb", "B": "1"}),
        ("A='a' \"b\"c d", {"A": "abc d"}),
        (r"A='\n\'", {"A": "\\n\\"}),
        (r'A="\"\\\`\$\n"', {"A": '"\\`$\\n'}),
        ('A="a\\\nb"', {"A": "ab"}),
        ("A=a\\\nb \\\n c\nB=1", {"A": "ab  c", "B": "1"}),
        (r"A=\'a\ b\n\\ \  ", {"A": "'a bn\\  "}),
        ("A=a\\", {"A": "a"}),
        ("A=b=c", {"A": "b=c"}),
    ],
)  # fmt: skip
def test_assignment_is_read_as_systemd_reads_it(text: str, variables: dict[str, str]) -> None:
    """Each case was compared with systemd 252."""
    assert parse(text, "x.env") == variables


def test_excludes_of_the_origin_keep_their_inner_blanks() -> None:
    """A quoted value with options in it is one value."""
    text = 'BACKUP_EXCLUDES="--exclude-file /mnt/x/.exclude --exclude-if-present .ignore"\n'
    assert parse(text, "x.env") == {
        "BACKUP_EXCLUDES": "--exclude-file /mnt/x/.exclude --exclude-if-present .ignore"
    }


def test_bytes_that_are_not_utf8_survive() -> None:
    """A value is bytes to the kernel, whatever they are."""
    assert parse(b"A=\xff", "x.env") == {"A": "\udcff"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nB='x\ny\n", "x.env:2: the quote that opens here is never closed"),
        ('\n\nB="x\\"', "x.env:3: the quote that opens here is never closed"),
        ("A='1' 'x", "x.env:1: the quote that opens here is never closed"),
        ("A=1\n2B=x", "x.env:2: what stands before = is not a variable's name"),
        ("A=1\n=x", "x.env:2: what stands before = is not a variable's name"),
        ("export A=1", ("x.env:1: what stands before = is not a variable's name "
         "(there is no `export` in this syntax)")),
        ("\nA=\0", "x.env:2: a NUL character cannot be in a variable"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_file_and_line(text: str, message: str) -> None:
    """Nothing is dropped in silence."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "x.env")
    assert caught.value.message == message


def single(value: str) -> str:
    """Quote as a shell does, verbatim."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


def double(value: str) -> str:
    """Quote with the four escapes that double quotes know."""
    return '"' + "".join("\\" + c if c in '"\\`$' else c for c in value) + '"'


@given(TEXT)
def test_single_quoted_value_comes_back(value: str) -> None:
    """Any text can be written between single quotes."""
    assert parse(f"A={single(value)}\nB=1", "x.env") == {"A": value, "B": "1"}


@given(TEXT)
def test_double_quoted_value_comes_back(value: str) -> None:
    """Any text can be written between double quotes."""
    assert parse(f"A={double(value)}\nB=1", "x.env") == {"A": value, "B": "1"}


@given(TEXT.map(lambda text: text.replace("\n", "")))
def test_escaped_value_comes_back(value: str) -> None:
    """Any text on one line can be written with a backslash before each character."""
    escaped = "".join("\\" + c for c in value)
    assert parse(f"A= {escaped} \t\nB=1", "x.env") == {"A": value, "B": "1"}


PIECES = st.one_of(
    TEXT.map(lambda value: (single(value), value)),
    TEXT.map(lambda value: (double(value), value)),
    st.tuples(BLANKS, st.just("")),
    st.just(('"\\\n"', "")),
)
ENDS = st.one_of(
    st.just(("", "")),
    st.tuples(st.just("plain é #x"), st.just("plain é #x")),
    st.just(("a\\\nb ", "ab")),
    st.just(("a'\"", "a'\"")),
)
LINES = st.one_of(
    st.sampled_from(["", "   ", "# A=1", ";x", "no assignment", "\t# '"]).map(
        lambda line: (line, None)
    ),
    st.tuples(NAMES, st.lists(PIECES, max_size=4), ENDS, BLANKS).map(
        lambda parts: (
            f"{parts[3]}{parts[0]}{parts[3]}="
            + "".join(raw for raw, _ in (*parts[1], parts[2]))
            + parts[3],
            (parts[0], "".join(value for _, value in (*parts[1], parts[2]))),
        )
    ),
)


@given(st.lists(LINES, max_size=5), st.booleans())
def test_file_means_what_it_was_made_of(
    lines: list[tuple[str, tuple[str, str] | None]],
    ends: bool,
) -> None:
    """A file built of pieces with known values is read as these values."""
    text = "\n".join(raw for raw, _ in lines) + "\n" * ends
    assert parse(text, "x.env") == dict(pair for _, pair in lines if pair)


@given(st.binary() | TEXT.map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """A file of rubbish is a configuration error at the worst."""
    try:
        variables = parse(content, "x.env")
    except ConfigurationError:
        return
    assert all(name.isidentifier() and "\0" not in value for name, value in variables.items())
