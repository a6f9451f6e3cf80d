"""LPSNet: its losses, the paste on the truth, its parts and multiply-adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from segbench.core.errors import ConfigError
from segbench.core.types import Category, CategoryTable, Instances, PanopticMap, Prediction
from segbench.datasets.digit_scenes import SceneOptions, compose_scene
from segbench.datasets.source import compose_panoptic, instances_from_masks
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.inference.oracles import Truth, predict_with_truth
from segbench.layers.losses.box import box_overlap
from segbench.models.bases.panoptic import PanopticParts, certain
from segbench.models.parts.lpsnet_samples import POSITIVES, Points, SampleRule, box_distances
from segbench.models.profiling.costs import count_macs_by_module
from segbench.models.registry import create_model
from tests.models.targets import Targets

THINGS, STUFF = 3, 2
SIZE = (64, 64)


def table(things: int, stuff: int) -> CategoryTable:
    names = [(n, n < things) for n in range(things + stuff)]
    return CategoryTable(
        tuple(Category(n + 1, f"class {n}", isthing, (n, 0, 0)) for n, isthing in names)
    )


TABLE = table(THINGS, STUFF)


def tiny(**choices: Any) -> Any:
    torch.manual_seed(0)
    model = create_model("lpsnet_tiny", THINGS, STUFF, **choices).eval()
    model.panoptic_stuff_area = 0
    return model


@pytest.mark.parametrize(
    "wrong", [{"top": "asp"}, {"quality": "q"}, {"overlap": "o"}, {"box_loss": "l"}]
)
@pytest.mark.parametrize("name", ["lpsnet_tiny", "lpsnet_resnet50"])
def test_unknown_choices_are_refused(name: str, wrong: dict[str, str]) -> None:
    ((option, value),) = wrong.items()
    with torch.device("meta"), pytest.raises(ConfigError, match=f"{option} '{value}'.*\n.*one of"):
        create_model(name, THINGS, STUFF, **wrong)


# Losses


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_box_losses(kind: Any) -> None:
    one, two = (torch.rand(50, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    one, two = (torch.cat((b[:, :2], b[:, :2] + b[:, 2:] + 0.01), dim=1) for b in (one, two))
    assert box_overlap(one, one, kind=kind).abs().max() < 1e-5
    if kind == "giou":
        torch.testing.assert_close(
            box_overlap(one, two, kind=kind), generalized_box_iou_loss(one, two)
        )
    pair = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 0, 6, 4]])
    expected = {"iou": 1 - 8 / 24, "giou": 1 - 8 / 24}[kind]
    assert float(box_overlap(*pair, kind=kind)) == pytest.approx(expected)
    apart = torch.tensor([[8.0, 0, 12, 4]])
    assert float(box_overlap(pair[0], apart, kind=kind)) == pytest.approx(
        {"iou": 1.0, "giou": 1 + 16 / 48}[kind]
    )


def objects_of(instances: Instances) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.from_numpy(instances.boxes),
        "labels": torch.from_numpy(instances.labels) + 1,
        "masks": torch.from_numpy(instances.masks),
    }


def perfect_outputs(model: Any, instances: Instances, semantic: np.ndarray) -> dict[str, Any]:
    """What a network would have to say for the true boxes to come out."""
    images = torch.zeros(1, 3, *semantic.shape)
    points = Points.of(semantic.shape, model.box_head.strides, images.device)
    distances, truth = torch.ones(1, len(points.places), 4), objects_of(instances)
    quality = torch.full((1, len(points.places)), 1e-6)
    nothing = torch.zeros(THINGS, len(points.places))
    samples = model.rule.samples(points, truth, quality[0], nothing)
    sides = box_distances(points, truth["boxes"])
    distances[0, samples.points] = sides[samples.objects, samples.points]
    quality[0, samples.points] = samples.quality.clamp(1e-6, 1 - 1e-6)
    labels = torch.from_numpy(semantic[::4, ::4].astype(np.int64))
    return {
        "images": images,
        "semantic_logits": certain(labels, THINGS + STUFF)[None],
        "distances": distances,
        "quality_logits": quality.logit(),
    }


def blocks(seed: int) -> tuple[Instances, np.ndarray, PanopticMap]:
    """Two to five objects of whole cells, in four quarters and the middle of the image."""
    rng = np.random.default_rng(seed)
    corners = [(0, 0), (0, 32), (32, 0), (32, 32)]
    masks, labels = [], []
    for top, left in corners[: rng.integers(2, 5)]:
        mask = np.zeros(SIZE, dtype=bool)
        y, x = (4 * rng.integers(0, 3, 2)).tolist()
        height, width = (4 * rng.integers(3, 6, 2)).tolist()
        mask[top + y : top + y + height, left + x : left + x + width] = True
        masks.append(mask)
        labels.append(int(rng.integers(0, THINGS)))
    return scene_of(np.stack(masks), labels)


def scene_of(masks: np.ndarray, labels: list[int]) -> tuple[Instances, np.ndarray, PanopticMap]:
    semantic = np.full(masks.shape[1:], THINGS, dtype=np.uint8)
    semantic[:, masks.shape[2] // 2 :] = THINGS + 1
    for mask, label in zip(masks, labels, strict=True):
        semantic[mask] = label
    instances = instances_from_masks(masks, labels)
    return instances, semantic, compose_panoptic(semantic, instances, table=TABLE)


def pq_of(
    truth: PanopticMap, found: PanopticMap | None, classes: CategoryTable = TABLE
) -> dict[str, Any]:
    assert found is not None
    counts = panoptic.count(
        truth.ids,
        found.ids,
        truth_segments=_segments(truth),
        predicted_segments=_segments(found),
        categories=classes,
    )
    return panoptic.scores(counts, get_protocol("coco-panoptic"))


def _segments(found: PanopticMap) -> list[dict[str, Any]]:
    return [
        {"id": s.id, "category_id": s.label + 1, "iscrowd": 0, "area": s.area}
        for s in found.segments
    ]


@pytest.mark.parametrize("seed", range(4))
def test_perfect_outputs_have_no_box_loss_and_give_every_object(seed: int) -> None:
    """The semantic map has stride 4, so corners are lost, and with them some quality."""
    model = tiny()
    instances, semantic, truth = blocks(seed)
    outputs = perfect_outputs(model, instances, semantic)
    labels = torch.from_numpy(semantic.astype(np.int64))[None]
    losses = model.loss(outputs, Targets([objects_of(instances)], labels, [SIZE]))
    assert float(losses["loss_box"]) < 1e-5
    (found,) = model.predict(outputs, [SIZE])
    assert sorted(map(tuple, found.instances.boxes.round().tolist())) == sorted(
        map(tuple, instances.boxes.tolist())
    )
    scores = pq_of(truth, found.panoptic)
    assert scores["rq"] == 1
    assert scores["sq"] > 0.95


def test_an_image_without_objects_has_a_loss() -> None:
    model = tiny().train()
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, *SIZE, dtype=torch.bool),
    }
    semantic = torch.full((1, *SIZE), THINGS)
    for positives in POSITIVES:
        model.rule = SampleRule(positives=positives)
        losses = model.loss(
            model(torch.randn(2, 3, *SIZE)[:1]), Targets([nothing], semantic, [SIZE])
        )
        assert losses["loss_box"].item() == losses["loss_borderness"].item() == 0
        sum(losses.values()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_losses_are_weighted() -> None:
    model, images = tiny(semantic_weight=0.5), torch.randn(1, 3, *SIZE)
    instances, semantic, _ = blocks(0)
    labels = torch.from_numpy(semantic.astype(np.int64))[None]
    targets = Targets([objects_of(instances)], labels, [SIZE])
    with torch.no_grad():
        outputs = model(images)
        half = model.loss(outputs, targets)
        model.semantic_weight = 1.0
        whole = model.loss(outputs, targets)
        model.class_weights = torch.tensor([1.0, 0, 0, 0, 0])
        weighted = model.loss(outputs, targets)
        logits = functional.interpolate(outputs["semantic_logits"], SIZE, mode="bilinear")
    assert set(whole) == {"loss_semantic", "loss_box", "loss_borderness"}
    assert half["loss_box"] == whole["loss_box"]
    assert whole["loss_semantic"].item() == pytest.approx(2 * half["loss_semantic"].item())
    every = functional.cross_entropy(logits, labels, reduction="none")
    assert whole["loss_semantic"].item() == pytest.approx(every.mean().item(), rel=1e-5)
    first = every[labels == 0].mean().item()
    assert weighted["loss_semantic"].item() == pytest.approx(first, rel=1e-5)
    assert "loss_centerness" in tiny(quality="centerness").loss(outputs, targets)


def test_points_outside_of_the_image_find_nothing() -> None:
    """Only the padding of a batch looks like a thing here."""
    model = tiny()
    images = torch.zeros(1, 3, *SIZE)
    points = Points.of(SIZE, model.box_head.strides, images.device)
    labels = torch.full((16, 16), THINGS)
    labels[8:] = 0
    outputs = {
        "images": images,
        "semantic_logits": certain(labels, THINGS + STUFF)[None],
        "distances": torch.full((1, len(points.places), 4), 5.0),
        "quality_logits": torch.full((1, len(points.places)), 5.0),
    }
    (padded,), (whole,) = (model.predict(outputs, [size]) for size in ((32, 64), SIZE))
    assert len(padded.instances) == 0
    assert len(whole.instances) > 0
    assert (whole.instances.boxes[:, 3] <= SIZE[0]).all()


# The panoptic head


def on_truth(model: Any, truth: Truth) -> Prediction:
    """The panoptic head with the true semantic map and the true boxes."""
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, *truth.semantic.shape))
    (found,) = predict_with_truth(model, outputs, [truth], ("semantic", "boxes"))
    return found


def in_thing_order(instances: Instances) -> Instances:
    return Instances(instances.masks, instances.labels + 1, instances.boxes)


@pytest.mark.parametrize("seed", range(12))
def test_the_truth_of_separable_boxes_scores_one(seed: int) -> None:
    """Boxes of one class do not meet; those of several classes may, their masks do not."""
    rng = np.random.default_rng(seed)
    owner, labels = np.zeros(SIZE, dtype=int), []
    taken: list[tuple[int, np.ndarray]] = []
    for _ in range(40):
        (y, x), (height, width) = rng.integers(0, 50, 2), rng.integers(4, 24, 2)
        area, label = np.zeros(SIZE, dtype=bool), int(rng.integers(0, THINGS))
        area[y : y + height, x : x + width] = True
        if any(label == other and (area & box).any() for other, box in taken):
            continue
        mask = area & (owner == 0) & (rng.random(SIZE) < 0.6)
        if mask.any():
            taken.append((label, area))
            labels.append(label)
            owner[mask] = len(labels)
    masks = owner == np.arange(1, len(labels) + 1)[:, None, None]
    instances, semantic, truth = scene_of(masks, labels)
    assert len(labels) >= 4
    found = on_truth(tiny(), Truth(semantic, in_thing_order(instances)))
    scores = pq_of(truth, found.panoptic)
    assert scores["pq"] == scores["sq"] == scores["rq"] == 1
    assert (found.semantic == semantic).all()
    assert (found.instances.masks == instances.masks).all()


def ceiling(instances: Instances, semantic: np.ndarray) -> tuple[bool, float]:
    """Whether every object is whole, and the PQ of things, when boxes are pasted in their order.

    An object is the free pixels of its class in its box, unless more than half are taken.
    """
    ids = np.full(semantic.shape, -1)
    for k, (x1, y1, x2, y2) in enumerate(instances.boxes.astype(int).tolist()):
        pixels = [
            (row, column)
            for row in range(y1, y2)
            for column in range(x1, x2)
            if semantic[row, column] == instances.labels[k]
        ]
        free = [pixel for pixel in pixels if ids[pixel] < 0]
        if 2 * (len(pixels) - len(free)) <= len(pixels):
            ids[tuple(zip(*free, strict=True))] = k
    whole, per_class = True, []
    for label in np.unique(instances.labels):
        total = share = 0.0
        for k in np.flatnonzero(instances.labels == label):
            own, mask = ids == k, instances.masks[k]
            whole &= bool((own == mask).all())
            iou = float((own & mask).sum() / (own | mask).sum())
            total += iou if iou > 0.5 else 0.0
            share += 1.0 if iou > 0.5 else 0.5 * (1 + own.any())  # a miss, perhaps a false alarm
        per_class.append(total / share)
    return whole, float(np.mean(per_class))


def test_the_truth_of_digit_scenes_scores_its_ceiling() -> None:
    """Digits of one class whose boxes meet cannot be told apart; all others are exact."""
    torch.manual_seed(0)
    model = create_model("lpsnet_tiny", 10, 4).eval()
    model.panoptic_stuff_area = 0
    classes, met = table(10, 4), 0
    options = SceneOptions(size=64, min_digits=5, max_digits=9, max_digit_size=28)
    for index in range(24):
        scene = compose_scene(options, split="val", index=index)
        assert scene.instances is not None and scene.semantic is not None
        assert scene.panoptic is not None
        whole, expected = ceiling(scene.instances, scene.semantic)
        met += not whole
        truth = Truth(scene.semantic, in_thing_order(scene.instances))
        scores = pq_of(scene.panoptic, on_truth(model, truth).panoptic, classes)
        assert scores["pq_things"] == pytest.approx(expected, abs=1e-12)
        assert scores["pq_stuff"] == 1
        assert (scores["pq"] == 1) == whole
    assert 1 <= met <= 20


def test_surer_boxes_take_shared_pixels_and_doubles_are_discarded() -> None:
    model = tiny()
    semantic = torch.zeros(SIZE, dtype=torch.int64)
    boxes = [(0, 0, 40, 64), (10, 0, 50, 64), (20, 0, 64, 64)]
    masks = np.zeros((3, *SIZE), dtype=bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    instances = Instances(
        masks,
        np.array([1, 1, 1]),
        np.array(boxes, dtype=np.float32),
        np.array([0.9, 0.95, 0.8], dtype=np.float32),
    )
    parts = PanopticParts(instances, certain(semantic, THINGS + STUFF))
    found = model.merge(parts).panoptic
    assert found is not None
    # the second takes its 40 columns; the first has lost 30 of 40, the third 30 of 44
    assert [(s.label, s.area) for s in found.segments] == [(0, 40 * 64)]
    model.panoptic_overlap = 0.7
    found = model.merge(parts).panoptic
    assert found is not None
    assert [s.area for s in found.segments] == [40 * 64, 14 * 64]
    model.panoptic_threshold = 0.96
    found = model.merge(parts).panoptic
    assert found is not None and found.segments == ()


def test_masks_are_the_pixels_of_the_class_in_the_box() -> None:
    model = tiny()
    semantic = torch.full(SIZE, THINGS)
    semantic[10:20, 10:20], semantic[10:20, 20:30] = 1, 2
    masks = np.zeros((2, *SIZE), dtype=bool)
    masks[:, 5:25, 5:40] = True
    boxes = np.array([[5, 5, 40, 25]] * 2, dtype=np.float32)
    instances = Instances(masks, np.array([2, 1]), boxes, np.ones(2, dtype=np.float32))
    found = model.merge(PanopticParts(instances, certain(semantic, THINGS + STUFF)))
    expected = (semantic == 1).numpy()
    assert (found.instances.masks[0] == expected).all()
    assert not found.instances.masks[1].any()
    # class 2 has no box: its pixels are void
    assert ((found.panoptic.ids == 0) == (semantic == 2).numpy()).all()


# What it is made of


def parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def convolution(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> int:
    return inputs * outputs * kernel * kernel + outputs * bias


WIDTH, CLASSES = 128, 133
POOLED = {
    "ppm": 4 * convolution(2048, 512, 1) + convolution(4096, WIDTH, 3),
    "gap": convolution(2048, 512, 1) + convolution(2560, WIDTH, 3),
    "none": convolution(2048, WIDTH, 1),
}


@pytest.mark.parametrize("top", POOLED)
def test_parts_of_the_full_network(top: str) -> None:
    with torch.device("meta"):
        model = create_model("lpsnet_resnet50", 80, 53, top=top)
    laterals = sum(convolution(width, WIDTH, 1) for width in (256, 512, 1024))
    smooth, coarser = 4 * convolution(WIDTH, WIDTH, 3), 2 * convolution(WIDTH, WIDTH, 3)
    assert parameters(model.backbone.body) == 23_454_912
    assert parameters(model.backbone.fpn) == laterals + POOLED[top] + smooth + coarser
    block = convolution(WIDTH, WIDTH, 3, bias=False) + convolution(WIDTH, 18, 3) + 2 * WIDTH
    assert parameters(model.semantic_head) == 4 * block + convolution(4 * WIDTH, CLASSES, 1)
    tower = 4 * (convolution(WIDTH, WIDTH, 3, bias=False) + 2 * WIDTH)
    assert parameters(model.box_head) == tower + convolution(WIDTH, 5, 3) + 5
    if top == "ppm":
        assert parameters(model) == 34_823_959


@pytest.mark.parametrize(("short", "printed"), [(800, 139), (882, 153), (964, 167)])
def test_multiply_adds_are_near_the_printed_ones(short: int, printed: int) -> None:
    """The table grows with the short side alone, so its long side is fixed: 1,333 pixels."""
    with torch.device("meta"):
        model = create_model("lpsnet_resnet50", 80, 53)
    counts = count_macs_by_module(model, (short, 1333))
    assert counts[""] / 1e9 == pytest.approx(printed, rel=0.035)
    heads = counts["semantic_head"] + counts["box_head"]
    assert counts[""] == counts["backbone"] + heads
    assert heads < 0.25 * counts[""]
