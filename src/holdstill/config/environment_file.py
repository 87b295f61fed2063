r"""Reads files of environment variables written as for systemd's EnvironmentFile=.

The syntax is that of systemd.exec(5), as systemd 254 reads it: `NAME=value` lines, comments that
begin with `#` or `;`, quotes only where a value begins, a backslash before any character of an
unquoted value, before one of `"`, `\`, `` ` `` and `$` between double quotes, and before the end
of a line to continue it. Nothing is expanded. Lines without `=` are ignored.

Stricter than systemd, which drops them: an open quote, a NUL or a bad name is an error.
"""

from __future__ import annotations

import re

from holdstill.errors import ConfigurationError, shown
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]+|[#;][^\r\n]*)*")
_NAME: Final = re.compile(r"(?=.)([^=\r\n]*)(=?)[ \t]*")
_SINGLE_QUOTED: Final = re.compile(r"'([^']*)'[ \t]*")
_DOUBLE_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\[\s\S])*)"[ \t]*')
_PLAIN: Final = re.compile(r"(?:[^\\\r\n]|\\[\s\S]|\\\Z)*")
_PLAIN_PART: Final = re.compile(r"\\([\s\S])|\\\Z|([ \t]+)|([^\\ \t]+)")


class Assignment(NamedTuple):
    """A variable, and the line on which its name stands."""

    name: str
    value: str
    line: int


def parse(content: bytes | str, source: str) -> dict[str, str]:
    """Return the variables in `content`, the text of the file that errors call `source`.

    The last of several assignments to a name counts. Raises ConfigurationError, with the line
    but never with a value, which may be a password.
    """
    return {one.name: one.value for one in assignments(content, source)}


def assignments(content: bytes | str, source: str) -> Iterator[Assignment]:
    """Yield all assignments, in the file's order; raises ConfigurationError as `parse` does."""
    text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise _error(source, text, text.index("\0"), "a NUL character cannot be in a variable")
    position = _end(_SKIPPED, text, 0)
    while name := _NAME.match(text, position):
        position = name.end()
        if name[2]:
            _check_name(name, text, source)
            value, position = _value(text, position, source)
            yield Assignment(name[1].rstrip(" \t"), value, _line(text, name.start()))
        position = _end(_SKIPPED, text, position)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _check_name(name: re.Match[str], text: str, source: str) -> None:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*[ \t]*", name[1]):
        return
    reason = "what stands before = is not a variable's name"
    if name[1].startswith("export "):
        reason += " (there is no `export` in this syntax)"
    raise _error(source, text, name.start(), reason)


def _value(text: str, position: int, source: str) -> tuple[str, int]:
    """Return the value that begins at `position`, and where it ends.

    Quoted parts may follow each other; what follows them without quotes runs to the line's end.
    """
    value = ""
    while text[position : position + 1] in {"'", '"'}:
        single = text[position] == "'"
        quoted = (_SINGLE_QUOTED if single else _DOUBLE_QUOTED).match(text, position)
        if not quoted:
            raise _error(source, text, position, "the quote that opens here is never closed")
        value += quoted[1] if single else _unescaped(quoted[1])
        position = quoted.end()
    end = _end(_PLAIN, text, position)
    return value + _plain(text[position:end]), end


def _unescaped(quoted: str) -> str:
    return re.sub(r'\\(?:\n|(["\\`$]))', lambda escape: escape[1] or "", quoted)


def _plain(raw: str) -> str:
    """Return an unquoted value without its escapes and without the blanks at its end."""
    parts = list(_PLAIN_PART.finditer(raw))
    if parts and parts[-1][2]:
        parts.pop()
    return "".join((part[1] or part[2] or part[3] or "").strip("\r\n") for part in parts)


def _error(source: str, text: str, position: int, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{shown(source)}:{_line(text, position)}: {reason}",
        remedy="write the file as for systemd's EnvironmentFile= (see systemd.exec(5))",
    )
