"""Standard output, which carries results: one that cannot be printed is an error of its own."""

from __future__ import annotations

import io
import os
import sys

from holdstill.errors import PrintError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Descriptor(io.FileIO):
    """Standard output's file, whose failures say what has failed."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - Buffer has a name since Python 3.12
        """Write, as any file does; raises PrintError, and BrokenPipeError where nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            message = "the result could not be printed on standard output"
            raise PrintError(f"{message}: {error.strerror}") from error


def name_failures() -> None:
    """Let what is printed raise PrintError from now on, whoever prints it."""
    plain = sys.stdout
    if isinstance(plain, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(plain.fileno(), "w", closefd=False)),
            encoding=plain.encoding,
            errors=plain.errors,
            line_buffering=plain.line_buffering,
        )


def silence() -> None:
    """Print nowhere from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def can_print(text: str) -> bool:
    """Whether standard output's encoding has letters for a text."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True
