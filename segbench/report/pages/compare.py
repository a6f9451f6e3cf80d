"""``compare.html``: the networks of a board side by side, image by image."""

from __future__ import annotations

from segbench.evaluation.metrics import IMAGE_SCORES
from segbench.report.board import Board
from segbench.report.rows import Cell
from segbench.report.runs import run_slug
from segbench.report.site import Site

COMPARED = 16
"""Models one can choose from on a comparison page, best first."""
COMPARE_COLUMNS = 5


def compare_path(site: Site, board: Board) -> str | None:
    """Return where the page of a board is; None for fewer than two rows with images."""
    return f"compare/{board.id}.html" if len(_comparable(site, board)) > 1 else None


def _comparable(site: Site, board: Board) -> list[Cell]:
    """Return one scored cell with images per experiment, best first, oracles and controls last."""
    cells = [row.run for row in board.all_rows if row.status == "ok"]
    return [c for c in cells if site.galleries.of_cell(c) is not None][:COMPARED]


def compare_page(site: Site, board: Board) -> None:
    """Write the page of a board whose rows have images, at least two of them."""
    path = compare_path(site, board)
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
