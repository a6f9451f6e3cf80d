"""Which charts a page has: from boards and training logs to specifications and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.core.files import write_text
from segbench.report.board import Board
from segbench.report.charts import specs as charts
from segbench.report.costs import AXIS_TITLES, COSTS
from segbench.report.rows import Row
from segbench.report.runs import Confusion, Run, run_slug, train_log

MAX_CURVES = 8
HEAT_FLOOR = 0.002
"""Smallest share of a true class that gets a cell in a large heat map."""


@dataclass
class Figures:
    """The charts of one page; each is written once as a static SVG file."""

    folder: Path
    specs: dict[str, charts.Spec] = field(default_factory=dict)

    def add(self, name: str, spec: charts.Spec, **facts: str) -> dict[str, str]:
        """Keep the specification, write its static twin, return what the template needs."""
        self.specs[name] = spec
        write_text(self.folder / f"{name}.svg", charts.static_svg(spec))
        return {"id": name, "file": f"{name}.svg", **facts}

    @property
    def data(self) -> dict[str, Any]:
        """Specifications and colour pairs for the script of the page."""
        theme = dict(charts.THEME.values())
        return {"charts": self.specs, "theme": theme}


def pareto_axes(figures: Figures, board: Board) -> list[dict[str, str]]:
    """Add one accuracy-against-cost chart for each cost that at least two rows have."""
    axes = []
    for cost in COSTS:
        points = [p for row in board.scored if (p := _point(row, board, cost.key))]
        if len(points) < 2:
            continue
        title = f"{AXIS_TITLES[cost.key]} (log scale)"
        spec = charts.pareto(points, x_title=title, y_title=f"{board.primary.label} (%)")
        alt = (
            f"{board.primary.label} against {cost.meaning} for {len(points)} models. "
            + "; ".join(f"{p.label}" for p in points[:12])
        )
        item = figures.add(f"{board.id}-{cost.key}", spec, alt=alt)
        axes.append({**item, "key": cost.key, "label": cost.label.removesuffix(" (M)")})
    return axes


def _point(row: Row, board: Board, cost: str) -> charts.Point | None:
    score, value = row.values[board.primary.key], row.values[cost]
    if score.raw is None or value.raw is None or value.raw <= 0:
        return None
    shown = f"{row.name}: {board.primary.label} {score.text}, {value.metric.label} {value.text}"
    href = f"runs/{run_slug(row.run)}.html"
    return charts.Point(row.name, round(100 * score.raw, 2), value.raw, href, shown)


def board_curves(
    figures: Figures, board: Board, runs: Mapping[str, Run], results: Path
) -> dict[str, str] | None:
    """Add the training curves of the best rows of a board; None when there is no log.

    A network trained for another task (and scored for this one too) is drawn on its own board.
    """
    series: dict[str, Sequence[Mapping[str, Any]]] = {}
    logged = 0
    for row in board.scored:
        run = runs[run_slug(row.run)]
        if row.model.get("task", board.task) != board.task:
            continue
        points = charts.binned(train_log(results, run)) if len(series) < MAX_CURVES else []
        logged += 1
        if len(points) > 1:
            name = row.name if row.name not in series else f"{row.name} ({row.experiment})"
            series[name] = points
    if not series:
        return None
    note = (
        "Loss against iteration, averaged over short stretches. "
        "Losses of different kinds of network are not comparable."
    )
    if logged > len(series):
        note += f" {len(series)} of {logged} rows are drawn, best first."
    alt = "Training loss against iteration for " + ", ".join(series)
    return figures.add(f"{board.id}-curves", charts.curves(series), alt=alt, note=note)


def run_curve(figures: Figures, run: Run, results: Path) -> dict[str, str] | None:
    """Add the training curve of one run; None when it has no log."""
    points = charts.binned(train_log(results, run))
    if len(points) < 2:
        return None
    spec = charts.curves({run.name: points})
    last = points[-1]
    end = f"the last point is {last['loss']:.4g} at iteration {last['iteration']}"
    note = f"Loss against iteration, averaged over short stretches; {end}."
    return figures.add(f"{run.slug}-curve", spec, alt=f"Training curve. {note}", note=note)


def heat_map(figures: Figures, name: str, confusion: Confusion) -> dict[str, str]:
    """Add the confusion heat map of a label set that is too large for a table."""
    shares = [
        (truth, prediction, float(confusion.shares[t, p]))
        for t, truth in enumerate(confusion.names)
        for p, prediction in enumerate(confusion.columns)
        if confusion.shares[t, p] >= HEAT_FLOOR
    ]
    alt = (
        "Confusion heat map, rows truth, columns prediction; the largest mistakes are listed below"
    )
    return figures.add(name, charts.heat_map(shares, confusion.columns), alt=alt)
