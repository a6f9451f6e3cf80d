"""The page of a dataset says what its files hold, whatever its names are."""

import html as escaping
import json

import numpy as np
import pytest

from segbench.evaluation.protocol import get_protocol
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from segbench.report.pages.dataset import SAMPLES, class_table, share_text, split_rows
from segbench.report.pictures.galleries import evenly
from segbench.report.render import render_report
from tests.report.fabricated_results import HOSTILE, STEMS
from tests.report.test_report_site import read, table_of

PAGE = "datasets/shapes.html"


@pytest.fixture(scope="module")
def prepared(results):
    return PreparedDataset.open(results / "data/shapes")


def cells(page):
    """Return the class table of a page as rows of texts."""
    return [[cell["text"].strip() for cell in row] for row in page.tables[1]]


def test_every_class_has_its_pixels_and_shares_most_first(site, prepared):
    histogram = prepared.description["class_histogram"]
    train, val = (np.array(histogram[split]["pixels"]) for split in ("train", "val"))
    rows = cells(read(site / PAGE))[2:]
    assert len(rows) == len(prepared.table)
    names = [row[1].removesuffix(" thing").removesuffix(" stuff") for row in rows]
    order = [prepared.table.names.index(name) for name in names]
    assert order == sorted(order, key=lambda i: (-(train + val)[i], i))
    for row, i in zip(rows, order, strict=True):
        found = [int(text.replace(",", "")) for text in (row[3], row[5], row[7])]
        assert found == [train[i] + val[i], train[i], val[i]]
        assert row[6] == (share_text(val[i] / val.sum()) if val[i] else "none")
        assert row[8:] == [str(i), str(prepared.table.categories[i].id)]


def test_shares_say_something_at_any_size():
    assert [share_text(s) for s in (1, 0.5, 0.0123, 0.0001, 1e-9, 0)] == [
        "100.0 %", "50.0 %", "1.23 %", "0.01 %", "<0.01 %", "0.0 %",
    ]  # fmt: skip


def test_splits_are_compared_with_the_official_ones(site, prepared):
    text = (site / PAGE).read_text(encoding="utf-8")
    rows = {row.name: row for row in split_rows(prepared.description)}
    assert [*rows] == ["train", "val", "test"]
    assert (rows["train"].found, rows["train"].official, rows["train"].skipped) == (1, 4, 1)
    assert rows["train"].differs and not rows["val"].differs and rows["test"].found == 0
    assert text.count("not the official split") == 1 and text.count("not here") == 1
    assert "1 image was left out because it cannot be used" in text
    assert f"train/{escaping.escape('<b>bold & co')}</b>: {escaping.escape(HOSTILE)[:20]}" in text


def test_samples_are_the_same_few_each_with_its_own_classes(site, prepared):
    records = prepared.images("val")
    chosen = [records[i] for i in evenly(len(records), SAMPLES)]
    text = (site / PAGE).read_text(encoding="utf-8")
    samples = text.split('<ol class="gallery samples">')[1].split("</ol>")[0].split("<li>\n")[1:]
    assert len(samples) == len(chosen) == SAMPLES < len(STEMS)
    for sample, record in zip(samples, chosen, strict=True):
        shown = sample.replace("&#34;", '"')
        assert escaping.escape(record.stem, quote=False) in shown
        for task in prepared.tasks:
            assert f"truth-{task}/" in sample
        numbers = np.unique(read_label_map(record.semantic))
        expected = [prepared.table.names[i] for i in numbers if i < len(prepared.table)]
        legend = sample.split('<ul class="palette">')[1]
        names = [item.split("</li>")[0] for item in legend.split("</span>")[1:]]
        assert [escaping.unescape(name) for name in names] == expected


def test_positions_are_evenly_spaced():
    assert evenly(8, 6) == [0, 2, 3, 4, 6, 7]
    assert evenly(3, 6) == [0, 1, 2] and evenly(0, 6) == [] and evenly(1000, 2) == [250, 750]


def test_rules_and_origin_are_there_in_full(site, prepared):
    text = escaping.unescape((site / PAGE).read_text(encoding="utf-8"))
    for task, name in prepared.description["protocols"].items():
        protocol = get_protocol(name, task=task)
        assert protocol.rule in text and protocol.source in text and protocol.title in text
    for word in ("CC0", "https://example.org/<data>", "small & <b>fast</b>", prepared.digest):
        assert word in text


def test_boards_and_runs_link_the_page(site):
    assert PAGE in read(site / "index.html").links
    assert f"../{PAGE}" in read(site / "runs/shapes__fcn__seed0.html").links
    assert f"../{PAGE}" not in read(site / PAGE).links


def wide(count):
    categories = [
        {"id": i + 1, "name": f"{HOSTILE} {i}", "isthing": i % 2 == 0, "color": [i, 9, 200]}
        for i in range(count)
    ]
    pixels = {s: {"pixels": [i * i for i in range(count)], "ignored": 5} for s in "abc"}
    return {
        "name": "wide", "display_name": HOSTILE, "categories": categories, "tasks": ["semantic"],
        "protocols": {"semantic": "gone-1"}, "splits": {"a": 1, "b": 1, "c": 1},
        "class_histogram": pixels, "licence": HOSTILE,
    }  # fmt: skip


def not_run(dataset):
    return {
        "dataset": dataset, "experiment": "e", "seed": 0, "task": "semantic", "split": "a",
        "kind": "trained", "model": None, "display_name": "e", "status": "not_run",
        "reason": "later", "run_folder": "x", "logs": [], "record": None, "profile": None,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 171])
def test_any_number_of_classes_with_any_name_and_no_files(tmp_path, count):
    table = table_of(tmp_path, [not_run("wide")], datasets={"wide": wide(count)})
    render_report(table, tmp_path / "site")
    page = read(tmp_path / "site/datasets/wide.html")
    rows = page.tables[1][2:]
    assert len(rows) == count
    assert rows[0][1]["text"].startswith(f"{HOSTILE} {count - 1}")
    text = (tmp_path / "site/datasets/wide.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and text.count("</script>") == page.scripts
    assert text.count("<") - text.count("</") < 4500, "the page stays light"
    assert "This protocol is not known" in text
    assert "1 class has no pixel in a." in text


def test_a_dataset_without_counts_or_not_prepared(tmp_path):
    bare = {key: value for key, value in wide(3).items() if key != "class_histogram"}
    cells = [not_run("wide"), not_run("absent")]
    render_report(table_of(tmp_path, cells, datasets={"wide": bare}), tmp_path / "site")
    text = (tmp_path / "site/datasets/wide.html").read_text(encoding="utf-8")
    assert "Pixels were not counted" in text
    assert class_table(bare).columns == ()
    assert not (tmp_path / "site/datasets/absent.html").exists()
    assert "datasets/absent" not in (tmp_path / "site/index.html").read_text(encoding="utf-8")


def test_galleries_off_shows_no_image(results, tmp_path):
    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    table["results"] = str(results)
    (tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    render_report(tmp_path / "table.json", tmp_path / "site", gallery_images=0)
    assert "<figure" not in (tmp_path / f"site/{PAGE}").read_text(encoding="utf-8")
