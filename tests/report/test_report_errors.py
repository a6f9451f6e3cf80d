"""The run page of an instance row says where its AP50 is lost."""

from __future__ import annotations

import json

import pytest

from segbench.report.error_table import error_table


@pytest.fixture(scope="module")
def cell(results):
    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    return next(c for c in table["cells"] if c["experiment"] == "fcos")


def test_the_table_holds_what_the_record_holds(cell):
    errors, found = cell["record"]["errors"], error_table(cell)
    assert found.shapes == ("Masks", "Boxes")
    assert [label for label, _, _ in found.rows][:3] == ["Wrong class", "Wrong place", "Both wrong"]
    keys = ("classification", "localisation", "both", "duplicate", "background", "missed",
            "false_positive", "false_negative")  # fmt: skip
    assert sum(errors["segm"]["counts"].values()) > 0
    for key, (_, _, gains) in zip(keys, found.rows, strict=True):
        for shape, gain in zip(("segm", "bbox"), gains, strict=True):
            assert gain.text == f"{100 * errors[shape]['dap50'][key]:.1f}"
            assert gain.count == errors[shape]["counts"].get(key)
            assert 0 <= gain.share <= 1


def test_the_page_shows_it(site, cell):
    page = (site / "runs/shapes__fcos__seed0.html").read_text(encoding="utf-8")
    part = page[page.index("<h3>Errors</h3>") :].split("</table>")[0]
    for label, _, gains in error_table(cell).rows:
        row = part[part.index(f">{label}</th>") :].split("</tr>")[0]
        assert row.count('<span class="bar"') == len(gains) == 2
        assert all(f'<span class="v">{gain.text}</span>' in row for gain in gains)


def test_other_pages_do_not(site):
    page = (site / "runs/shapes__fcn__seed0.html").read_text(encoding="utf-8")
    assert "<h3>Errors</h3>" not in page


def test_gains_without_a_value_and_losses_have_no_bar():
    errors = {"segm": {"dap50": {"missed": None, "false_positive": -0.01}, "counts": {}}}
    rows = {label: gains for label, _, gains in error_table({"record": {"errors": errors}}).rows}
    assert [(g.text, g.share, g.count) for g in rows["Missed"]] == [("n/a", 0.0, None)]
    assert [(g.text, g.share) for g in rows["All false positives"]] == [("-1.0", 0.0)]
    assert error_table({"record": {"scores": {}}}) is None
