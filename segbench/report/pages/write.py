"""The pages of the report: index, one per run, galleries, models side by side, datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segbench.core.files import write_json
from segbench.core.types import UNRANKED
from segbench.evaluation.metrics import IMAGE_SCORES, MISSING, TASK_TITLES, primary
from segbench.evaluation.protocol import Protocol, protocols
from segbench.report.board import Board
from segbench.report.charts.figures import Figures, board_curves, heat_map, pareto_axes, run_curve
from segbench.report.costs import COSTS
from segbench.report.error_table import error_table
from segbench.report.oracle_table import network_of, oracle_table
from segbench.report.pages.dataset import dataset_pages
from segbench.report.pictures.galleries import Gallery
from segbench.report.rows import STATUS_WORDS, Cell, model_entry, status_of
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
    run_slug,
    score_rows,
    training_facts,
)
from segbench.report.site import Site
from segbench.report.values import interval_of, no_interval_of

PAGE_IMAGES = 60
PREVIEW_IMAGES = 6
COMPARED = 16
"""Models one can choose from on a comparison page, best first."""
COMPARE_COLUMNS = 5


def write_pages(site: Site) -> None:
    """Write every file of the site."""
    site.assets()
    _index(site)
    for run in site.runs.values():
        _run(site, run)
    for board in site.boards:
        _compare(site, board)
    dataset_pages(site)


def _index(site: Site) -> None:
    figures = Figures(site.out / "charts")
    sections = []
    for name in dict.fromkeys(board.dataset for board in site.boards):
        entries = [_entry(site, b, figures) for b in site.boards if b.dataset == name]
        dataset = site.dataset(name)
        meta = _dataset_meta(dataset)
        sections.append(
            {
                **dataset,
                "boards": entries,
                "meta": meta,
                "description": dataset.get("description", ""),
            }
        )
    site.page(
        "index.html.j2",
        "index.html",
        sections=sections,
        facts=_facts(site),
        charts=figures.data,
    )


def _entry(site: Site, board: Board, figures: Figures) -> dict[str, Any]:
    return {
        "board": board,
        "title": TASK_TITLES.get(board.task, board.task),
        "protocol": _protocol(board.protocol),
        "axes": pareto_axes(figures, board),
        "curves": board_curves(figures, board, site.runs, site.results),
        "compare": _compare_path(site, board),
    }


def _facts(site: Site) -> list[dict[str, Any]]:
    runs = list(site.runs.values())
    states = [status_of(cell) for cell in site.table["cells"]]
    counts = {
        "datasets": len({run.dataset for run in runs}),
        "experiments": len({(r.dataset, r.experiment) for r in runs if r.kind not in UNRANKED}),
        "scored results": states.count("ok"),
        **{words: states.count(s) for s, words in STATUS_WORDS.items() if s != "ok"},
    }
    always = ("datasets", "experiments", "scored results")
    return [
        {"label": label if n != 1 else _singular(label), "text": n}
        for label, n in counts.items()
        if n or label in always
    ]


def _run(site: Site, run: Run) -> None:
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
        href = f"../gallery/{_gallery_name(run, cell, 1)}"
        part |= {"gallery": {"href": href, "count": len(gallery.images)}}
        part["preview"] = gallery.images[:PREVIEW_IMAGES]
        _gallery(site, run, cell, gallery)
    matrix = site.galleries.evidence(cell).confusion if cell["task"] == "semantic" else None
    if matrix is not None:
        confusion = confusion_of(matrix, cell["record"]["per_class"])
        part |= {"confusion": confusion, "worst": confusion.worst()}
        if not confusion.as_table:
            part["heat"] = heat_map(figures, f"{run.slug}-confusion", confusion)
    return part


def _gallery(site: Site, run: Run, cell: Cell, gallery: Gallery) -> None:
    pages = -(-len(gallery.images) // PAGE_IMAGES)
    for page in range(1, pages + 1):
        start = (page - 1) * PAGE_IMAGES
        site.page(
            "gallery.html.j2",
            f"gallery/{_gallery_name(run, cell, page)}",
            run=run,
            task=cell["task"],
            dataset=site.dataset(run.dataset),
            images=gallery.images[start : start + PAGE_IMAGES],
            first=start + 1,
            page=page,
            pages=pages,
            page_name=lambda n: _gallery_name(run, cell, n),
            views=gallery.views,
            palette=gallery.palette,
            error_legend=gallery.error_legend,
            order_note=gallery.order_note,
            metric=IMAGE_SCORES[cell["task"]],
        )


def _compare_path(site: Site, board: Board) -> str | None:
    return f"compare/{board.id}.html" if len(_comparable(site, board)) > 1 else None


def _comparable(site: Site, board: Board) -> list[Cell]:
    """Return one scored cell with images per experiment, best first, oracles and controls last."""
    cells = [row.run for row in board.all_rows if row.status == "ok"]
    return [c for c in cells if site.galleries.of_cell(c) is not None][:COMPARED]


def _compare(site: Site, board: Board) -> None:
    path = _compare_path(site, board)
    if path is None:
        return
    cells = _comparable(site, board)
    metric = IMAGE_SCORES[board.task]
    comparison = site.galleries.compare(cells, metric)
    models = [{"slug": run_slug(c), "name": site.runs[run_slug(c)].name} for c in cells]
    site.page(
        "compare.html.j2",
        path,
        board=board,
        task=board.task,
        dataset=site.dataset(board.dataset),
        metric=metric,
        images=comparison.images,
        models=models,
        shown=models[:COMPARE_COLUMNS],
        has_truth=any(image["truth"] for image in comparison.images),
        palette=comparison.palette,
        error_legend=comparison.error_legend,
        data={"images": comparison.images, "models": models, "metric": metric.label},
    )


def _singular(label: str) -> str:
    return label.removesuffix("s") if label.endswith("s") else label


def _protocol(protocol_id: str) -> Protocol | None:
    return next((p for p in protocols() if p.id == protocol_id), None)


def _dataset_meta(dataset: Mapping[str, Any]) -> list[str]:
    if not dataset.get("categories"):
        return ["this dataset has not been prepared yet"]
    categories = dataset["categories"]
    things = sum(bool(c["isthing"]) for c in categories)
    meta = [f"{len(categories)} classes ({things} things, {len(categories) - things} stuff)"]
    splits = dataset.get("splits") or {}
    sizes = splits.items() if isinstance(splits, Mapping) else [(s, None) for s in splits]
    meta += [f"{name} {n} images" if isinstance(n, int) else str(name) for name, n in sizes]
    return meta + ([f"licence: {dataset['licence']}"] if dataset.get("licence") else [])


def _costs(run: Run) -> list[dict[str, str]]:
    found = [(metric, run.profile.get(metric.key)) for metric in COSTS]
    return [{"label": m.label, "text": m.text(v)} for m, v in found if m.text(v) != MISSING]


def _problem(cell: Cell, logs: Sequence[Log]) -> dict[str, Any]:
    own = [log for log in logs if log.name in cell.get("logs", ())]
    return {"cell": cell, "log": own[-1] if own else None}


def _gallery_name(run: Run, cell: Cell, page: int) -> str:
    suffix = "" if page == 1 else f"-{page}"
    return f"{run.slug}-{cell['task']}{suffix}.html"
