"""Figures and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.process import Cost

HEAD = ("", "holdstill", "script", "restic", "/script", "/restic", "judged", "budget", "kept")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what each contender needed, and what of it is held against a budget."""

    title: str
    values: tuple[str, str, str]
    """holdstill's, the script's, plain restic's."""
    ratios: tuple[str, str] = ("", "")
    judged: str = ""
    budget: str = ""
    kept: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return its texts in the order of HEAD."""
        kept = "" if self.kept is None else "yes" if self.kept else "NO"
        return (self.title, *self.values, *self.ratios, self.judged, self.budget, kept)


def wall(title: str, costs: dict[str, list[Cost]], budget: float | None = None) -> Row:
    """Compare wall times; the budget is for the seconds over the script."""
    times = {name: [cost.wall for cost in of_name] for name, of_name in costs.items()}
    own = times["holdstill"]
    over = _paired(own, times["script"], lambda a, b: a - b)
    return Row(
        title,
        _medians(times),
        (_ratio(own, times.get("script")), _ratio(own, times.get("restic"))),
        f"{_plus(over)} over the script",
        "" if budget is None else seconds(budget),
        None if budget is None else over <= budget,
    )


def cpu(title: str, costs: dict[str, list[Cost]], budget: float) -> Row:
    """Compare CPU beyond restic's own."""
    times = {name: [cost.cpu for cost in of_name] for name, of_name in costs.items()}
    own = median(times["holdstill"])
    return Row(title, _medians(times), ("", ""), seconds(own), seconds(budget), own <= budget)


def user(title: str, costs: dict[str, list[Cost]]) -> Row:
    """Compare the part of it that is not the kernel's."""
    return Row(title, _medians({name: [cost.user for cost in of] for name, of in costs.items()}))


def alone(title: str, own: list[float], less: list[float], budget: float) -> Row:
    """Show what holdstill needs, and how much more that is than with less to do."""
    more = _plus(_paired(own, less, lambda a, b: a - b))
    spent = median(own)
    texts = (seconds(spent), f"{more} with it", "")
    return Row(title, texts, judged=seconds(spent), budget=seconds(budget), kept=spent <= budget)


def single(title: str, value: str, budget: str = "", *, kept: bool | None = None) -> Row:
    """Show a figure of holdstill alone."""
    return Row(title, (value, "", ""), judged=value if budget else "", budget=budget, kept=kept)


def added(title: str, values: dict[str, int], *, is_promised: bool) -> Row:
    """Compare bytes added; nothing is promised of a restic that cannot leave device numbers out."""
    own, script, restic = (values[name] for name in ("holdstill", "script", "restic"))
    texts = (f"{own:,} B", f"{script:,} B", f"{restic:,} B")
    if not is_promised:
        return Row(title, texts)
    return Row(title, texts, judged=f"{own:,} B", budget="0 B", kept=own == 0)


def seconds(value: float) -> str:
    """Return a duration with three digits or so."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def table(rows: Sequence[Row]) -> str:
    """Return the rows below their head, the columns aligned."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in rest)]).rstrip()


def _medians(times: dict[str, list[float]]) -> tuple[str, str, str]:
    own, script, restic = (
        seconds(median(times[name])) if name in times else ""
        for name in ("holdstill", "script", "restic")
    )
    return own, script, restic


def _ratio(own: Sequence[float], other: Sequence[float] | None) -> str:
    return "" if other is None else f"{_paired(own, other, lambda a, b: a / b):.2f}"


def _paired(
    own: Sequence[float], other: Sequence[float], compare: Callable[[float, float], float]
) -> float:
    """Return the median over the rounds: what slows the machine down slows both of a pair."""
    return median(compare(a, b) for a, b in zip(own, other, strict=True))


def _plus(value: float) -> str:
    return ("+" if value >= 0 else "-") + seconds(abs(value))
