"""Oracles against brute force, and what theory says of truth everywhere."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segbench.core.errors import ConfigError
from segbench.core.provenance import file_digest
from segbench.core.seal import write_sealed
from segbench.core.types import IGNORE_INDEX, ImageRecord, Instances, PanopticMap, Sample
from segbench.datasets.prepare.writer import prepare_dataset
from segbench.evaluation.count_split import evaluate
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import SplitSamples
from segbench.inference.oracles import (
    Truth,
    check_oracles,
    match_objects,
    predict_with_truth,
    truth_of,
)
from segbench.inference.predict import predict_split
from segbench.models.bases.panoptic import PanopticParts, certain
from segbench.models.registry import create_model, model_infos
from segbench.training.recipe import Recipe, load_recipe, recipe_digest

THINGS, STUFF = 2, 2
SIDE = 40
ROOT = Path(__file__).parents[2]
PANOPTIC_TINY = [i.id for i in model_infos().values() if (i.task, i.size) == ("panoptic", "tiny")]
PARTS = ("semantic", "boxes", "masks")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Scenes and networks whose parts are known


def objects_of(masks: np.ndarray, labels: list[int], scores: Any = None) -> Instances:
    """Boxes are those of the masks."""
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Instances(masks, np.array(labels, dtype=np.int64), corners, scores)


def scene(seed: int, *, void: bool = True) -> Truth:
    """Two halves of stuff, up to four rectangles in front of each other, a corner of void."""
    rng = np.random.default_rng(seed)
    semantic = np.full((SIDE, SIDE), THINGS, dtype=np.uint8)
    semantic[:, SIDE // 2 :] = THINGS + 1
    owner = np.zeros((SIDE, SIDE), dtype=int)
    labels = {}
    for number in range(1, 5):
        y, x = rng.integers(0, SIDE - 16, 2)
        height, width = rng.integers(8, 16, 2)
        labels[number] = int(rng.integers(1, THINGS + 1))
        owner[y : y + height, x : x + width] = number
        semantic[y : y + height, x : x + width] = labels[number] - 1
    if void:
        semantic[:5, :5], owner[:5, :5] = IGNORE_INDEX, 0
    seen = [n for n in labels if (owner == n).any()]
    masks = np.stack([owner == n for n in seen])
    return Truth(semantic, objects_of(masks, [labels[n] for n in seen]))


def found_in(truth: Truth, seed: int) -> PanopticParts:
    """A flawed network: objects moved and cut, one of another class, one too many, noisy stuff."""
    rng = np.random.default_rng(seed)
    masks, labels = [], []
    for mask, label in zip(truth.objects.masks, truth.objects.labels, strict=True):
        moved = np.roll(mask, tuple(rng.integers(-3, 4, 2)), axis=(0, 1))
        masks.append(moved & (rng.random(mask.shape) < 0.9))
        labels.append(int(label) if rng.random() < 0.8 else THINGS + 1 - int(label))
    false_positive = np.zeros((SIDE, SIDE), dtype=bool)
    false_positive[25:37, 3:15] = True
    keep = [m for m in masks if m.any()]
    labels = [n for m, n in zip(masks, labels, strict=True) if m.any()]
    scores = rng.permutation(np.linspace(0.4, 0.99, len(keep) + 1)).astype(np.float32)
    found = objects_of(np.stack([*keep, false_positive]), [*labels, 1], scores)
    noisy = np.where(rng.random((SIDE, SIDE)) < 0.3, THINGS + 1, truth.semantic)
    return PanopticParts(found, branch_scores(torch.from_numpy(noisy.astype(np.int64))))


def branch_scores(semantic: torch.Tensor) -> torch.Tensor:
    """Logits of Panoptic FPN: one channel for all things, then stuff."""
    labels = torch.where(semantic < THINGS, 0, semantic - THINGS + 1)
    return certain(labels, STUFF + 1)


class Flawed:
    """Panoptic FPN that finds what ``found_in`` says, and true boxes with masks cut in half."""

    def __init__(self, found: list[PanopticParts]) -> None:
        self.network = create_model("panoptic_fpn_tiny", THINGS, STUFF)
        self.network.panoptic_stuff_area = 20
        self.found = found
        self.truth_scores, self.merge = self.network.truth_scores, self.network.merge

    def parts(self, outputs: Any, sizes: Any, boxes: Any = None) -> list[PanopticParts]:
        if boxes is None:
            return self.found
        return [replace(p, instances=halved(b)) for p, b in zip(self.found, boxes, strict=True)]


def halved(objects: Instances) -> Instances:
    """Every second row of an object of four, the whole of the others."""
    masks = objects.masks.copy()
    masks[::4, ::2] = False
    return Instances(masks, objects.labels, objects.boxes, np.ones(len(objects), np.float32))


# Brute force


def segments_of(panoptic: PanopticMap) -> dict[frozenset[tuple[int, int]], int]:
    """Return {pixels: panoptic index} of the segments a map shows."""
    pixels = defaultdict(set)
    for place, segment in np.ndenumerate(panoptic.ids):
        if segment:
            pixels[int(segment)].add(place)
    labels = {s.id: s.label for s in panoptic.segments}
    return {frozenset(where): labels[segment] for segment, where in pixels.items()}


def painted(found: list[tuple[float, int, set]], stuff: dict, area: int) -> dict:
    """Paint objects (score, label, pixels) by score, then stuff {pixel: index} on the rest."""
    taken: set = set()
    segments = {}
    for score, label, pixels in sorted(found, key=lambda one: -one[0]):
        free = pixels - taken
        if score >= 0.5 and pixels and len(pixels & taken) / len(pixels) <= 0.5 and free:
            segments[frozenset(free)] = label - 1
            taken |= free
    for label in set(stuff.values()):
        free = {place for place, index in stuff.items() if index == label} - taken
        if len(free) >= area:
            segments[frozenset(free)] = label
    return segments


def pixels_of(mask: np.ndarray) -> set:
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}


def box_iou(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def partners(found: Instances, truth: Instances) -> dict[int, int]:
    """Return the true object that each found object stands for."""
    assert found.scores is not None
    chosen: dict[int, int] = {}
    for place in sorted(range(len(found)), key=lambda i: -found.scores[i]):
        free = [
            (box_iou(found.boxes[place], truth.boxes[other]), -other)
            for other in range(len(truth))
            if truth.labels[other] == found.labels[place] and other not in chosen.values()
        ]
        best, other = max(free, default=(0.0, 0))
        if best >= 0.5:
            chosen[place] = -other
    return chosen


def expected(found: PanopticParts, truth: Truth, oracles: tuple[str, ...]) -> dict:
    """Return the segments that the rules of the oracles and of the merge give."""
    objects = halved(truth.objects) if "boxes" in oracles else found.instances
    masks = [pixels_of(mask) for mask in objects.masks]
    if "masks" in oracles:
        for place, other in partners(objects, truth.objects).items():
            masks[place] = pixels_of(truth.objects.masks[other])
    scores, labels = objects.scores.tolist(), objects.labels.tolist()
    labelled = found.scores.argmax(dim=0).numpy() + THINGS - 1
    if "semantic" in oracles:
        labelled = truth.semantic
    stuff = {p: int(k) for p, k in np.ndenumerate(labelled) if THINGS <= k < IGNORE_INDEX}
    return painted(list(zip(scores, labels, masks, strict=True)), stuff, 20)


@pytest.mark.parametrize(
    "oracles",
    [(), ("semantic",), ("boxes",), ("masks",), ("semantic", "masks"), ("boxes", "masks"), PARTS],
)
def test_every_combination_equals_brute_force(oracles: tuple[str, ...]) -> None:
    truths = [scene(seed) for seed in range(8)]
    found = [found_in(truth, seed) for seed, truth in enumerate(truths)]
    predictions = predict_with_truth(Flawed(found), {}, truths, oracles)
    matched = 0
    for prediction, parts, truth in zip(predictions, found, truths, strict=True):
        assert segments_of(prediction.panoptic) == expected(parts, truth, oracles)
        matched += len(partners(parts.instances, truth.objects))
    assert 5 < matched < sum(len(p.instances) for p in found)


def test_neither_truth_nor_found_parts_are_changed() -> None:
    truth = scene(1)
    true, none = truth.objects.masks.copy(), np.zeros_like(truth.objects.masks)
    ones = np.ones(len(true), np.float32)
    objects = replace(truth.objects, masks=none.copy(), scores=ones)
    network = Flawed(
        [replace(found_in(truth, 1), instances=objects, mask_scores=none.astype(np.float32))]
    )
    (prediction,) = predict_with_truth(network, {}, [truth], ("masks",))
    assert np.array_equal(truth.objects.masks, true)
    assert not network.found[0].instances.masks.any()
    assert not network.found[0].mask_scores.any()
    assert np.array_equal(prediction.instances.masks, true)


def test_chances_of_pixels_follow_the_true_masks() -> None:
    truth, seen = scene(2), []
    found = found_in(truth, 2)
    chances = np.full(found.instances.masks.shape, 0.25, np.float32)
    network = Flawed([replace(found, mask_scores=chances)])
    network.merge = lambda parts: seen.append(parts)  # type: ignore[assignment,method-assign]
    predict_with_truth(network, {}, [truth], ("masks",))
    chosen = partners(found.instances, truth.objects)
    assert chosen
    for place, chance in enumerate(seen[0].mask_scores):
        true = truth.objects.masks[chosen[place]] if place in chosen else 0.25
        assert np.array_equal(chance, np.broadcast_to(true, chance.shape))


def boxes(*corners: tuple[float, ...], labels: list[int], scores: Any = None) -> Instances:
    masks = np.ones((len(corners), 2, 2), dtype=bool)
    values = np.array(corners, dtype=np.float32).reshape(-1, 4)
    return Instances(masks, np.array(labels, dtype=np.int64), values, scores)


def test_matches_are_of_one_class_best_first_and_used_once() -> None:
    truth = boxes((0, 0, 10, 10), (0, 0, 10, 8), (50, 50, 60, 60), labels=[1, 1, 2])
    found = boxes(
        (0, 0, 10, 10), (0, 0, 10, 10), (50, 50, 60, 60), (0, 0, 10, 10),
        labels=[1, 1, 1, 1], scores=np.array([0.5, 0.9, 0.8, 0.4]),
    )  # fmt: skip
    assert match_objects(found, truth) == [(1, 0), (0, 1)]
    half = boxes((0, 0, 5, 10), labels=[1], scores=np.ones(1))
    less = boxes((0, 0, 4.9, 10), labels=[1], scores=np.ones(1))
    one = boxes((0, 0, 10, 10), labels=[1])
    assert match_objects(half, one) == [(0, 0)]
    assert match_objects(less, one) == []
    nothing = boxes(labels=[], scores=np.zeros(0))
    assert match_objects(nothing, one) == match_objects(one, nothing) == []


def test_objects_without_a_pixel_are_no_truth() -> None:
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[1, 0, 0] = True
    objects = Instances(masks, np.array([1, 2]), np.zeros((2, 4), np.float32))
    record = ImageRecord(1, Path("x.png"), 4, 4)
    image = np.zeros((4, 4, 3), np.uint8)
    truth = truth_of(Sample(record, image, np.zeros((4, 4), np.uint8), objects))
    assert truth.objects.labels.tolist() == [2]
    assert len(truth.objects.masks) == len(truth.objects.boxes) == 1


# Every registered panoptic network


@pytest.mark.parametrize("name", PANOPTIC_TINY)
def test_networks_take_the_oracles_they_say(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, THINGS, STUFF).eval()
    if hasattr(model, "panoptic_stuff_area"):
        model.panoptic_stuff_area = 0
    truths = [scene(seed, void=False) for seed in (3, 4)]
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 64, 64))
        for oracles in [(part,) for part in model.replaceable] + [model.replaceable]:
            check_oracles(model, name, oracles)
            found = predict_with_truth(model, outputs, truths, oracles)
            assert [p.panoptic.ids.shape for p in found] == [(SIDE, SIDE)] * 2
    if set(model.replaceable) == set(PARTS):
        for prediction, truth in zip(found, truths, strict=True):
            assert Counter(segments_of(prediction.panoptic).items()) == truth_segments(truth)
    for part in set(PARTS) - set(model.replaceable):
        with pytest.raises(ConfigError, match=f"'{name}' has no {part} of its own"):
            check_oracles(model, name, [part])


def truth_segments(truth: Truth) -> Counter:
    labels = (int(label) - 1 for label in truth.objects.labels)
    segments = list(zip(map(pixels_of, truth.objects.masks), labels, strict=True))
    segments += [(pixels_of(truth.semantic == k), k) for k in range(THINGS, THINGS + STUFF)]
    return Counter((frozenset(pixels), label) for pixels, label in segments if pixels)


# From files to scores


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    out = tmp_path_factory.mktemp("digits")
    prepare_dataset("digit_scenes", out, options={"train": 2, "val": 6, "seed": 5})
    return PreparedDataset.open(out)


def recipe(**changes: Any) -> Recipe:
    file = ROOT / "workflow/experiments/digit_scenes/panoptic_fpn_tiny.yaml"
    return load_recipe(file).model_copy(update={"panoptic_stuff_area": 0, **changes})


@pytest.fixture(scope="module")
def weights(digits: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    things = len(digits.table.thing_train_ids)
    model = create_model("panoptic_fpn_tiny", things, len(digits.table) - things)
    path = tmp_path_factory.mktemp("run") / "weights.safetensors"
    save_file(model.state_dict(), str(path))
    return path


def scores(
    digits: PreparedDataset, weights: Path, out: Path, oracles: tuple[str, ...], **changes: Any
) -> dict[str, dict[str, float | None]]:
    predict_split(recipe(**changes), weights, digits, "val", out, oracles=oracles)
    return {
        task: evaluate(
            digits, "val", out, task=task, protocol_id=digits.protocol(task),
            counts_path=out / f"{task}.npz",
        ).scores
        for task in ("panoptic", "instance", "semantic")
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"predict_short": 192}, {"workers": 1}])
def test_truth_everywhere_is_perfect_with_random_weights(
    digits: PreparedDataset, weights: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    found = scores(digits, weights, tmp_path, PARTS, **changes)
    for key in ("pq", "sq", "rq", "pq_things", "pq_stuff"):
        assert found["panoptic"][key] == 1.0
    assert found["instance"]["ap"] == found["instance"]["box_ap"] == 1.0
    assert found["semantic"]["miou"] == 1.0


def test_true_stuff_and_no_object_score_the_share_of_stuff(
    digits: PreparedDataset, weights: Path, tmp_path: Path
) -> None:
    """No object reaches a score of 1: things are never found, stuff is as true as can be."""
    found = scores(digits, weights, tmp_path, ("semantic",), panoptic_threshold=1.0)["panoptic"]
    truth = SplitSamples(digits, "val", task="panoptic")
    shown = {int(k) for r in truth.records for k in np.unique(truth.sample(r).semantic)}
    stuff = {k for k in shown if k >= len(digits.table.thing_train_ids)}
    assert (found["pq_things"], found["pq_stuff"]) == (0.0, 1.0)
    assert found["pq"] == pytest.approx(len(stuff) / len(shown))


def test_true_boxes_are_found_as_boxes(
    digits: PreparedDataset, weights: Path, tmp_path: Path
) -> None:
    found = scores(digits, weights, tmp_path, ("boxes", "masks"))
    assert found["instance"]["box_ap"] == found["instance"]["ap"] == 1.0
    assert found["panoptic"]["pq_things"] == 1.0
    assert found["panoptic"]["pq_stuff"] < 1.0


# Mistakes


def test_a_network_that_merges_in_one_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="'plain' cannot be given the truth of boxes"):
        check_oracles(SimpleNamespace(), "plain", ["boxes"])  # type: ignore[arg-type]


def test_only_panoptic_recipes_have_oracles(digits: PreparedDataset, tmp_path: Path) -> None:
    semantic = load_recipe(ROOT / "workflow/experiments/digit_scenes/fcn_tiny.yaml")
    with pytest.raises(ConfigError, match="--oracle is for panoptic models, its task is semantic"):
        predict_split(semantic, tmp_path / "none", digits, "val", tmp_path, oracles=("boxes",))


def test_the_manifest_says_which_oracle(
    digits: PreparedDataset, weights: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from segbench.cli import cli

    file = ROOT / "workflow/experiments/digit_scenes/panoptic_fpn_tiny.yaml"
    trained = load_recipe(file)
    facts = {
        "seed": 3, "recipe_digest": recipe_digest(trained), "device": "cpu", "wall_time_s": 1.0,
        "recipe": trained.model_dump(mode="json"), "data_digest": digits.digest,
        "categories": list(digits.table.names), "files": {weights.name: file_digest(weights)},
    }  # fmt: skip
    write_sealed(weights.parent / "recipe.json", facts)
    command = ["predict", file, "--run", weights.parent, "--data", digits.root, "--out", tmp_path]
    options = ["--oracle", "masks", "--oracle", "semantic", "--oracle", "masks"]
    result = CliRunner().invoke(cli, [*map(str, command), *options])
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["kind"] == "oracle"
    assert manifest["oracles"] == ["semantic", "masks"]
    assert manifest["experiment"] == "panoptic_fpn_tiny@oracle-semantic-masks"
    assert manifest["display_name"] == "Panoptic FPN (tiny), oracle:semantic+masks"
    assert manifest["seed"] == 3
    wrong = CliRunner().invoke(cli, [*map(str, command), "--oracle", "box"])
    assert wrong.exit_code == 2
    assert "'semantic', 'boxes', 'masks'" in wrong.output
