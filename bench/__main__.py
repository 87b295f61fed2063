"""`python -m bench`: holdstill against plain restic and against the shell script, in one run.

Needs root. Prints medians, and ratios and differences as medians of paired rounds. Speed is never
asserted: the exit status says only whether everything could be measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from bench import alone, figures, machine, records
from bench.added import data_added
from bench.contenders import HOLDSTILL, PYTHON, Repository, backups, freezers, rounds
from bench.process import Restic, tool, wrapped
from bench.stage import Source, Stage, stage
from bench.told import told
from holdstill import freeze

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures import Row
    from holdstill.restic.versions import Version

EXEC_SECONDS = 0.060
BACKUP_CPU_SECONDS = 0.120
TELLING_CPU_SECONDS = 0.150
PEAK_MIB = 50.0
PLAN_SECONDS = 1.0

_EXEC_ROUNDS = 25
_TINY_ROUNDS = 11
_TINY_FILES = 100
_MANY_ROUNDS = 5
_UNCHANGED_FILES = 20_000
_NESTED = 1000


def measure(on: Stage, restics: dict[Version, str], files: int) -> Iterator[Row]:
    """Yield every row as it is measured."""
    newest = max(restics)
    restic = wrapped(restics[newest], f"{on.root}/restic")
    tiny = on.source("tiny", _TINY_FILES)
    yield _yardstick()
    yield figures.wall("exec true: time", rounds(freezers(on, tiny), _EXEC_ROUNDS), EXEC_SECONDS)
    yield from _backup(on, tiny, restic, _TINY_FILES, _TINY_ROUNDS)
    yield from _telling(on, tiny, restic)
    yield from _imports(on, tiny, restic)
    yield from _nested(on)
    yield from _looking(on)
    many = on.source("many", files)
    yield from _backup(on, many, restic, files, _MANY_ROUNDS)
    yield from _memory(on, many, restic, files)
    unchanged = on.source("unchanged", _UNCHANGED_FILES)
    for version, program in restics.items():
        own = wrapped(program, f"{on.root}/restic-{version}")
        values = data_added(on, unchanged, own, str(version))
        is_promised = version.device_id_for_hardlinks
        yield figures.added(
            f"nothing changed: added, restic {version}", values, is_promised=is_promised
        )


def _backup(on: Stage, source: Source, restic: Restic, files: int, count: int) -> Iterator[Row]:
    costs = rounds(backups(on, source, restic), count)
    yield figures.wall(f"backup, {files:,} files: time", costs)
    yield figures.cpu(f"backup, {files:,} files: CPU beyond restic", costs, BACKUP_CPU_SECONDS)
    yield figures.user(f"backup, {files:,} files: of it outside of the kernel", costs)


def _yardstick() -> Row:
    """Tell how fast this machine is: the budgets are for one on which this takes 54 ms."""
    argv = [PYTHON, "-c", "import argparse, ctypes, json, sqlite3, subprocess, tomllib"]
    spent = alone.median_seconds(lambda: tool(*argv), _EXEC_ROUNDS)
    return figures.single(
        "Python and six of its modules (yardstick: 54 ms)", figures.seconds(spent)
    )


def _telling(on: Stage, source: Source, restic: Restic) -> Iterator[Row]:
    costs = told(on, source, restic, _TINY_ROUNDS)
    telling, silent = ([cost.cpu for cost in costs[name]] for name in ("telling", "silent"))
    title = "backup with history, metrics and pings: CPU beyond restic"
    yield figures.alone(title, telling, silent, TELLING_CPU_SECONDS)


def _nested(on: Stage) -> Iterator[Row]:
    source = on.source("nested", 0)
    on.nest(source, _NESTED)
    planned = alone.median_seconds(lambda: freeze.plan([source.path]), _TINY_ROUNDS)
    title = f"{_NESTED:,} nested subvolumes"
    kept = planned <= PLAN_SECONDS
    budget = figures.seconds(PLAN_SECONDS)
    yield figures.single(f"{title}: plan", figures.seconds(planned), budget, kept=kept)
    argv = [HOLDSTILL, "exec", source.path, "--", "/bin/true"]
    spent = alone.median_seconds(lambda: tool(*argv), _MANY_ROUNDS)
    yield figures.single(f"{title}: exec true", figures.seconds(spent))


def _imports(on: Stage, source: Source, restic: Restic) -> Iterator[Row]:
    commands = {
        "exec": ([HOLDSTILL, "exec", source.path, "--", "/bin/true"], restic.environment({})),
        "backup": Repository(on, source, restic, "holdstill").holdstill(),
    }
    for name, command in commands.items():
        spent = alone.import_seconds(*command, on.root)
        yield figures.single(f"{name}: imports", figures.seconds(spent))


def _looking(on: Stage) -> Iterator[Row]:
    for command, spent in records.looking(f"{on.root}/records").items():
        title = f"{command}, {records.RUNS:,} runs on record: time"
        budget, kept = figures.seconds(records.BUDGET_SECONDS), spent <= records.BUDGET_SECONDS
        yield figures.single(title, figures.seconds(spent), budget, kept=kept)


def _memory(on: Stage, source: Source, restic: Restic, files: int) -> Iterator[Row]:
    own = Repository(on, source, restic, "holdstill")
    peak = alone.peak_mib(own.holdstill(), on.root)
    yield _peak(f"backup, {files:,} files: peak memory", peak)
    complainer = alone.complainer(on.root)
    own = Repository(on, source, complainer, "complainer")
    own.create()
    peak = alone.peak_mib(own.holdstill(), on.root)
    yield _peak(f"backup, {alone.ERROR_LINES:,} error lines: peak memory", peak)


def _peak(title: str, mib: float) -> Row:
    return figures.single(title, f"{mib:.1f} MiB", f"{PEAK_MIB:.0f} MiB", kept=mib <= PEAK_MIB)


def main() -> int:
    """Measure, and print as it goes; the table comes at the end."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 files instead of 300,000")
    quick: bool = parser.parse_args().quick
    restics = machine.restics()
    if os.geteuid() or not restics or not os.path.exists(HOLDSTILL):
        parser.error("this needs root, restic and what is measured: try 'make bench'")
    print(machine.described(max(restics)), flush=True)
    rows = []
    try:
        for row in measure(stage(), restics, 20_000 if quick else 300_000):
            print(f"  measured {row.title}", file=sys.stderr, flush=True)
            rows.append(row)
    finally:
        print(f"\n{figures.table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
