"""What is measured of holdstill alone: its peak memory, and the time that its imports take."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.contenders import PYTHON
from bench.process import Restic, run, wrapped, write_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ERROR_LINES = 100_000

_PEAK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peak.py")
_OWN_TIME = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)
_TRIES = 7
_PARTIAL = 3
_COMPLAINER = f"""\
#!/bin/sh
[ "$1" = version ] && exec echo 'restic 0.18.0 compiled with go on linux'
seq --format '{{"message_type":"error","error":{{"message":"open /%.0f: input/output error"}},\
"during":"archival","item":"/%.0f"}}' {ERROR_LINES} >&2
echo '{{"message_type":"summary","snapshot_id":"0123456789abcdef"}}'
exit {_PARTIAL}
"""


def peak_mib(command: tuple[Sequence[str], Mapping[str, str]], directory: str) -> float:
    """Return the peak memory of holdstill itself while it makes a backup, partial or not."""
    (_, *arguments), environment = command
    file = f"{directory}/peak"
    run([PYTHON, _PEAK, file, *arguments], environment, accepted=(0, _PARTIAL))
    return int(Path(file).read_text(encoding="ascii")) / 1024


def median_seconds(what: Callable[[], object], tries: int) -> float:
    """Return how long something takes."""
    spent = []
    for _ in range(tries):
        began = time.monotonic()
        what()
        spent.append(time.monotonic() - began)
    return median(spent)


def complainer(directory: str) -> Restic:
    """Make a restic that prints errors and nothing else."""
    program = f"{directory}/complain"
    write_program(program, _COMPLAINER)
    return wrapped(program, f"{directory}/complainer")


def import_seconds(argv: Sequence[str], environment: Mapping[str, str], directory: str) -> float:
    """Return the time that imports take in a run, without those of a bare interpreter."""
    own = [_imports(argv, environment, directory) for _ in range(_TRIES)]
    bare = [_imports(["-c", ""], environment, directory) for _ in range(_TRIES)]
    return median(own) - median(bare)


def _imports(argv: Sequence[str], environment: Mapping[str, str], directory: str) -> float:
    """Sum up what `-X importtime` says; it goes to a file, apart from restic's words."""
    report = f"{directory}/imports"
    words = shlex.join([PYTHON, "-X", "importtime", *argv])
    run(["bash", "-c", f"exec {words} 2>{shlex.quote(report)}"], environment)
    text = Path(report).read_text(encoding="utf-8")
    return sum(int(found[1]) for found in _OWN_TIME.finditer(text)) / 1e6
