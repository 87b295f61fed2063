"""Errors: their words, their exit statuses, and names in them that cannot lie."""

from __future__ import annotations

import os
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill import errors
from holdstill.errors import HoldstillError, shown

paths = st.binary(max_size=60).map(lambda name: name.replace(b"\0", b"")).map(os.fsdecode)


@given(paths)
def test_a_shown_path_is_one_printable_line(path: str) -> None:
    """No name can forge a line, colour a terminal, or break an encoding."""
    text = shown(path)
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    text.encode("utf-8")


@given(paths)
def test_a_shown_path_is_the_path_again_in_a_shell(path: str) -> None:
    """It can be pasted: byte for byte the same name."""
    assert _as_a_shell_reads(shown(path)) == os.fsencode(path)


def _as_a_shell_reads(text: str) -> bytes:
    if not text.startswith("$'"):
        (word,) = shlex.split(text)
        return os.fsencode(word)
    assert text.endswith("'")
    inner = text[2:-1].encode()
    assert not re.search(rb"(?<!\\)(?:\\\\)*'", inner), "a quote would end it"
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", _ansi_c, inner)


def _ansi_c(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    return bytes([int(escape[1:], 16)]) if escape.startswith(b"x") else escape


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/mnt/data", "/mnt/data"),
        ("/a b", "'/a b'"),
        ("", "''"),
        ("/it's", "'/it'\\''s'"),
        ("/new\nline", "$'/new\\x0aline'"),
        ("/caf\udce9", "$'/caf\\xe9'"),
        ("/č", "/č"),
        ("/$(x)", "'/$(x)'"),
        ("~root", "'~root'"),
        ("/a~b", "/a~b"),
    ],
)
def test_plain_names_stay_plain(path: str, text: str) -> None:
    """Quotes and escapes come only where they are needed."""
    assert shown(path) == text


def test_message_and_remedy_stay_apart() -> None:
    """What happened, and what to do."""
    error = HoldstillError("it broke", remedy="mend it")
    assert (str(error), error.message, error.remedy) == ("it broke", "it broke", "mend it")
    assert HoldstillError("it broke").remedy == ""


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("HoldstillError", 1),
        ("UsageError", 2),
        ("SourceError", 1),
        ("FreezeError", 1),
        ("ViewError", 1),
        ("CleanUpError", 1),
        ("ProgramError", 1),
        ("JobActiveError", 75),
        ("NotPermittedError", 77),
        ("ConfigurationError", 78),
        ("CommandNotExecutableError", 126),
        ("CommandNotFoundError", 127),
    ],
)
def test_the_exit_statuses_are_the_documented_ones(name: str, status: int) -> None:
    """Scripts depend on them."""
    kind: type[HoldstillError] = getattr(errors, name)
    assert issubclass(kind, HoldstillError)
    assert kind.exit_status == status
