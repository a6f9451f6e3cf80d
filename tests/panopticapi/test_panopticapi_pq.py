"""The drop-in's scores and errors: stored figures of the original, and what it puts right."""

from __future__ import annotations

import copy
import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.panopticapi import evalPanopticSemanticLabeling, evaluation, utils
from segbench.panopticapi._support import split
from tests.panopticapi.panoptic_cases import BY_ID, CATEGORIES, pair

ORIGINAL = {
    1: ("0x1.0924924924924p+1", 3, 3, 0),
    90: ("0x1.2ad045afd2e3cp+2", 6, 0, 0),
    200: ("0x1.120d20d20d20dp+1", 3, 0, 0),
    5: ("0x0.0p+0", 0, 3, 0),
}
"""Sum of IoU, TP, FP, FN by category as the original counts them."""
ORIGINAL_TABLE = """\
          |    PQ     SQ     RQ     N
--------------------------------------
All       |  48.8   54.6   66.7     4
Things    |  23.0   34.5   33.3     2
Stuff     |  74.6   74.6  100.0     2
"""


@pytest.fixture
def files(tmp_path):
    return pair(tmp_path)


def matched(files):
    truth, prediction = (json.loads(path.read_text())["annotations"] for path in files)
    return list(zip(truth, prediction, strict=True))


def folders(files):
    return [str(path.with_suffix("")) for path in files]


def figures(stat):
    found = stat.pq_per_cat.items()
    return {label: (s.iou.hex(), s.tp, s.fp, s.fn) for label, s in found}


@pytest.mark.fault(17)
def test_strict_compat_gives_the_original_figures_to_the_last_bit(files):
    stat = evaluation.pq_compute_single_core(
        0, matched(files), *folders(files), BY_ID, strict_compat=True
    )
    assert figures(stat) == ORIGINAL


def test_strict_compat_prints_the_original_table(files, capsys):
    results = evaluation.pq_compute(*map(str, files), strict_compat=True)
    assert ORIGINAL_TABLE in capsys.readouterr().out
    assert list(results) == ["All", "per_class", "Things", "Stuff"]
    assert results["All"] == pytest.approx(
        {"pq": 0.4880382487952777, "sq": 0.5455779313349602, "rq": 2 / 3, "n": 4}, abs=1e-15
    )
    assert results["per_class"][5] == {"pq": 0.0, "sq": 0, "rq": 0.0}


def test_the_default_is_the_exact_evaluator(files):
    results = evaluation.pq_compute(*files)
    counts = evaluate_panoptic(
        files[0],
        files[1],
        truth_folder=files[0].with_suffix(""),
        prediction_folder=files[1].with_suffix(""),
    )
    exact = panoptic.scores(counts, get_protocol("coco-panoptic"))
    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        assert results[group] == {key: exact[key + suffix] for key in ("pq", "sq", "rq", "n")}
    # All crowds excuse, and the area of the truth is that of the PNG.
    assert results["per_class"][1]["rq"] == 1.0
    assert results["per_class"][90] == {"pq": 0.0, "sq": 0, "rq": 0.0}


@pytest.mark.parametrize("processors", [1, 2, 3, 5])
def test_sums_do_not_depend_on_the_number_of_processes(files, monkeypatch, processors):
    monkeypatch.setattr("segbench.panopticapi._support._ITEMS_A_PROCESS", 1)
    whole = evaluation.pq_compute_single_core(0, matched(files), *folders(files), BY_ID)
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    parts = evaluation.pq_compute_multi_core(matched(files), *folders(files), BY_ID)
    assert figures(parts) == figures(whole)


def test_strict_compat_adds_the_parts_of_each_processor(files, monkeypatch):
    pairs = matched(files)
    total = evaluation.PQStat()
    for part in (pairs[:2], pairs[2:]):
        total += evaluation.pq_compute_single_core(
            0, part, *folders(files), BY_ID, strict_compat=True
        )
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = evaluation.pq_compute_multi_core(pairs, *folders(files), BY_ID, strict_compat=True)
    assert figures(found) == figures(total)


@pytest.mark.parametrize(("items", "parts"), [(0, 1), (5, 2), (7, 3), (2, 4), (12, 5)])
def test_parts_are_those_of_array_split(items, parts):
    expected = [part.tolist() for part in np.array_split(np.arange(items), parts)]
    assert [list(part) for part in split(range(items), parts)] == expected


@pytest.mark.fault(17)
def test_a_group_without_segments(files):
    things = {1: BY_ID[1]}
    stat = evaluation.PQStat()
    stat[1].tp, stat[1].iou = 1, 0.75
    with pytest.raises(ZeroDivisionError):
        stat.pq_average(things, False, strict_compat=True)
    with pytest.warns(UserWarning, match="Stuff: no category has a segment"):
        means, per_class = stat.pq_average(things, False)
    assert (means, per_class) == ({"pq": None, "sq": None, "rq": None, "n": 0}, {})
    assert stat.pq_average(things, True) == (
        {"pq": 0.75, "sq": 0.75, "rq": 1.0, "n": 1},
        {1: {"pq": 0.75, "sq": 0.75, "rq": 1.0}},
    )


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first(content):
    return content["annotations"][0]["segments_info"]


def grey(folder):
    Image.fromarray(np.zeros((24, 32), dtype=np.uint8)).save(folder / "0.png")


def small(folder):
    Image.fromarray(np.zeros((3, 4, 3), dtype=np.uint8)).save(folder / "0.png")


def test_a_quality_above_one_is_said(files):
    """The areas of the truth decide under ``strict_compat``; here one category's are 1."""

    def change(content):
        for segment in (s for a in content["annotations"] for s in a["segments_info"]):
            segment["area"] = 1 if segment["category_id"] == 90 else segment["area"]

    evaluation.pq_compute(*files, strict_compat=True)
    edit(files[0], change)
    with pytest.warns(UserWarning, match=r"SQ is above 100 % in 1 categories, first 90 \("):
        found = evaluation.pq_compute(*files, strict_compat=True)
    assert found["per_class"][90]["sq"] > 1
    assert evaluation.pq_compute(*files)["per_class"][90]["sq"] <= 1


FAULTS = {
    "PNG not JSON": (1, lambda c: first(c).pop(0), KeyError, "image 0: segment 7 is in the"),
    "JSON not PNG": (1, lambda c: first(c).append({"id": 9, "category_id": 1}), KeyError,
                     "image 0: the segments [9] are in the predicted JSON"),
    "unknown category": (1, lambda c: first(c)[0].update(category_id=66), KeyError,
                         "image 0: segment 7 has the unknown category_id 66"),
    "no iscrowd": (0, lambda c: first(c)[0].pop("iscrowd"), KeyError, "iscrowd"),
    "missing": (1, lambda c: c["annotations"].pop(1), DataError,
                "no prediction for the image with id: 1"),
}  # fmt: skip


@pytest.mark.parametrize("strict_compat", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.fault(17)
def test_errors_have_the_original_types(files, fault, strict_compat):
    which, change, kind, words = FAULTS[fault]
    edit(files[which], change)
    with pytest.raises(kind) as caught:
        evaluation.pq_compute(*files, strict_compat=strict_compat)
    assert words in str(caught.value)


@pytest.mark.parametrize(("break_png", "words"), [(grey, "RGB panoptic PNG"), (small, "3x4")])
def test_broken_pngs_are_named(files, break_png, words):
    break_png(files[1].with_suffix(""))
    with pytest.raises(DataError, match=words):
        evaluation.pq_compute(*files)


@pytest.mark.parametrize(("which", "side"), [(0, "ground truth"), (1, "predicted")])
def test_a_missing_folder_is_named(files, which, side):
    places = [None, None]
    places[which] = "/nowhere/at/all"
    with pytest.raises(Exception, match=f"/nowhere/at/all with {side}"):
        evaluation.pq_compute(*files, *places)


@pytest.mark.fault(17)
def test_an_image_predicted_twice(files):
    edit(files[1], lambda c: c["annotations"].append(copy.deepcopy(c["annotations"][0])))
    evaluation.pq_compute(*files, strict_compat=True)
    with pytest.raises(DataError, match=r"1 images are predicted twice, first ids \[0\]"):
        evaluation.pq_compute(*files)


def command(monkeypatch, module, *options):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, options)])
    module.main()


def test_the_command_line(files, monkeypatch, capsys):
    options = ["--gt_json_file", files[0], "--pred_json_file", files[1], "--strict-compat"]
    command(monkeypatch, evaluation, *options)
    assert ORIGINAL_TABLE in capsys.readouterr().out


def test_a_mistake_on_the_command_line_is_one_message(files, monkeypatch, capsys):
    options = ["--gt_json_file", files[0], "--pred_json_file", files[1], "--gt_folder", "no"]
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, evaluation, *options)
    assert stopped.value.code == 1
    assert "error: there is no folder no with ground truth" in capsys.readouterr().err


FORMS = {
    "list": (0, lambda c: c["annotations"], "expected an object with a list 'annotations'"),
    "null": (1, lambda c: None, "expected an object with a list 'annotations'"),
    "numbers": (1, lambda c: {"annotations": [1]}, "1 entries that are none, first 1"),
    "no file name": (1, lambda c: c["annotations"][0].pop("file_name") and c, "no file_name"),
    "segments": (0, lambda c: c["annotations"][0].update(segments_info=3) or c, "found int"),
    "no categories": (0, lambda c: c.pop("categories") and c, "objects for the categories"),
    "no isthing": (0, lambda c: c["categories"][0].pop("isthing") and c, "[0] no isthing"),
}


@pytest.mark.parametrize("form", FORMS)
def test_json_of_another_form_is_one_message(files, form, monkeypatch, capsys):
    which, change, words = FORMS[form]
    files[which].write_text(json.dumps(change(json.loads(files[which].read_text()))))
    options = ["--gt_json_file", files[0], "--pred_json_file", files[1]]
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, evaluation, *options)
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert words in printed
    assert str(files[which]) in printed


def test_cityscapes_fork_writes_results_and_a_row_a_class(files, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results.json"
    options = ["--gt-json-file", files[0], "--prediction-json-file", files[1]]
    command(monkeypatch, evalPanopticSemanticLabeling, *options, "--results_file", results)
    found = json.loads(results.read_text())
    assert found["All"]["n"] == 4
    assert results.read_text().startswith('{\n    "All": {\n        "n": 4,\n')
    assert found["per_class"]["1"]["rq"] == 1.0
    out = capsys.readouterr().out
    assert [line.split("|")[0].strip() for line in out.splitlines()[1:5]] == [
        category["name"] for category in CATEGORIES
    ]


def test_the_command_of_panopticapis_file_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["2channels2panoptic_coco_format", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(
            "segbench.panopticapi.converters.2channels2panoptic_coco_format", run_name="__main__"
        )
    assert stopped.value.code == 0
    assert "--source_folder" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
def test_colours_and_ids_of_any_type(dtype):
    color = np.array([[[255, 255, 255], [0, 1, 2]]]).astype(dtype)
    ids = utils.rgb2id(color)
    assert ids.tolist() == [[2**24 - 1, 256 + 2 * 65536]]
    assert ids.dtype == (np.int32 if color.dtype.itemsize < 4 else dtype)
    assert utils.id2rgb(ids).tolist() == color.tolist()
    assert utils.id2rgb(ids).dtype == np.uint8
    assert utils.rgb2id(color[0, 0]) == 2**24 - 1
    assert type(utils.rgb2id(color[0, 0])) is int
    assert utils.id2rgb(utils.rgb2id([7, 8, 9])) == [7, 8, 9]


def test_ids_are_near_their_category_and_never_repeat():
    generator = utils.IdGenerator(BY_ID)
    ids = [generator.get_id_and_color(1) for _ in range(500)]
    assert ids[0] == (utils.rgb2id([220, 20, 60]), (220, 20, 60))
    assert len({segment_id for segment_id, _ in ids}) == 500
    distance = np.abs(np.array([color for _, color in ids]) - [220, 20, 60])
    assert distance.max() <= 30
    assert generator.get_color(90) == [0, 90, 250]
    assert utils.IdGenerator(BY_ID).get_id(5) == utils.rgb2id([10, 200, 30])
    again = utils.IdGenerator(BY_ID)
    assert [again.get_id(1) for _ in range(500)] == [segment_id for segment_id, _ in ids]


def test_ids_run_out_of_near_colours_without_an_endless_loop():
    generator = utils.IdGenerator({1: {"isthing": 1, "color": [0, 0, 0]}})
    generator.taken_colors |= {(r, g, b) for r in range(31) for g in range(31) for b in range(31)}
    assert generator.get_color(1) == (31, 0, 0)


def test_strict_ids_come_from_the_global_generator():
    def ids(seed):
        np.random.seed(seed)
        generator = utils.IdGenerator(BY_ID, strict_compat=True)
        return [generator.get_id(1) for _ in range(5)]

    assert ids(1) == ids(1) != ids(2)


def test_get_traceback_prints_and_raises(capsys):
    @utils.get_traceback
    def broken():
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        broken()
    assert "Traceback" in capsys.readouterr().err
    assert broken.__name__ == "broken"


def test_json_of_numpy_numbers(tmp_path):
    value = {"a": np.int64(3), "b": np.array([1.5])}
    utils.save_json(value, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 3, "b": [1.5]}
    with pytest.raises(TypeError):
        utils.save_json(value, str(tmp_path / "y.json"), strict_compat=True)
