"""/proc/swaps (proc(5)): the files that the kernel swaps to."""

from __future__ import annotations

from holdstill.linux.mountinfo import unescaped


def active_files() -> tuple[str, ...]:
    """Return their paths, as this process's root sees them; none where nothing can be swapped."""
    try:
        with open("/proc/swaps", "rb") as file:
            return parse(file.read())
    except FileNotFoundError:  # a kernel without CONFIG_SWAP
        return ()


def parse(text: bytes) -> tuple[str, ...]:
    """Return the paths of the rows that are files; the first line is a heading."""
    rows = (line.split() for line in text.splitlines()[1:])
    return tuple(unescaped(row[0]) for row in rows if row[1] == b"file")
