"""The pages of the report: index, one per run, galleries, models side by side, datasets."""

from __future__ import annotations

from segbench.report.pages.compare import compare_page
from segbench.report.pages.dataset import dataset_pages
from segbench.report.pages.index import index_page
from segbench.report.pages.run import run_page
from segbench.report.site import Site


def write_pages(site: Site) -> None:
    """Write every file of the site."""
    site.assets()
    index_page(site)
    for run in site.runs.values():
        run_page(site, run)
    for board in site.boards:
        compare_page(site, board)
    dataset_pages(site)
