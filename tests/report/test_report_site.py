import json
import re
import shlex
import statistics
import subprocess
import sys
import urllib.parse
from html import escape, unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from segbench.cli import cli
from segbench.core.errors import DataError
from segbench.evaluation.counts import load_counts
from segbench.evaluation.metrics import SCORES
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from segbench.report import render as html
from segbench.report.pictures import colors as overlay
from segbench.report.render import render_report
from segbench.report.runs import confusion_of, run_slug
from tests.report.fabricated_results import COMMIT, DOUBT, HOSTILE, LOG_LINES


class Reader(HTMLParser):
    """Collects links, ids and the rows of every table of a page."""

    def __init__(self):
        super().__init__()
        self.links, self.ids, self.tables, self.scripts = [], set(), {}, 0
        self._row = self._cell = self._table = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[k] for k in ("href", "src") if k in attrs]
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        self.scripts += tag == "script"
        if tag == "table":
            self._table = self.tables.setdefault(attrs.get("id", len(self.tables)), [])
        if tag == "tr" and self._table is not None:
            self._row = []
            self._table.append(self._row)
        if tag in ("td", "th") and self._row is not None:
            self._cell = {"text": "", **attrs}
            self._row.append(self._cell)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None
        if tag == "table":
            self._table = self._row = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell["text"] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


@pytest.fixture(scope="session")
def table(results):
    return json.loads((results / "table.json").read_text(encoding="utf-8"))


def table_of(tmp_path, cells, **changes):
    """Write a table without any other file and return its path."""
    content = {
        "schema": 1,
        "title": "t",
        "results": "",
        "datasets": {},
        "models": {},
        "cells": cells,
    }
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_every_displayed_score_is_the_mean_of_its_records(site, table):
    page = read(site / "index.html")
    checked = 0
    for task in ("semantic", "instance", "panoptic"):
        name = {"semantic": "semantic-pooled"}.get(
            task, f"coco-{task}".replace("instance", "instances")
        )
        lines = page.tables[f"t-shapes__{task}__{name}"]
        keys = [cell["data-key"] for cell in lines[1]]
        for line in lines[2:]:
            shown = dict(zip(keys, line, strict=True))
            records = [
                c["record"] for c in table["cells"]
                if c["record"] and c["task"] == task and c["dataset"] == "shapes"
                and c["display_name"].lower() == shown["model"]["data-v"]
            ]  # fmt: skip
            for metric in (m for m in SCORES[task] if m.key in keys):
                stored = [r["scores"][metric.key] for r in records]
                stored = [v for v in stored if v is not None]
                if not stored:
                    assert "data-v" not in shown[metric.key]
                    continue
                mean = statistics.fmean(stored)
                assert float(shown[metric.key]["data-v"]) == pytest.approx(mean, abs=1e-12)
                assert shown[metric.key]["text"].strip().startswith(f"{100 * mean:.1f}")
                checked += 1
    assert checked > 80


def test_run_pages_show_the_numbers_of_their_record(site, table):
    for cell in (
        c for c in table["cells"] if c["record"] and c["experiment"] in ("fcn", "panoptic_fpn")
    ):
        page = read(site / f"runs/shapes__{cell['experiment']}__seed{cell['seed']}.html")
        scores = {
            c["data-key"]: c["text"]
            for t in page.tables.values()
            for row in t
            for c in row
            if "data-key" in c
        }
        for metric in SCORES[cell["task"]]:
            assert scores[metric.key] == metric.text(cell["record"]["scores"][metric.key])
        copy = site / f"runs/shapes__{cell['experiment']}__seed{cell['seed']}-{cell['task']}.json"
        assert json.loads(copy.read_text(encoding="utf-8")) == cell["record"]


def test_boards_with_boundary_scores_say_how_they_are_computed(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    for rule in ("Boundary F: per image and class", "Boundary AP is COCO", "Boundary PQ is PQ"):
        assert rule in page


@pytest.mark.fault(28)
def test_every_link_is_relative_and_leads_somewhere(site):
    pages = {path: read(path) for path in site.rglob("*.html")}
    assert len(pages) > 30
    for path, page in pages.items():
        for link in page.links:
            if link.startswith("data:"):
                continue
            target, _, anchor = link.partition("#")
            assert "://" not in target and not target.startswith("/")
            found = (path.parent / urllib.parse.unquote(target)).resolve() if target else path
            assert found.is_file(), (path.name, link)
            if anchor and found in pages:
                assert anchor in pages[found].ids, (path.name, link)


def test_rows_that_are_no_deep_networks_say_so(site):
    """The made-up results call the U-Net a classical method."""
    board = (site / "index.html").read_text(encoding="utf-8")
    rows = [row for row in board.split("<tr") if "classical, not a deep network" in row]
    assert len(rows) == 1 and ">U-Net</a>" in rows[0]
    for name, told in (("unet", True), ("fcn", False), ("oracle", False)):
        (page,) = (site / "runs").glob(f"*__{name}__seed0.html")
        said = "A classical method, not a deep network" in page.read_text(encoding="utf-8")
        assert said == told


@pytest.mark.fault(28)
def test_hostile_names_stay_text(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script>alert" not in text and "<img src=x" not in text and "<b>bold" not in text
        assert text.count("</script>") == read(path).scripts
    index = read(site / "index.html")
    names = [row[1]["text"] for t in index.tables.values() for row in t if len(row) > 5]
    assert any(HOSTILE in name for name in names)


@pytest.mark.fault(23)
def test_failed_and_not_run_cells_give_reason_and_log(site):
    rows = read(site / "index.html").tables["t-shapes__semantic__semantic-pooled"]
    texts = [" ".join(" ".join(cell["text"] for cell in row).split()) for row in rows]
    broken = next(t for t in texts if "Broken net" in t)
    assert "failed the loss is not finite at iteration 12 log" in broken
    assert "not run no job of this row has started yet" in next(t for t in texts if "Later" in t)
    assert "seed 2: the loss is not finite" in next(t for t in texts if "U-Net" in t)
    page = (site / "runs/shapes__broken__seed0.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;not bold&lt;/b&gt;" in page and "\x1b" not in page


def test_run_pages_show_ap_at_every_iou(site, table):
    cells = [c for c in table["cells"] if c["record"] and c["task"] == "instance"]
    assert cells
    for cell in cells:
        page = (site / f"runs/{run_slug(cell)}.html").read_text(encoding="utf-8")
        block = page.split('<table class="plain ious">')[1].split("</table>")[0]
        shown = re.findall(r'<td class="num">([^<]*)</td>', block)
        keys = [f"{box}ap{percent}" for box in ("", "box_") for percent in range(50, 100, 5)]
        assert shown[:20] == [f"{100 * cell['record']['scores'][key]:.1f}" for key in keys]


def test_run_pages_state_what_made_the_numbers(site):
    page = (site / "runs/shapes__unet__seed1.html").read_text(encoding="utf-8")
    for fact in (COMMIT, "Test CPU &lt;fast&gt;", "1 min 16 s", "crop_size", "48, 64", "a" * 16):
        assert fact in page
    recipe = json.loads((site / "runs/shapes__unet__seed1-recipe.json").read_text(encoding="utf-8"))
    assert recipe["recipe"]["crop_size"] == [48, 64]


def test_logs_are_copied_and_long_ones_cut_to_their_end(results, site, tmp_path, monkeypatch):
    (log,) = (site / "logs/shapes__fcn__seed0").iterdir()
    assert log.suffix == ".txt" and log.read_text().splitlines() == LOG_LINES
    from segbench.report import runs as report_runs

    monkeypatch.setattr(report_runs, "LOG_BYTES", 100)
    path = tmp_path / "long.log"
    path.write_bytes(b"a" * 500 + b"\xff\nend")
    found = report_runs.read_log(path, "long", "x")
    assert found.cut and len(found.text) <= 100 and found.text.endswith("end")
    assert report_runs.read_log(tmp_path / "none", "none", "x") is None


def test_galleries_show_the_worst_images_first(results, site):
    page = (site / "gallery/shapes__fcn__seed0-semantic.html").read_text(encoding="utf-8")
    shown = [float(part.split('"')[0]) for part in page.split('data-score="')[1:]]
    counts = load_counts(results / "shapes/fcn/seed0/evaluation/val/semantic/counts.npz")
    from segbench.evaluation.counts import image_scores

    expected = sorted(image_scores(counts).values())[: len(shown)]
    assert len(shown) == 6 and shown == [round(100 * v, 1) for v in expected]


def test_label_maps_of_the_site_are_exact_evidence(results, site):
    data = PreparedDataset.open(results / "data/shapes")
    layer = np.asarray(
        Image.open(site / "media/shapes__fcn__seed0/semantic/scene_5.webp").convert("RGBA")
    )
    labels = read_label_map(results / "shapes/fcn/seed0/predictions/val/semantic/scene_5.png")
    assert np.array_equal(layer, overlay.label_rgba(labels, table=data.table))
    error = np.asarray(Image.open(site / "media/shapes__fcn__seed0/semantic/scene_5-error.webp"))
    truth = read_label_map(data.root / "semantic/val/scene_5.png")
    wrong = (error[..., :3] == overlay.WRONG).all(axis=-1)
    assert np.array_equal(wrong, truth != labels)


def test_photographs_are_stored_once_per_dataset(site):
    photos = list((site / "media").rglob("photo/*.webp"))
    assert (
        len({p.name for p in photos}) == len([p for p in photos if "/shapes/" in p.as_posix()]) == 8
    )


def test_confusion_shares_are_the_rows_of_the_counts():
    matrix = np.array([[8, 2, 0], [0, 0, 0], [7, 7, 7]])
    categories = [{"name": "a", "color": (1, 2, 3)}, {"name": "b", "color": (4, 5, 6)}]
    shown = confusion_of(matrix, categories)
    assert not shown.void_column and shown.shares.tolist() == [[0.8, 0.2], [0, 0]]
    assert shown.worst() == [{"truth": "a", "prediction": "b", "share": 0.2, "pixels": 2}]
    matrix[1, 2] = 5
    assert confusion_of(matrix, categories).shares.tolist() == [[0.8, 0.2, 0], [0, 0, 1]]


def test_the_same_inputs_give_the_same_bytes(results, site, tmp_path):
    again = tmp_path / "again"
    render_report(results / "table.json", again)
    files = sorted(p.relative_to(site) for p in site.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert [f for f in files if (site / f).read_bytes() != (again / f).read_bytes()] == []


@pytest.mark.fault(29)
def test_a_render_that_dies_leaves_the_old_site_whole(tmp_path, monkeypatch):
    table, out = table_of(tmp_path, []), tmp_path / "report"
    index = render_report(table, out)
    before = index.read_bytes()

    def die(site):
        site.assets()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(html, "write_pages", die)
        render_report(table, out)
    assert index.read_bytes() == before
    render_report(table_of(tmp_path, [], title="new"), out)
    assert b"new" in index.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report", "table.json"]


@pytest.mark.fault(29)
def test_a_swap_cut_between_its_renames_is_repaired(tmp_path, monkeypatch):
    table, out = table_of(tmp_path, []), tmp_path / "report"
    render_report(table, out)
    out.rename(tmp_path / ".report.old")
    monkeypatch.setattr(html, "write_pages", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        render_report(table, out)
    assert (out / "index.html").is_file()


@pytest.mark.fault(28)
def test_an_empty_table_explains_what_to_do(tmp_path):
    page = render_report(table_of(tmp_path, []), tmp_path / "out").read_text(encoding="utf-8")
    assert "Nothing has been run yet" in page and "snakemake" in page


@pytest.mark.fault(28)
def test_records_alone_make_a_report(table, tmp_path):
    cells = [c for c in table["cells"] if c["experiment"] == "panoptic_fpn"]
    out = render_report(table_of(tmp_path, cells), tmp_path / "out").parent
    assert len(list((out / "runs").glob("*.html"))) == 1
    assert "has not been prepared yet" in (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "media").exists()


def test_a_dataset_that_could_not_be_prepared_makes_a_page(table, tmp_path):
    """All its rows failed: the page must still say so."""
    cell = next(c for c in table["cells"] if c["experiment"] == "broken")
    path = table_of(tmp_path, [{**cell, "logs": []}], datasets={cell["dataset"]: None})
    render_report(path, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "this dataset has not been prepared yet" in page
    assert "Broken net" in page


def test_galleries_can_be_switched_off(results, tmp_path):
    out = render_report(results / "table.json", tmp_path / "out", gallery_images=0).parent
    assert not (out / "media").exists() and not (out / "compare").exists()


def test_a_table_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        render_report(tmp_path / "none.json", tmp_path / "out")
    with pytest.raises(DataError, match="schema 1, found 9"):
        render_report(table_of(tmp_path, [], schema=9), tmp_path / "out")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="found list"):
        render_report(tmp_path / "list.json", tmp_path / "out")


def test_the_report_needs_no_torch():
    code = "import sys, segbench.report.render; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


INSTANCE = "shapes__instance__coco-instances"


def test_measured_ties_and_intervals_are_on_the_index(site, table):
    page = read(site / "index.html")
    rows = {row[1]["data-v"]: row for row in page.tables[f"t-{INSTANCE}"] if "data-v" in row[1]}
    ranks = {name: (row[0].get("data-v"), row[0]["text"]) for name, row in rows.items()}
    assert ranks["fcos"] == ("3", "3")
    for name in ("mask r-cnn", "panoptic fpn"):
        assert ranks[name] == ("1", "1= (tied) may be rank 1– to 2")
        assert rows[name][0]["title"] == "rank 1 to 2"
    (record,) = (c["record"] for c in table["cells"] if c["experiment"] == "fcos")
    found = record["intervals"]["ap"]
    low, high = (f"{100 * found[end]:.1f}" for end in ("low", "high"))
    score = f"{100 * record['scores']['ap']:.1f}"
    shown = rows["fcos"][2]["text"].replace("\N{NO-BREAK SPACE}", " ")
    assert shown == f"{score} 95 % interval [{low}, {high}] (second)"
    text = " ".join((site / "index.html").read_text(encoding="utf-8").split())
    assert text.count("(family-wise 95 %, paired bootstrap over images)") == 1
    assert text.count("Rows tie (=) when they show the same number") == 3


def test_the_run_page_says_the_interval_in_words(site, table):
    (record,) = (c["record"] for c in table["cells"] if c["experiment"] == "fcos")
    low, high = (f"{100 * record['intervals']['ap'][end]:.1f}" for end in ("low", "high"))
    page = (site / "runs/shapes__fcos__seed0.html").read_text(encoding="utf-8")
    assert f"interval of AP: {low} to {high}" in page
    assert "(BCa bootstrap over the 8 images, 1,000 resamples)" in page
    assert "interval of" not in (site / "runs/shapes__fcn__seed0.html").read_text(encoding="utf-8")


def test_the_run_page_says_why_tools_disagree(results, site, table):
    """``shapes`` has a class that is neither true nor predicted: rules differ by it."""
    cell = next(c for c in table["cells"] if c["experiment"] == "fcn" and c["seed"] == 0)
    page = (site / "runs" / "shapes__fcn__seed0.html").read_text(encoding="utf-8")
    part = page[page.index('<details class="rules">') :]
    rows = next(
        rows
        for rows in read(site / "runs" / "shapes__fcn__seed0.html").tables.values()
        if "Differs from this board's rule in" in rows[0][-1]["text"]
    )
    by_rule = {row[0]["text"].split("also ")[0]: [c["text"] for c in row[1:]] for row in rows[1:]}
    assert next(iter(by_rule)) == "semantic-pooled"
    stored = {row["rule"]: row["miou"] for row in cell["record"]["rules"]["rows"]}
    own = cell["record"]["scores"]["miou"]
    assert by_rule["semantic-pooled"][:2] == [f"{100 * own:.2f}", ""]
    zero = by_rule["ade20k-rule"]
    assert zero[:2] == [f"{500 * own / 6:.2f}", f"{100 * (stored['ade20k-rule'] - own):+.2f}"]
    assert zero[3:] == ["6", "absent classes count 0"]
    assert by_rule["torchvision"][0] == "n/a"
    low, high = (f(v for v in stored.values() if v is not None) for f in (min, max))
    assert f"These predictions score {100 * low:.2f} to {100 * high:.2f} mIoU" in part
    assert "1 classes (never seen) are neither true nor predicted" in part
    command = part[part.index('<code class="command">') :].split(">", 1)[1].split("<", 1)[0]
    assert str(results) not in part  # the table names an absolute folder
    words = shlex.split(unescape(command).replace("RESULTS/", f"{results}/"))
    said = CliRunner().invoke(cli, [*words[1:], "--json"])
    assert words[0] == "segbench"
    found = json.loads(said.stdout)
    assert {row["rule"]: row["miou"] for row in found["rules"]} == stored
    assert found["causes"][1:] == cell["record"]["rules"]["causes"][1:]


def test_only_semantic_records_have_other_rules(site):
    page = (site / "runs" / "shapes__mask_rcnn__seed0.html").read_text(encoding="utf-8")
    assert "Why do tools disagree" not in page


def test_doubts_stand_beside_the_score(site):
    page = (site / "runs" / "shapes__twin_a__seed0.html").read_text(encoding="utf-8")
    assert f"<li>{escape(DOUBT)}</li>" in page
    page = (site / "runs" / "shapes__fcn__seed0.html").read_text(encoding="utf-8")
    assert "Something looks wrong" not in page
