"""Cityscapes instance AP: against loops, stored and read again, files and their faults."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation import counts
from segbench.evaluation.cityscapes import average_precision as cityscapes_ap
from segbench.evaluation.cityscapes import coco_form as cityscapes_coco
from segbench.evaluation.cityscapes import official_files as cityscapes_json
from segbench.evaluation.cityscapes.folders import count_folder
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.protocols.cityscapes_labels import (
    CLASS_NAMES,
    IGNORED_IDS,
    LABEL_IDS,
    THING_IDS,
)
from segbench.evaluation.resampled import statistic
from segbench.evaluation.scores import score_parts
from segbench.statistics.bootstrap import resample_weights
from tests.evaluation.cityscapes_scenes import random_folder, scene, write_masks, write_truth

PROTOCOL = get_protocol("cityscapes-instances")
EXACT = {"rel": 1e-12, "nan_ok": True}


def slow_ap(images, label, threshold):
    """AP of a class: true and false scores by loops, the curve by the trapezoid rule."""
    hits, false, truths = [], [], 0
    for numbers, found in images:
        segments = {n: numbers == n for n in set(numbers.flat) if label in (n, n // 1000)}
        single = {n for n, m in segments.items() if n >= 1000 and m.sum() >= 100}
        truths += len(single)
        matches = {n: [] for n in single}
        for mask, detected, score in found:
            if detected != label or not mask.any():
                continue
            over = [n for n, m in segments.items()
                    if (mask & m).sum() / (mask | m).sum() > threshold]  # fmt: skip
            for n in over:
                matches.get(n, []).append(score)
            ignored = np.isin(numbers[mask], IGNORED_IDS).sum()
            for n, m in segments.items():
                ignored += (mask & m).sum() * ((n < 1000) + (m.sum() < 100))
            if not over and ignored / mask.sum() <= threshold:
                false.append(score)
        for scores in matches.values():
            hits += sorted(scores)[-1:]
            false += sorted(scores)[:-1]
    if not truths:
        return math.nan
    area, before = 0.0, (0.0, 1.0)
    for score in sorted({*hits, *false}, reverse=True):
        right = sum(s >= score for s in hits)
        point = right / truths, right / (right + sum(s >= score for s in false))
        area += (point[0] - before[0]) * (point[1] + before[1]) / 2
        before = point
    return area


@pytest.mark.parametrize("seed", range(30))
def test_ap_against_loops(tmp_path, seed):
    images = random_folder(tmp_path, seed)
    found = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    matrix = cityscapes_ap.ap_matrix(found)
    for k, label in enumerate(THING_IDS):
        for t in (0, 4, 9):
            expected = slow_ap(images, label, cityscapes_ap.OVERLAPS[t])
            assert matrix[k, t] == pytest.approx(expected, **EXACT)
    scores = cityscapes_ap.scores(found, PROTOCOL)
    known = matrix[~np.isnan(matrix)]
    assert scores["ap"] == (pytest.approx(known.mean()) if known.size else None)
    halves = [row["ap50"] for row in scores["per_class"] if row["ap50"] is not None]
    assert scores["ap50"] == (pytest.approx(np.mean(halves)) if halves else None)


def test_figures_of_the_official_tool(tmp_path):
    random_folder(tmp_path, 20, images=6)
    found = cityscapes_ap.results(count_folder(tmp_path / "gt", tmp_path / "pred").counts)
    averages = found["averages"]
    assert (averages["allAp"], averages["allAp50%"]) == FIGURES
    cityscapes_json.write_results(tmp_path / cityscapes_json.INSTANCE_FILE, found)
    text = (tmp_path / "resultInstanceLevelSemanticLabeling.json").read_text()
    written = json.loads(text)
    assert sorted(written) == ["averages", "distanceThresholds", "instLabels", "minRegionSizes",
                               "minStereoDensities", "overlaps", "resultApMatrix"]  # fmt: skip
    assert np.shape(written["resultApMatrix"]) == (1, 8, 10)
    assert written["overlaps"][2] == 0.6000000000000001
    assert '"distanceThresholds": [\n        Infinity,\n        100.0,' in text
    assert sorted(averages["classes"]["person"]) == ["ap", "ap50%"]


FIGURES = (0.3432291666666667, 0.5416666666666667)
"""What cityscapesScripts itself gives for these files."""


def test_stored_counts_subsets_and_sums(tmp_path):
    random_folder(tmp_path, 5, images=7)
    whole = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    counts.save_counts(tmp_path / "counts.npz", {"segm_overlaps": whole})
    stored = counts.load_counts(tmp_path / "counts.npz")
    assert score_parts(stored, PROTOCOL) == cityscapes_ap.scores(whole, PROTOCOL)
    ids = whole.image_ids
    parts = [whole.subset(ids[:3]), whole.subset(ids[3:4]), whole.subset(ids[4:])]
    again = cityscapes_ap.merge(parts)
    assert again.image_ids == ids
    for key, value in whole.to_arrays().items():
        assert np.array_equal(again.to_arrays()[key], value)
    picked = counts.subset(stored, {ids[6], ids[2]})["segm_overlaps"]
    assert picked.image_ids == (ids[2], ids[6])
    both = whole.subset([ids[2]]) + whole.subset([ids[6]])
    assert cityscapes_ap.scores(picked, PROTOCOL) == cityscapes_ap.scores(both, PROTOCOL)


def test_any_number_of_workers_gives_the_same_counts(tmp_path):
    random_folder(tmp_path, 9, images=70)
    one = count_folder(tmp_path / "gt", tmp_path / "pred").counts.to_arrays()
    two = count_folder(tmp_path / "gt", tmp_path / "pred", workers=2).counts.to_arrays()
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_resamples_are_scores_of_copies(tmp_path):
    random_folder(tmp_path, 8, images=10)
    whole = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    weights = resample_weights(10, 15, seed=2).astype(np.float64)
    single = [whole.subset([image]) for image in whole.image_ids]
    for metric in ("ap", "ap50", "ap.2", "ap50.0"):
        drawn = statistic({"segm_overlaps": whole}, PROTOCOL, metric)
        key, _, index = metric.partition(".")
        for row, value in zip(weights.astype(int), drawn.evaluate(weights), strict=True):
            copies = [part for part, n in zip(single, row, strict=True) for _ in range(n)]
            found = cityscapes_ap.scores(cityscapes_ap.merge(copies), PROTOCOL)
            expected = found["per_class"][int(index)][key] if index else found[key]
            assert value == pytest.approx(math.nan if expected is None else expected, **EXACT)


def test_every_resample_of_a_perfect_prediction_scores_exactly_1(tmp_path):
    rng = np.random.default_rng(6)
    for i in range(12):
        labels, numbers = scene(rng)
        numbers[:10, :10], numbers[10:, :10] = 26500 + i, 24500
        masks = [(numbers == n, n // 1000, float(rng.random())) for n in np.unique(numbers)
                 if n // 1000 in THING_IDS]  # fmt: skip
        write_truth(tmp_path / "gt", f"ulm_{i:06d}_000019", labels, numbers)
        write_masks(tmp_path / "pred", f"ulm_{i:06d}_000019", masks)
    whole = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    drawn = statistic({"segm_overlaps": whole}, PROTOCOL, "ap")
    weights = resample_weights(12, 300, seed=0).astype(np.float64)
    assert set(drawn.evaluate(weights)) == {1.0}


def test_image_scores_are_f1_of_sure_detections(tmp_path):
    numbers = np.zeros((30, 30), dtype=np.uint16)
    numbers[:12, :12], numbers[15:27, :12] = 26000, 26001
    write_truth(tmp_path / "gt", "ulm_000000_000019", numbers // 1000, numbers)
    hit, wrong, unsure = numbers == 26000, numbers == 7, numbers == 26001
    wrong[:, 20:] = True
    numbers[:, 20:] = 7
    write_truth(tmp_path / "gt", "ulm_000000_000019", np.zeros((30, 30), dtype=np.uint8), numbers)
    masks = [(hit, 26, 0.9), (wrong, 26, 0.8), (unsure, 26, 0.4)]
    write_masks(tmp_path / "pred", "ulm_000000_000019", masks)
    found = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    assert counts.image_scores({"segm_overlaps": found}) == {"ulm_000000_000019": 0.5}


def coco_files(folder, images):
    """Write the same scenes in COCO form, with label maps of train ids."""
    train = np.full(34, 255, dtype=np.uint8)
    train[list(LABEL_IDS)] = np.arange(19)
    truth = {"images": [], "annotations": [], "categories": [
        {"id": i, "name": name} for i, name in zip(LABEL_IDS, CLASS_NAMES, strict=True)
    ]}  # fmt: skip
    results = []
    (folder / "semantic").mkdir()
    for i, (numbers, found) in enumerate(images):
        height, width = numbers.shape
        image = {"id": i, "height": height, "width": width, "file_name": f"images/{i}.jpg"}
        truth["images"].append(image)
        for number in np.unique(numbers).tolist():
            label = number // 1000 if number >= 1000 else number
            mask = numbers == number
            if label in THING_IDS:
                truth["annotations"].append({
                    "id": len(truth["annotations"]) + 1, "image_id": i, "category_id": label,
                    "iscrowd": int(number < 1000), "area": int(mask.sum()),
                    "bbox": [0, 0, 1, 1], "segmentation": encoded(mask),
                })  # fmt: skip
        labels = np.where(numbers >= 1000, numbers // 1000, numbers)
        Image.fromarray(train[labels]).save(folder / "semantic" / f"{i}.png")
        results += [
            {"image_id": i, "category_id": label, "score": score, "segmentation": encoded(mask)}
            for mask, label, score in found
            if label in LABEL_IDS
        ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


def encoded(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@pytest.mark.parametrize("seed", range(12))
def test_the_coco_form_gives_the_same_counts(tmp_path, seed):
    images = random_folder(tmp_path, 200 + seed)
    # Numbered caravans and trailers are void only in a label map.
    for numbers, _ in images:
        numbers[(numbers // 1000 == 29) | (numbers // 1000 == 30)] = 29
    again = tmp_path / "again"
    for i, (numbers, found) in enumerate(images):
        labels = np.where(numbers >= 1000, numbers // 1000, numbers).astype(np.uint8)
        write_truth(again / "gt", f"ulm_{i:06d}_000019", labels, numbers)
        write_masks(again / "pred", f"ulm_{i:06d}_000019", found)
    coco_files(tmp_path, images)
    expected = count_folder(again / "gt", again / "pred").counts
    found = cityscapes_coco.count_files(
        tmp_path / "truth.json", tmp_path / "results.json", semantic=tmp_path / "semantic"
    )
    assert found.warnings == []
    assert np.array_equal(
        cityscapes_ap.ap_matrix(found.counts), cityscapes_ap.ap_matrix(expected), equal_nan=True
    )
    for image in range(len(images)):
        one = found.counts.subset([image])
        other = expected.subset([expected.image_ids[image]])
        assert sorted(map(tuple, one.truths)) == sorted(map(tuple, other.truths))
        assert np.array_equal(one.detections, other.detections)
        assert sorted(one.pairs[:, 2]) == sorted(other.pairs[:, 2])


def test_the_coco_form_without_label_maps_says_so(tmp_path):
    coco_files(tmp_path, random_folder(tmp_path, 1))
    found = cityscapes_coco.count_files(tmp_path / "truth.json", tmp_path / "results.json")
    assert found.warnings == ["no label maps of the truth (--gt-folder): nothing is void"]
    assert not found.counts.detections[:, 3].any()


def test_the_coco_form_wants_label_ids(tmp_path):
    coco_files(tmp_path, random_folder(tmp_path, 1))
    truth = json.loads((tmp_path / "truth.json").read_text())
    truth["categories"].append({"id": 90, "name": "toothbrush"})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"label ids as category ids, found \[90\]"):
        cityscapes_coco.count_files(tmp_path / "truth.json", tmp_path / "results.json")


def test_another_protocol_is_refused(tmp_path):
    random_folder(tmp_path, 1)
    found = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    with pytest.raises(ConfigError, match="'coco-instances' does not score Cityscapes overlaps"):
        score_parts({"segm_overlaps": found}, get_protocol("coco-instances"))


STEM = "ulm_000000_000019"
FAULTS = {
    "two words": (lambda p: lines(p, "masks/a.png 26"),
                  "1 lines are not 'mask.png labelID confidence'; first ulm_000000_000019.txt:1"),
    "blank line": (lambda p: lines(p, "masks/a.png 26 0.5\n"), "lines are not 'mask.png labelID"),
    "score": (lambda p: lines(p, "masks/a.png 26 high"), "1 confidences are no finite numbers"),
    "nan": (lambda p: lines(p, "masks/a.png 26 nan"), "1 confidences are no finite numbers"),
    "label": (lambda p: lines(p, "masks/a.png 34 0.5"), "1 label ids are not 0 to 33"),
    "name for label": (lambda p: lines(p, "masks/a.png car 0.5"), "txt:1 car"),
    "half a label": (lambda p: lines(p, "masks/a.png 26.5 0.5"), "txt:1 26.5"),
    "twice": (lambda p: lines(p, "masks/a.png 26 0.5", "masks/a.png 26 0.4"),
              "1 lines name the mask of an earlier one"),
    "outside": (lambda p: lines(p, "../gt/a.png 26 0.5"), "1 masks are outside the folder"),
    "absolute": (lambda p: lines(p, f"{p}/masks/a.png 26 0.5"), "masks are outside the folder"),
    "missing mask": (lambda p: lines(p, "masks/b.png 26 0.5"), "b.png (is missing)"),
    "broken mask": (lambda p: (p / "masks/a.png").write_text("no"), "a.png (is broken or no"),
    "wide": (lambda p: Image.fromarray(np.ones((6, 8), dtype=np.uint16)).save(p / "masks/a.png"),
             "first a.png (I;16)"),
    "cut mask": (lambda p: cut(p / "masks/a.png"), "a.png (is broken or no image)"),
    "colour": (lambda p: mask(p, np.ones((6, 8, 3))), "one-channel 8-bit PNGs; first a.png (RGB)"),
    "size": (lambda p: mask(p, np.ones((8, 6))), "a.png 8x6 for 6x8"),
    "no folder": (lambda p: p.rename(p.parent / "moved"), "pred is not a folder"),
    "no list": (lambda p: (p / f"{STEM}.txt").unlink(), "1 of 1 predictions are missing"),
    "two lists": (lambda p: (p / f"{STEM}_more.txt").write_text(""), "more than one prediction"),
    "binary list": (lambda p: (p / f"{STEM}.txt").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "truth": (lambda p: truth(p, 500), "1 truths are no instanceIds"),
    "no truth": (lambda p: (p.parent / f"gt/ulm/{STEM}_gtFine_instanceIds.png").unlink(),
                 "holds no *_instanceIds.png files"),
}  # fmt: skip


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def lines(folder, *rows):
    (folder / f"{STEM}.txt").write_text("".join(f"{row}\n" for row in rows))


def mask(folder, pixels):
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "masks/a.png")


def truth(folder, number):
    numbers = np.full((6, 8), number, dtype=np.uint16)
    write_truth(folder.parent / "gt", STEM, np.zeros((6, 8), dtype=np.uint8), numbers)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pred/masks").mkdir(parents=True)
    truth(tmp_path / "pred", 26001)
    mask(tmp_path / "pred", np.ones((6, 8)))
    lines(tmp_path / "pred", "masks/a.png 26 0.5")
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(folder, fault):
    break_it, words = FAULTS[fault]
    break_it(folder / "pred")
    with pytest.raises(DataError) as caught:
        count_folder(folder / "gt", folder / "pred")
    assert words in caught.value.what


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_masks_of_bits_grey_and_palette(folder, mode):
    half = np.zeros((6, 8), dtype=np.uint8)
    half[:, 4:] = 255
    image = Image.fromarray(half).convert(mode)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 30, 30] + [9, 9, 9] * 254)
    image.save(folder / "pred/masks/a.png")
    found = count_folder(folder / "gt", folder / "pred").counts
    assert found.detections[:, 2].tolist() == [24]


def test_what_counts_nowhere_is_said(folder):
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(folder / "pred/masks/b.png")
    lines(folder / "pred", "masks/a.png 7 0.5", "masks/b.png 26 0.5")
    found = count_folder(folder / "gt", folder / "pred")
    assert found.warnings == [
        "1 predictions are of labels without instances and count nowhere",
        "1 predictions have an empty mask and count nowhere",
    ]
    assert len(found.counts.scores) == 0


def test_truth_without_a_detection_that_counts_scores_0(tmp_path):
    # The official tool stops here with an IndexError: its list of scores is empty.
    numbers = np.full((20, 20), 26001, dtype=np.uint16)
    numbers[:, :8] = 26
    write_truth(tmp_path / "gt", STEM, np.full((20, 20), 26, dtype=np.uint8), numbers)
    write_masks(tmp_path / "pred", STEM, [(numbers == 26, 26, 0.9)])
    found = count_folder(tmp_path / "gt", tmp_path / "pred").counts
    assert cityscapes_ap.scores(found, PROTOCOL)["ap"] == 0.0
