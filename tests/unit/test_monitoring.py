"""What is shipped for Prometheus and Grafana: rules that fire when they should, and no others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from holdstill.records import metrics
from holdstill.records.metrics import METRICS, Known
from holdstill.records.past import PastRun
from holdstill.records.record import Outcome, RepositoryResult, RunRecord, plain

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

ROOT = Path(__file__).parents[2]
RULES = ROOT / "share/prometheus/holdstill.rules.yml"
DASHBOARD = ROOT / "share/grafana/holdstill.json"
DOCUMENT = ROOT / "docs/monitoring.md"

STEP_MINUTES = 4
"""Between two values of a metric: Prometheus believes each for five."""


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return Prometheus' own checker."""
    found = shutil.which("promtool") or str(ROOT / ".cache/promtool/promtool")
    assert Path(found).exists(), "promtool is missing: run tools/promtool"
    return found


def _hour(hours: float) -> datetime:
    """Return a time on promtool's clock, which begins at 1970."""
    return datetime.fromtimestamp(hours * 3600, UTC)


def _ended(at: float, outcome: Outcome = Outcome.OK, **changes: Any) -> PastRun:  # noqa: ANN401
    """Return a run that ended then."""
    repositories = (RepositoryResult("nas", outcome, suspicious=changes.pop("small", False)),)
    record = RunRecord(
        "data",
        "1",
        outcome,
        0,
        _hour(at),
        _hour(at),
        hold_ms=1.0,
        instant="single",
        repositories=repositories,
    )._replace(**changes)
    return PastRun("1", "data", _hour(at), outcome, plain(record))


GOOD = Known(last=_ended(1), last_ok=_hour(1), good_backups={"nas": _hour(1)}, leftovers=0)
CASES = {
    "a good run": (GOOD, 24, set()),
    "nothing since": (GOOD, 38, {"Overdue", "RepositoryOverdue"}),
    "one repository of two is old": (
        GOOD._replace(last_ok=_hour(30)),
        38,
        {"RepositoryOverdue"},
    ),
    "a failure": (GOOD._replace(last=_ended(20, Outcome.FAILED)), 24, {"Failed"}),
    "a death": (GOOD._replace(last=_ended(20, Outcome.INTERRUPTED)), 24, {"Failed"}),
    "an incomplete backup": (GOOD._replace(last=_ended(20, Outcome.PARTIAL)), 24, {"Partial"}),
    "a run that goes on": (GOOD._replace(active_since=_hour(2)), 20, set()),
    "a run that does not end": (GOOD._replace(active_since=_hour(2)), 28, {"Stuck"}),
    "a new job that fails": (Known(last=_ended(0, Outcome.FAILED)), 20, {"Failed"}),
    "a job that never succeeds": (
        Known(last=_ended(0, Outcome.FAILED)),
        30,
        {"Failed", "NeverSucceeded"},
    ),
    "a small backup": (GOOD._replace(last=_ended(1, small=True)), 24, {"TooSmall"}),
    "a skewed one": (GOOD._replace(last=_ended(1, instant="skewed")), 24, {"Skewed"}),
    "leftovers": (GOOD._replace(leftovers=3), 24, {"Leftovers"}),
    "warnings": (GOOD._replace(last=_ended(1, warnings=("one",))), 24, {"Warnings"}),
}


def _case(name: str) -> dict[str, Any]:
    """Return a case as promtool reads it: what holdstill writes, and the alerts that fire then."""
    known, hours, alerts = CASES[name]
    steps = round(hours * 60 / STEP_MINUTES)
    samples = [
        sample
        for family in text_string_to_metric_families(metrics.text("data", known))
        for sample in family.samples
    ]
    return {
        "name": name,
        "interval": f"{STEP_MINUTES}m",
        "input_series": [
            {"series": _series(sample), "values": f"{sample.value!r}x{steps}"} for sample in samples
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{hours}h",
                "exp_samples": [
                    {"labels": f'{{alertname="Holdstill{alert}"}}', "value": 1} for alert in alerts
                ],
            }
        ],
    }


def _series(sample: Sample) -> str:
    labels = {**sample.labels, "instance": "host"}
    return sample.name + "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}"


def test_rules_are_valid(promtool: str) -> None:
    """Prometheus' own tool has read every one of them."""
    argv = [promtool, "check", "rules", str(RULES)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert f"{len(_rules())} rules found" in done.stdout


def test_rules_fire_when_they_should_and_not_otherwise(promtool: str, tmp_path: Path) -> None:
    """For every case, on the very text that holdstill writes; every rule fires in one of them."""
    fired = {f"Holdstill{name}" for *_, names in CASES.values() for name in names}
    assert fired == set(_rules())
    tests = [_case(name) for name in CASES]
    document = {"rule_files": [str(RULES)], "evaluation_interval": "4m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(document), encoding="utf-8")
    argv = [promtool, "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _rules() -> list[str]:
    return re.findall(r"^      - alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


def _metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bholdstill_[a-z_]+", text))


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    """A metric that changes its name has to change it there, too."""
    for path in (RULES, DASHBOARD):
        used = _metrics_in(path.read_text(encoding="utf-8"))
        assert len(used) >= 8
        assert used <= METRICS.keys()


def test_every_panel_shows_something_in_a_place_of_its_own(promtool: str, tmp_path: Path) -> None:
    """Each has a query that Prometheus understands, and none lies over another."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) >= len(panels)
    assert all(_metrics_in(query) for query in queries)
    rules = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(queries)]
    document = {"groups": [{"name": "panels", "rules": rules}]}
    (tmp_path / "panels.yml").write_text(json.dumps(document), encoding="utf-8")
    subprocess.run([promtool, "check", "rules", tmp_path / "panels.yml"], check=True)


def test_every_metric_is_documented_and_no_other() -> None:
    """docs/monitoring.md has a row for each, with the help that stands in the file."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(holdstill_[a-z_]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(METRICS)
    assert _metrics_in(text) <= METRICS.keys()
