"""A run in some lines of text, for the body of a message."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from holdstill.records.past import PastRun

LONGEST = 10_000
"""Characters: older servers of healthchecks.io take no more."""


def title(run: PastRun) -> str:
    """Return what became of a run, on one line."""
    if run.finished is None:
        return f"{run.job}: the run has died"
    return f"{run.job}: {run.outcome} in {run.seconds:.1f} s"


def excerpt(run: PastRun) -> str:
    """Return what a run did, and all that was wrong with it."""
    return "\n".join(_lines(run))[:LONGEST]


def _lines(run: PastRun) -> Iterator[str]:
    yield title(run)
    for failure in run.failures:
        yield f"error: {failure['message']}"
        if failure["remedy"]:
            yield f"  {failure['remedy']}"
    yield from (f"warning: {text}" for text in run.record["warnings"])
    for result in run.record["repositories"]:
        yield _result(result)
        yield from (f"  {error}" for error in result["errors"])
    for phase in run.record["phases"]:
        what = " ".join(filter(None, (phase["name"], phase["repository"])))
        yield f"{phase['started']} {what}" + (f": {s:.1f} s" if (s := phase["seconds"]) else "")
    yield f"run {run.run_id}"


def _result(result: Mapping[str, Any]) -> str:
    snapshot = result["snapshot_id"][:8]
    return (
        f"{result['name']}: {result['outcome']}, "
        f"{f'snapshot {snapshot}' if snapshot else 'no snapshot'}, "
        f"{result['total_files']:,} files, {result['total_bytes']:,} bytes, "
        f"{result['data_added']:,} bytes added"
    )
