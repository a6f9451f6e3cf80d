"""``gallery.html``: the images of one run and task, worst first."""

from __future__ import annotations

from segbench.evaluation.metrics import IMAGE_SCORES
from segbench.report.pictures.galleries import Gallery
from segbench.report.rows import Cell
from segbench.report.runs import Run
from segbench.report.site import Site

PAGE_IMAGES = 60


def gallery_pages(site: Site, run: Run, cell: Cell, gallery: Gallery) -> None:
    """Write the pages of a gallery, ``PAGE_IMAGES`` images each."""
    pages = -(-len(gallery.images) // PAGE_IMAGES)
    for page in range(1, pages + 1):
        start = (page - 1) * PAGE_IMAGES
        site.page(
            "gallery.html.j2",
            f"gallery/{gallery_name(run, cell, page)}",
            run=run,
            task=cell["task"],
            dataset=site.dataset(run.dataset),
            images=gallery.images[start : start + PAGE_IMAGES],
            first=start + 1,
            page=page,
            pages=pages,
            page_name=lambda n: gallery_name(run, cell, n),
            views=gallery.views,
            palette=gallery.palette,
            error_legend=gallery.error_legend,
            order_note=gallery.order_note,
            metric=IMAGE_SCORES[cell["task"]],
        )


def gallery_name(run: Run, cell: Cell, page: int) -> str:
    """Return the file name of a page of a gallery, from 1."""
    suffix = "" if page == 1 else f"-{page}"
    return f"{run.slug}-{cell['task']}{suffix}.html"
