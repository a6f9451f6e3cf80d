"""``run.html``: everything about one trained network, control or submission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segbench.core.files import write_json
from segbench.evaluation.metrics import MISSING, primary
from segbench.report.charts.figures import Figures, heat_map, run_curve
from segbench.report.costs import COSTS
from segbench.report.error_table import error_table
from segbench.report.oracle_table import network_of, oracle_table
from segbench.report.pages.gallery import gallery_name, gallery_pages
from segbench.report.rows import Cell, model_entry, status_of
from segbench.report.rule_table import rule_table
from segbench.report.runs import (
    Log,
    Run,
    class_table,
    confusion_of,
    iou_table,
    more_scores,
    provenance_rows,
    recipe_rows,
    score_rows,
    training_facts,
)
from segbench.report.site import Site
from segbench.report.values import interval_of, no_interval_of

PREVIEW_IMAGES = 6


def run_page(site: Site, run: Run) -> None:
    """Write the page of a run, its record and its galleries."""
    figures = Figures(site.out / "charts")
    logs = site.logs[run.slug]
    facts = site.cleaner.value(training_facts(site.results, run))
    if facts:
        write_json(site.out / "runs" / f"{run.slug}-recipe.json", facts)
    parts = [_part(site, run, cell, figures) for cell in run.scored]
    siblings = [
        r
        for r in site.runs.values()
        if (r.dataset, r.experiment) == (run.dataset, run.experiment) and r is not run
    ]
    site.page(
        "run.html.j2",
        f"runs/{run.slug}.html",
        run=run,
        dataset=site.dataset(run.dataset),
        parts=parts,
        siblings=siblings,
        oracles=oracle_table(run, list(site.runs.values())),
        network=_network(site, run),
        logs=logs,
        model=model_entry(site.table["models"], run.model_id),
        costs=_costs(run),
        problems=[_problem(cell, logs) for cell in run.cells if status_of(cell) != "ok"],
        curve=run_curve(figures, run, site.results),
        provenance=provenance_rows(run, facts),
        recipe=recipe_rows(facts),
        charts=figures.data,
    )


def _network(site: Site, run: Run) -> Run | None:
    """Return the run whose weights predicted an oracle's row; None for other rows."""
    key = (run.dataset, network_of(run), run.seed)
    runs = site.runs.values() if run.oracle else ()
    return next((r for r in runs if (r.dataset, r.experiment, r.seed) == key), None)


def _part(site: Site, run: Run, cell: Cell, figures: Figures) -> dict[str, Any]:
    record = f"{run.slug}-{cell['task']}.json"
    write_json(site.out / "runs" / record, cell["record"])
    gallery = site.galleries.of_cell(cell)
    part: dict[str, Any] = {
        "cell": cell,
        "scores": score_rows(cell),
        "interval": interval_of(cell["record"], primary(cell["task"])),
        "no_interval": no_interval_of(cell["record"], primary(cell["task"])),
        "more": more_scores(cell),
        "classes": class_table(cell),
        "ious": iou_table(cell),
        "rules": rule_table(cell, site.table),
        "errors": error_table(cell),
        "record": record,
        "confusion": None,
        "heat": None,
        "worst": [],
        "gallery": None,
        "preview": [],
    }
    if gallery is not None:
        href = f"../gallery/{gallery_name(run, cell, 1)}"
        part |= {"gallery": {"href": href, "count": len(gallery.images)}}
        part["preview"] = gallery.images[:PREVIEW_IMAGES]
        gallery_pages(site, run, cell, gallery)
    matrix = site.galleries.evidence(cell).confusion if cell["task"] == "semantic" else None
    if matrix is not None:
        confusion = confusion_of(matrix, cell["record"]["per_class"])
        part |= {"confusion": confusion, "worst": confusion.worst()}
        if not confusion.as_table:
            part["heat"] = heat_map(figures, f"{run.slug}-confusion", confusion)
    return part


def _costs(run: Run) -> list[dict[str, str]]:
    found = [(metric, run.profile.get(metric.key)) for metric in COSTS]
    return [{"label": m.label, "text": m.text(v)} for m, v in found if m.text(v) != MISSING]


def _problem(cell: Cell, logs: Sequence[Log]) -> dict[str, Any]:
    own = [log for log in logs if log.name in cell.get("logs", ())]
    return {"cell": cell, "log": own[-1] if own else None}
