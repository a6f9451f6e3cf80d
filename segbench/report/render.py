"""The report: a folder of static pages that opens from disk, made of ``table.json``.

Pages hold every number as HTML; scripts add sorting, search, charts and the viewer. The
site is built beside ``out`` and then swapped in, so a killed render leaves the old site, and
two renders into one folder follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.output_folder import replacing
from segbench.core.paths import Input
from segbench.report.clean import Cleaner
from segbench.report.pages.write import write_pages
from segbench.report.paths import stays_inside
from segbench.report.site import Site
from segbench.report.table_checks import check_table

SCHEMA = 1
GALLERY_IMAGES = 24


def render_report(
    table_json: Path,
    out: Path,
    *,
    results: Path | None = None,
    gallery_images: int | None = None,
    tolerance: float = 0.0,
) -> Path:
    """Render the report of a table; the same inputs give the same bytes.

    Args:
        table_json: What ``segbench collect`` wrote.
        out: Folder of the site; an older site there is replaced whole, anything else refused.
        results: Folder the table's paths are relative to; None takes the table's folder,
            never the one that the table names: it may come from somebody else.
        gallery_images: Images of each run, worst first; None takes what the table says.
        tolerance: Fraction by which two scores may differ and still tie.

    Returns:
        The path of ``index.html``.

    Raises:
        DataError: The table is missing, broken, of another schema, or names files outside of
            the results folder.
        ConfigError: ``out`` holds something else (``segbench.core.output_folder``).
    """
    table = _read_table(Path(table_json))
    check_table(Path(table_json), table)
    out = Path(out)
    stated = int(table.get("gallery_images", GALLERY_IMAGES))
    limit = stated if gallery_images is None else gallery_images
    root = Path(table_json).parent if results is None else Path(results)
    cleaner = Cleaner.of_this_machine([root, *_stated(table)])
    inputs = (Input(Path(table_json), "TABLE"), Input(root, "results folder", may_hold=True))
    with replacing(out, "report", inputs=inputs) as building:
        write_pages(Site(_clean(table, cleaner), root, building, limit, tolerance, cleaner))
    return out / "index.html"


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        found = table.get("schema") if isinstance(table, dict) else type(table).__name__
        raise DataError(
            f"{path}: expected a table of schema {SCHEMA}, found {found}",
            fix="run `segbench collect` with this version of segbench",
        )
    return table


def _stated(table: Mapping[str, Any]) -> list[Path]:
    """Return the results folder that a table names; it may be of another machine."""
    name = table.get("results")
    return [Path(name)] if isinstance(name, str) and name and "\0" not in name else []


def _clean(table: Mapping[str, Any], cleaner: Cleaner) -> dict[str, Any]:
    """Return the table as the site shows it; commands on pages name its results folder."""
    name = table.get("results", "results")
    return {**cleaner.value(dict(table)), "results": name if stays_inside(name) else "RESULTS"}
