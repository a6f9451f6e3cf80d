"""Files read at once: what is accepted there is what is accepted entry by entry."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segbench.core.errors import DataError
from segbench.evaluation.instance.average_precision import match, match_files, match_table, scores
from segbench.evaluation.instance.files import load_instances
from segbench.evaluation.instance.items import table_of
from segbench.evaluation.instance.reading import read_table
from segbench.evaluation.protocol import get_protocol

SIZE = (20, 30)
JUNK = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1.0, 1e300, math.nan, math.inf, 2**63, -(2**70)),
    *("", "1", "é", "abc\\", [], {}, [1], [0, 0, 1, 1], [0, 0, -1, 1], [0, 0, 1, 2**70]),
    *([[1, 2, 3, 4, 5, 6]], [[1, 2]], {"size": [20, 30], "counts": [600]}, [600], [1, 599]),
    *({"size": [20, 30], "counts": 600}, [[1, 2, 3, 4, 5, "6"]], "o2"),
)


def rle(rng):
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    y, x = rng.integers(0, 10, 2)
    mask[y : y + 8, x : x + rng.integers(3, 12)] = 1
    found = coco_mask.encode(mask)
    return {"size": list(SIZE), "counts": found["counts"].decode()}, coco_mask.toBbox(found)


def files(rng):
    """Three images; a mask of every form that a truth may have."""
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in (4, 1, 9)]
    annotations, detections = [], []
    forms = (
        lambda mask: mask,
        lambda _: [[2.5, 3, 12, 3, 12, 11.5], [14, 2, 20, 2, 20, 9, 14, 9]],
        lambda _: {"size": list(SIZE), "counts": [45, 100, 455]},
    )
    for number in range(6):
        mask, box = rle(rng)
        where = {"image_id": int(rng.choice([4, 1, 9])), "category_id": int(rng.choice([1, 3]))}
        annotations.append(
            {"id": number + 1, "iscrowd": int(number == 2), "area": 50 + number, **where}
            | {"bbox": box.tolist(), "segmentation": forms[number % 3](mask), "extra": [None]}
        )
        detections.append(
            {**where, "segmentation": mask, "bbox": box.tolist(), "score": float(rng.random())}
        )
    categories = [{"id": i, "name": str(i)} for i in (3, 1)]
    return {"images": images, "categories": categories, "annotations": annotations}, detections


def write(folder, truth, detections):
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(detections))
    return folder / "truth.json", folder / "results.json"


def assert_same(one, two):
    for key, value in one.to_arrays().items():
        assert np.array_equal(value, two.to_arrays()[key]), key


def spoil(rng, truth, detections):
    """Give one field of one entry another value, or take it away."""
    lists = [truth["images"], truth["annotations"], truth["categories"], detections, detections]
    entries = lists[rng.integers(len(lists))]
    entry = entries[rng.integers(len(entries))]
    if "segmentation" in entry and isinstance(entry["segmentation"], dict) and rng.random() < 0.3:
        entry = entry["segmentation"]
    key = sorted(entry)[rng.integers(len(entry))]
    if rng.random() < 0.15:
        del entry[key]
    else:
        entry[key] = copy.deepcopy(JUNK[rng.integers(len(JUNK))])


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_files_without_fault_are_read_at_once_and_alike(tmp_path, iou_type):
    rng = np.random.default_rng(1)
    for _ in range(30):
        truth, detections = files(rng)
        paths = write(tmp_path, truth, detections)
        table = read_table(*paths, (iou_type,))
        assert table is not None
        other = table_of(truth, detections, (iou_type,))
        assert_same(match_table(table, iou_type), match_table(other, iou_type))


def test_polygons_and_plain_run_lengths_score_as_in_pycocotools(tmp_path):
    rng = np.random.default_rng(6)
    seen = set()
    for _ in range(40):
        truth, detections = files(rng)
        detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
        paths = write(tmp_path, truth, detections)
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO(str(paths[0]))
            evaluator = COCOeval(known, known.loadRes(str(paths[1])), "segm")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        found = scores(match(*paths, iou_type="segm"), get_protocol("coco-instances"))
        numbers = [-1 if value is None else value for value in list(found.values())[:12]]
        assert numbers == evaluator.stats.tolist()
        seen.add(numbers[0])
    assert len(seen) > 5


@pytest.mark.fault(16)
def test_what_is_accepted_at_once_has_no_fault(tmp_path):
    """A changed value that is not refused passes every rule too, and matches alike."""
    rng = np.random.default_rng(2)
    accepted = refused = 0
    for _ in range(1200):
        truth, detections = files(rng)
        spoil(rng, truth, detections)
        paths = write(tmp_path, truth, detections)
        iou_type = ("segm", "bbox")[rng.integers(2)]
        table = read_table(*paths, (iou_type,))
        if table is None:
            refused += 1
            continue
        accepted += 1
        found = load_instances(*paths, iou_type=iou_type)
        other = table_of(found.truth, found.detections, (iou_type,))
        assert_same(match_table(table, iou_type), match_table(other, iou_type))
    assert accepted > 120
    assert refused > 500


def test_masks_and_boxes_of_one_reading_are_those_of_two(tmp_path):
    rng = np.random.default_rng(3)
    for with_boxes in (True, False):
        truth, detections = files(rng)
        if not with_boxes:
            detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
        paths = write(tmp_path, truth, detections)
        for iou_type, counts in match_files(*paths).items():
            assert_same(counts, match(*paths, iou_type=iou_type))


def test_text_that_is_no_json_and_files_that_are_not_there_are_errors(tmp_path):
    paths = write(tmp_path, *files(np.random.default_rng(4)))
    for broken in (b"", b"[", b'[{"image_id": "\xff"}]', b"[" * 100_000):
        paths[1].write_bytes(broken)
        assert read_table(*paths, ("segm",)) is None
        with pytest.raises(DataError, match=r"results\.json"):
            match_files(*paths)
    paths[1].unlink()
    with pytest.raises(DataError, match=r"results\.json does not exist"):
        match_files(*paths)
