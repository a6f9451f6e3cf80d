"""``index.html``: every board, and what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segbench.core.types import UNRANKED
from segbench.evaluation.metrics import TASK_TITLES
from segbench.evaluation.protocol import Protocol, protocols
from segbench.report.board import Board
from segbench.report.charts.figures import Figures, board_curves, pareto_axes
from segbench.report.pages.compare import compare_path
from segbench.report.rows import STATUS_WORDS, status_of
from segbench.report.site import Site


def index_page(site: Site) -> None:
    """Write the page that opens first."""
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
        "compare": compare_path(site, board),
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
