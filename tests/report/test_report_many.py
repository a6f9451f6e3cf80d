"""A report of one row and of five hundred, whatever the rows are called."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import pytest

from segbench.report.render import render_report
from tests.report.fabricated_results import HOSTILE, cell_named
from tests.report.test_report_site import read

NAMES = (HOSTILE, "a b", "Ünï 日本", "'\"&<>", "../../etc", "x" * 300, "%00%2e", "#?&=", ".", "")


@pytest.mark.fault(28)
@pytest.mark.parametrize("rows", [1, 500])
def test_any_number_of_rows_with_any_name(results: Path, tmp_path: Path, rows: int) -> None:
    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    scored = next(c for c in table["cells"] if c["experiment"] == "fcn")
    bare = {**scored, "logs": [], "run_folder": "none"}
    table["cells"] = [
        cell_named(bare, f"net {i} {NAMES[i % len(NAMES)]}", f"{NAMES[i % len(NAMES)]} {i}")
        for i in range(rows)
    ]
    (tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    site = render_report(tmp_path / "table.json", tmp_path / "site").parent
    assert len(list((site / "runs").glob("*.html"))) == rows
    shown = [len(found) for name, found in read(site / "index.html").tables.items() if name]
    assert max(shown) >= rows + 1
    for path in site.rglob("*.html"):
        page = read(path)
        assert "<script>alert" not in path.read_text(encoding="utf-8")
        for link in page.links:
            target = urllib.parse.unquote(link.partition("#")[0])
            if target and not link.startswith("data:"):
                assert (path.parent / target).exists(), (path, link)
    assert {path.name for path in tmp_path.iterdir()} == {"table.json", "site"}
