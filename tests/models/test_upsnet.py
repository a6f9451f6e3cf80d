"""UPSNet's parts against slow versions, its count, and its panoptic head on the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, Category, CategoryTable, Instances, PanopticMap
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.layers.panoptic_head import (
    IGNORED,
    inside_boxes,
    panoptic_labels,
    panoptic_logits,
    paste_logits,
)
from segbench.layers.unified_merge import choose_objects, settle
from segbench.models import upsnet
from segbench.models.bases.panoptic import PanopticParts, certain
from segbench.models.parts.upsnet_losses import roi_loss, segment_loss
from segbench.models.registry import create_model
from segbench.models.upsnet import UPSNet
from tests.models.targets import Targets

THINGS, STUFF = 3, 2
PARTS = {
    "backbone.body": 23_454_912,
    "backbone.fpn": 3_344_384 + 524_544,
    "rpn": 593_935,
    "roi_heads": 16_954_342,
    "semantic_head.stacks": 1_136_438,
    "semantic_head.predictor": 68_229,
}


@pytest.fixture(scope="module")
def network() -> UPSNet:
    torch.manual_seed(0)
    model: UPSNet = create_model("upsnet_tiny", THINGS, STUFF)
    model.panoptic_stuff_area = 0
    return model.eval()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parts_are_those_of_the_docstring() -> None:
    with torch.device("meta"):
        model = create_model("upsnet_resnet50", 80, 53)
        detector = create_model("mask_rcnn_resnet50_fpn", 81)
    assert {name: count(model.get_submodule(name)) for name in PARTS} == PARTS
    assert count(model) == sum(PARTS.values()) == 46_076_784
    assert count(model) == count(detector) + 1_136_438 + 68_229 + 524_544
    offsets = [m.offsets for m in model.semantic_head.modules() if hasattr(m, "offsets")]
    assert [m.in_channels for m in offsets] == [256, 256, 128]
    assert sum(map(count, offsets)) == 103_734


def test_cityscapes_has_two_layers_and_no_context() -> None:
    with torch.device("meta"):
        model = create_model("upsnet_resnet50", 8, 11, semantic_layers=2, global_context=False)
    shapes = [tuple(p.shape[:2]) for n, p in model.named_parameters() if n.endswith("0.weight")]
    assert (128, 256) in shapes
    assert not any("context" in name for name, _ in model.named_parameters())
    with pytest.raises(ConfigError, match="at least 2, found 1"):
        create_model("upsnet_resnet50", 8, 11, semantic_layers=1)


# The panoptic head, piece by piece


def test_pasted_masks_are_resized_masks() -> None:
    masks = torch.randn(2, 7, 7, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3.0, 2.0, 13.0, 22.0], [-4.0, 10.0, 6.0, 15.0]])
    pasted = paste_logits(masks, boxes, (24, 20))
    whole = functional.interpolate(masks[:1, None], (20, 10), mode="bilinear")[0, 0]
    torch.testing.assert_close(pasted[0, 2:22, 3:13], whole)
    cut = functional.interpolate(masks[1:, None], (5, 10), mode="bilinear")[0, 0]
    torch.testing.assert_close(pasted[1, 10:15, :6], cut[:, 4:])
    inside = inside_boxes(boxes, (24, 20))
    assert inside.sum(dim=(1, 2)).tolist() == [200, 30]
    assert not pasted[~inside].any()


def test_coarse_maps_are_pasted_at_the_centres_of_their_cells() -> None:
    masks = torch.randn(1, 7, 7, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[6.5, 4.0, 27.0, 30.0]])
    fine = paste_logits(masks, boxes, (64, 64))[0]
    between = (fine[1::4, 1::4] + fine[1::4, 2::4] + fine[2::4, 1::4] + fine[2::4, 2::4]) / 4
    coarse = paste_logits(masks, boxes, (16, 16), stride=4)[0]
    assert torch.equal(inside_boxes(boxes, (16, 16), 4)[0].nonzero()[0], torch.tensor([1, 2]))
    torch.testing.assert_close(coarse[3:5, 3:5], between[3:5, 3:5], atol=0.15, rtol=0)


def test_flat_boxes_show_nothing() -> None:
    boxes = torch.tensor([[3.0, 2.0, 3.0, 9.0]])
    pasted = paste_logits(torch.ones(1, 7, 7), boxes, (12, 12))
    assert torch.isfinite(pasted).all()
    assert not pasted.any()


def test_panoptic_logits_equal_the_formula_pixel_by_pixel() -> None:
    generator = torch.Generator().manual_seed(2)
    semantic = torch.randn(THINGS + STUFF, 4, 5, generator=generator)
    inside = torch.rand(3, 4, 5, generator=generator) < 0.5
    masks = torch.randn(3, 4, 5, generator=generator) * inside
    labels = torch.tensor([0, 2, 0])
    found = panoptic_logits(semantic, masks, inside, labels, num_things=THINGS)
    assert found.shape == (STUFF + 3 + 1, 4, 5)
    for y in range(4):
        for x in range(5):
            own = [semantic[k, y, x] if inside[i, y, x] else 0.0 for i, k in enumerate(labels)]
            objects = [value + masks[i, y, x] for i, value in enumerate(own)]
            unknown = max(semantic[:THINGS, y, x]) - max(own)
            expected = [*semantic[THINGS:, y, x], *objects, unknown]
            assert found[:, y, x].tolist() == pytest.approx([float(v) for v in expected])


def test_without_objects_things_are_unknown() -> None:
    semantic = certain(torch.tensor([[0, 2, 3, 4]]), THINGS + STUFF)
    nothing = torch.zeros(0, 1, 4)
    labels = torch.zeros(0, dtype=torch.int64)
    found = panoptic_logits(semantic, nothing, nothing.bool(), labels, num_things=THINGS)
    assert found.argmax(dim=0).tolist() == [[STUFF, STUFF, 0, 1]]


def test_labels_of_the_panoptic_loss() -> None:
    semantic = torch.tensor([[0, 0, 1, 3, 4, IGNORE_INDEX, IGNORE_INDEX]])
    masks = torch.tensor([[[1, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0, 1]]]).bool()
    found = panoptic_labels(semantic, masks, num_things=THINGS, num_stuff=STUFF)
    unknown = STUFF + 2
    assert found.tolist() == [[STUFF, unknown, unknown, 0, 1, IGNORED, STUFF + 1]]


# The losses


def boxed(*boxes: tuple[int, int, int, int], side: int = 64) -> dict[str, torch.Tensor]:
    """Objects that fill their boxes, labels 1, 2, 3, 1, ..."""
    masks = torch.zeros(len(boxes), side, side, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.arange(len(boxes)) % 3 + 1, "masks": masks}


def labelled(objects: dict[str, torch.Tensor]) -> torch.Tensor:
    semantic = torch.full((64, 64), THINGS)
    semantic[:, 32:] = THINGS + 1
    for mask, label in zip(objects["masks"], objects["labels"], strict=True):
        semantic[mask] = label - 1
    return semantic


def test_panoptic_loss_of_the_truth_is_nothing() -> None:
    objects = boxed((4, 8, 28, 32), (32, 8, 60, 40), (8, 36, 28, 60), (30, 44, 50, 60))
    semantic = labelled(objects)
    logits = certain(semantic[2::4, 2::4], THINGS + STUFF)
    masks = torch.full((4, 28, 28), 20.0)
    assert segment_loss(logits, masks, objects, semantic, num_things=THINGS) < 1e-6
    # the fourth is unknown
    some = {key: value[:3] for key, value in objects.items()}
    assert segment_loss(logits, masks[:3], some, semantic, num_things=THINGS) < 1e-6
    assert segment_loss(logits, -masks, objects, semantic, num_things=THINGS) > 1
    wrong = {**objects, "labels": objects["labels"].flip(0)}
    assert segment_loss(logits, masks, wrong, semantic, num_things=THINGS) > 0.1


def test_a_share_of_the_objects_is_unknown_to_the_panoptic_loss(
    network: UPSNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(
        logits: Any, masks: torch.Tensor, known: Any, semantic: Any, *, num_things: int
    ) -> torch.Tensor:
        assert len(masks) == len(known["labels"]) == len(known["masks"]) == len(known["boxes"])
        seen.append(len(masks))
        return logits.sum() * 0

    monkeypatch.setattr(upsnet, "segment_loss", note)
    many = boxed(*((4 * i, 4 * i, 4 * i + 20, 4 * i + 20) for i in range(10)))
    images = [many, boxed((4, 8, 28, 32)), boxed()]
    semantic = torch.stack([labelled(one) for one in images])
    with torch.no_grad():
        network.loss(network(torch.randn(3, 3, 64, 64)), Targets(images, semantic, [(64, 64)] * 3))
    assert seen == [7, 1, 0]


def test_roi_loss_is_the_cross_entropy_inside_the_boxes() -> None:
    generator = torch.Generator().manual_seed(3)
    constant = torch.randn(2, THINGS + STUFF, 1, 1, generator=generator)
    logits = constant.expand(-1, -1, 16, 16)
    semantic = torch.randint(0, THINGS + STUFF, (2, 64, 64), generator=generator)
    semantic[0, :30, :20] = IGNORE_INDEX
    boxes = [torch.tensor([[8.0, 8.0, 36.0, 64.0]]), torch.tensor([[0.0, 0.0, 28.0, 28.0]])]
    # 28 places on 28 columns: each is one pixel; on 56 rows every second one
    crops = [semantic[0, 9:64:2, 8:36], semantic[1, :28, :28]]
    scores = torch.log_softmax(constant[:, :, 0, 0], dim=1)
    picked = [scores[n][crop[crop != IGNORE_INDEX]] for n, crop in enumerate(crops)]
    expected = -torch.cat(picked).mean()
    torch.testing.assert_close(roi_loss(logits, semantic, boxes), expected)


def test_roi_loss_reads_the_place_of_the_box() -> None:
    semantic = torch.zeros(1, 64, 64, dtype=torch.int64)
    semantic[:, 16:48, 24:40] = 4
    logits = certain(semantic[0, 2::4, 2::4], 5)[None].requires_grad_()
    inside = roi_loss(logits, semantic, [torch.tensor([[26.0, 18.0, 38.0, 46.0]])])
    assert inside < 1e-6
    moved = roi_loss(logits, semantic.roll(32, 2), [torch.tensor([[26.0, 18.0, 38.0, 46.0]])])
    assert moved > 10
    nothing = roi_loss(logits, semantic, [torch.zeros(0, 4)])
    nothing.backward()
    assert nothing == 0 and logits.grad is not None and not logits.grad.any()


def test_losses_are_named_and_weighted(network: UPSNet) -> None:
    objects = boxed((4, 8, 28, 32), (32, 8, 60, 40))
    targets = Targets([objects], labelled(objects)[None], [(64, 64)])
    outputs = network(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(4)))
    torch.manual_seed(5)
    losses = network.loss(outputs, targets)
    extra = {"loss_semantic", "loss_roi", "loss_panoptic"}
    assert extra < losses.keys()
    assert len(losses) == 8
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())
    plain: UPSNet = create_model("upsnet_tiny", THINGS, STUFF)
    plain.load_state_dict(network.state_dict())
    plain.semantic_weight, plain.roi_weight, plain.panoptic_weight = 1.0, 0.0, 0.0
    torch.manual_seed(5)
    single = plain.loss(outputs, targets)
    assert "loss_roi" not in single
    torch.testing.assert_close(
        network.semantic_weight * single["loss_semantic"], losses["loss_semantic"]
    )
    with pytest.raises(ConfigError, match="semantic map"):
        network.loss(outputs, replace(targets, semantic=None))


# Which objects take part, and what they end up as


def instances(masks: Any, labels: list[int], scores: Any, boxes: Any = None) -> Instances:
    masks = np.asarray(masks, dtype=bool)
    if boxes is None:
        boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in map(np.nonzero, masks)]
    corners = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    values = None if scores is None else np.asarray(scores, dtype=np.float32)
    return Instances(masks, np.asarray(labels, dtype=np.int64), corners, values)


def rows_of(*spans: tuple[int, int]) -> np.ndarray:
    """Masks of 1 x 20 pixels."""
    masks = np.zeros((len(spans), 1, 20), dtype=bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[0, start:stop] = True
    return masks


def chosen(objects: Instances) -> list[int]:
    return choose_objects(objects, score_threshold=0.5, overlap_threshold=0.3)


def test_objects_are_chosen_by_score_box_and_mask() -> None:
    spans = rows_of((0, 10), (8, 18), (5, 15))
    far = [[0, 0, 10, 1], [30, 0, 40, 1], [60, 0, 70, 1]]
    assert chosen(instances(spans, [1, 1, 1], [0.9, 0.5, 0.4], far)) == [0, 1]
    # half of the third is covered by its class; of another class it stays
    assert chosen(instances(spans, [1, 2, 1], [0.6, 0.7, 0.5], far)) == [1, 0]
    assert chosen(instances(spans, [1, 2, 3], [0.6, 0.7, 0.5], far)) == [1, 0, 2]
    # 3 of 10 pixels covered are not more than the threshold, 4 are
    assert chosen(instances(rows_of((0, 10), (7, 17)), [1, 1], [0.9, 0.8], far[:2])) == [0, 1]
    assert chosen(instances(rows_of((0, 10), (6, 16)), [1, 1], [0.9, 0.8], far[:2])) == [0]
    assert chosen(instances(rows_of((0, 0), (6, 16)), [1, 1], [0.9, 0.8], far[:2])) == [1]


def test_boxes_suppress_across_classes_unless_scores_are_equal() -> None:
    spans = rows_of((0, 5), (5, 10), (10, 15))
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4]]
    assert chosen(instances(spans, [1, 2, 3], [0.7, 0.8, 0.6], boxes)) == [1, 2]
    assert chosen(instances(spans, [1, 2, 3], [1.0, 1.0, 1.0], boxes)) == [0, 1, 2]
    assert chosen(instances(spans[:0], [], [], [])) == []
    with pytest.raises(ValueError, match="score"):
        chosen(instances(spans, [1, 2, 3], None, boxes))


def test_objects_that_the_semantic_head_calls_stuff_become_stuff() -> None:
    masks = rows_of((0, 4), (4, 8), (8, 12), (12, 16))
    semantic = np.array([[3] * 4 + [3, 3, 0, 0] + [3, 0, 1, 1] + [2] * 4 + [4] * 4])
    stuff = np.where(np.arange(20) < 16, IGNORE_INDEX, 4)[None]
    objects = instances(masks, [1, 1, 1, 3], [0.9, 0.8, 0.7, 0.6])
    found = settle(objects, stuff, semantic, num_things=THINGS, stuff_area=0)
    assert [(s.label, s.area, s.isthing) for s in found.segments] == [
        (0, 4, True),  # a tie of stuff and its class: the class, which is listed first
        (0, 4, True),
        (2, 4, True),
        (3, 4, False),
        (4, 4, False),
    ]
    small = settle(objects, stuff, semantic, num_things=THINGS, stuff_area=5)
    assert [s.label for s in small.segments] == [0, 0, 2]
    assert not objects.masks[0, 0, 4:].any() and objects.masks[0, 0, :4].all()


# The truth


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Regions round random points, which cross each other's boxes, and the class of each pixel.

    Regions are numbered; regions of class 255 are void.
    """
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(20, 60, 2))
    number = int(rng.integers(4, 12))
    points = rng.random((number, 2)) * size
    places = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)[:, :, None]
    regions = ((places - points) ** 2).sum(axis=-1).argmin(axis=-1)
    classes = rng.choice([0, 0, 1, 2, 3, 4, IGNORE_INDEX], number)
    return regions, classes[regions]


def truth_parts(regions: np.ndarray, semantic: np.ndarray, scores: Any = None) -> PanopticParts:
    objects = [int(n) for n in np.unique(regions[semantic < THINGS])]
    masks = np.zeros((len(objects), *regions.shape), dtype=bool)
    for mask, n in zip(masks, objects, strict=True):
        mask[regions == n] = True
    labels = [int(semantic[mask][0]) + 1 for mask in masks]
    values = np.ones(len(objects)) if scores is None else scores[: len(objects)]
    logits = certain(torch.from_numpy(semantic.astype(np.int64)), THINGS + STUFF)
    return PanopticParts(instances(masks, labels, values), logits)


def quality(regions: np.ndarray, semantic: np.ndarray, found: PanopticMap) -> float:
    table = CategoryTable(
        tuple(Category(i, str(i), i < THINGS, (0, 0, 0)) for i in range(THINGS + STUFF))
    )
    ids = np.where(semantic < THINGS, regions + 100, semantic.astype(int) + 1)
    ids[semantic == IGNORE_INDEX] = 0
    segments = [
        {"id": int(i), "category_id": int(semantic[ids == i][0]), "iscrowd": 0}
        for i in np.unique(ids[ids > 0])
    ]
    counts = panoptic.count(
        ids,
        found.ids,
        truth_segments=segments,
        predicted_segments=[{"id": s.id, "category_id": s.label} for s in found.segments],
        categories=table,
    )
    return float(panoptic.scores(counts, get_protocol("coco-panoptic"))["pq"])


@pytest.mark.parametrize("seed", range(40))
def test_the_head_on_the_truth_is_perfect(network: UPSNet, seed: int) -> None:
    regions, semantic = world(seed)
    if (semantic == IGNORE_INDEX).all():
        pytest.skip("nothing but void")
    parts = truth_parts(regions, semantic)
    found = network.merge(parts)
    assert quality(regions, semantic, found.panoptic) == 1.0
    known = semantic != IGNORE_INDEX
    np.testing.assert_array_equal(found.semantic[known], semantic[known])
    chances = replace(parts, mask_scores=parts.instances.masks.astype(np.float32))
    np.testing.assert_array_equal(network.merge(chances).panoptic.ids, found.panoptic.ids)


def test_an_object_that_is_not_found_becomes_unknown(network: UPSNet) -> None:
    """But for its pixels in the box of another object of its class, which may take them."""
    lost = 0
    for seed in range(10):
        regions, semantic = world(seed)
        whole = truth_parts(regions, semantic)
        objects = whole.instances
        if len(objects) < 2:
            continue
        fewer = instances(objects.masks[1:], objects.labels[1:].tolist(), objects.scores[1:])
        found = network.merge(replace(whole, instances=fewer)).panoptic
        same = torch.from_numpy(fewer.boxes[fewer.labels == objects.labels[0]])
        alone = objects.masks[0] & ~inside_boxes(same, regions.shape).any(dim=0).numpy()
        assert not found.ids[alone].any()
        assert quality(regions, semantic, found) < 1
        lost += int(alone.sum())
    assert lost > 500


def test_masks_outside_of_their_boxes_take_part_where_an_oracle_gives_them(
    network: UPSNet,
) -> None:
    regions, semantic = world(1)
    parts = truth_parts(regions, semantic)
    cut = parts.instances.boxes.copy()
    cut[:, 2] -= 2
    parts = replace(parts, instances=replace(parts.instances, boxes=cut))
    assert quality(regions, semantic, network.merge(parts).panoptic) == 1.0


def test_chances_are_those_of_the_masks_inside_the_boxes(network: UPSNet) -> None:
    regions = {
        "boxes": torch.tensor([[2.0, 3.0, 30.0, 31.0], [0.0, 0.0, 8.0, 8.0]]),
        "scores": torch.tensor([0.9, 0.1]),
        "labels": torch.tensor([1, 2]),
        "masks": torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(6)),
    }
    chances = network._chances(regions, (40, 36))
    np.testing.assert_allclose(chances[0, 3:31, 2:30], regions["masks"][0, 0].numpy(), atol=1e-5)
    assert chances[0].astype(bool).sum() == 28 * 28
    assert not chances[1].any()  # below the threshold of the panoptic head
