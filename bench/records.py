"""What looking at many runs on record costs."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from bench.contenders import HOLDSTILL
from bench.process import run
from holdstill.records.database import open_to_write
from holdstill.records.history import closing_statements
from holdstill.records.record import (
    LeftOutRecord,
    Outcome,
    Phase,
    PhaseRecord,
    RepositoryResult,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 10_000
BUDGET_SECONDS = 0.100

_TRIES = 15
_JOBS = ("mail", "photos", "data")
_CONFIGURATION = """\
state-directory = "{root}/state"
runtime-directory = "{root}/runtime"
[repositories.nas]
url = "/nowhere"
password-file = "/dev/null"
"""
_JOB = '[jobs.{job}]\npaths = ["/{job}"]\nrepositories = ["nas"]\n'


def looking(root: str) -> dict[str, float]:
    """Return the median seconds that `status` and `history` take with RUNS runs on record."""
    os.makedirs(f"{root}/state", 0o700)
    with closing(open_to_write(f"{root}/state")) as database:
        database.execute("BEGIN")
        for record in _runs():
            for statement, values in closing_statements(record):
                database.execute(statement, values)
        database.execute("COMMIT")
    with open(f"{root}/config.toml", "w", encoding="utf-8") as file:
        file.write(_CONFIGURATION.format(root=root))
        file.writelines(_JOB.format(job=job) for job in _JOBS)
    return {command: _seconds(root, command) for command in ("status", "history")}


def _seconds(root: str, command: str) -> float:
    argv = [HOLDSTILL, "--config", f"{root}/config.toml", command]
    return median(run(argv, os.environ).wall for _ in range(_TRIES))


def _runs() -> Iterator[RunRecord]:
    """Yield runs of several jobs in turn, until now, each with the usual things in it."""
    now = datetime.now(UTC)
    left_out = LeftOutRecord("/srv/data/proc", "another mount: proc", "")
    result = RepositoryResult("nas", Outcome.OK, "a" * 64, total_files=10_000, total_bytes=1 << 40)
    for number in range(RUNS):
        started = now - timedelta(minutes=RUNS - number)
        yield RunRecord(
            job=_JOBS[number % len(_JOBS)],
            run_id=f"{number:08}",
            outcome=Outcome.OK,
            exit_status=0,
            started=started,
            finished=started + timedelta(seconds=30),
            phases=tuple(PhaseRecord(phase, "", started, 6.0) for phase in Phase),
            repositories=(result,),
            left_out=(left_out,) * 10,
        )
