"""Mask2Former: counts, order of its layers, matching, sampled losses, panoptic inference."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from click import BadParameter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segbench.cli.profile import classes_of
from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, VOID, Category, CategoryTable, Instances, Prediction
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.inference.oracles import Truth as OracleTruth
from segbench.inference.oracles import predict_with_truth
from segbench.inference.predict import averaged_logits, slide_logits
from segbench.layers.query_merge import ScoredMasks, merge_masks
from segbench.models.mask2former import Mask2Former
from segbench.models.parts.mask2former_loss import (
    MaskCriterion,
    MaskTruth,
    pairwise_dice_cost,
    pairwise_mask_cost,
    sample_points,
)
from segbench.models.parts.mask2former_prediction import QueryParts
from segbench.models.parts.mask2former_transformer import MaskPrediction, QueryDecoder, QueryLayer
from segbench.models.profiling.costs import count_macs_by_module
from segbench.models.registry import create_model, model_info
from segbench.training.build import build_model, class_counts
from segbench.training.recipe import Recipe
from tests.models.targets import Targets

COUNTS = [
    ("mask2former_resnet50", (80, 53), {}, 43_983_878),
    ("mask2former_resnet50", (0, 150), {}, 43_988_247),
    ("mask2former_resnet50", (8, 11), {"frozen_norm": False}, 44_007_700),
    ("mask2former_swin_t", (80, 53), {}, 47_435_264),
    ("mask2former_internimage_h", (0, 150), {}, 1_313_496_135),  # published as 1.31 B
]
THINGS, STUFF = 2, 2
SIZES = [(96, 64), (64, 96)]
CERTAIN = 30.0


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def on_meta() -> Mask2Former:
    with torch.device("meta"):
        model: Mask2Former = create_model("mask2former_resnet50", 80, 53)
    return model


def tiny(things: int = THINGS, stuff: int = STUFF, **options: Any) -> Mask2Former:
    torch.manual_seed(0)
    model: Mask2Former = create_model("mask2former_tiny", things, stuff, **options)
    return model


def strips() -> tuple[np.ndarray, np.ndarray]:
    """Six upright strips, 96 x 96: their numbers, and their panoptic indices."""
    widths = [16, 12, 20, 8, 24, 16]
    numbers = np.repeat(np.arange(6), widths)[None].repeat(96, 0)
    return numbers, np.array([0, 2, 0, 1, 3, 2])[numbers]


def true_queries(*, queries: int = 9) -> dict[str, Any]:
    """Outputs whose first six queries, of nine, are certain of the strips; the rest are none."""
    numbers, labels = strips()
    classes = torch.full((1, queries, THINGS + STUFF + 1), -CERTAIN)
    masks = torch.full((1, queries, 24, 24), -CERTAIN)
    for query in range(queries):
        if query < 6:
            classes[0, query, labels[numbers == query][0]] = CERTAIN
            masks[0, query][torch.from_numpy(numbers[::4, ::4] == query)] = CERTAIN
        else:
            classes[0, query, -1] = CERTAIN
    return {"classes": [classes], "masks": [masks]}


def quality(found: Prediction, numbers: np.ndarray, labels: np.ndarray) -> float:
    """Return the PQ of one image whose segments are the strips of things and the stuff classes."""
    table = CategoryTable(tuple(Category(i, str(i), i < THINGS, (0, 0, 0)) for i in range(4)))
    truth = np.where(labels < THINGS, numbers + 10, labels + 1)
    segments = [
        {"id": int(i), "category_id": int(labels[truth == i][0]), "iscrowd": 0}
        for i in np.unique(truth)
    ]
    assert found.panoptic is not None
    counts = panoptic.count(
        truth,
        found.panoptic.ids,
        truth_segments=segments,
        predicted_segments=[{"id": s.id, "category_id": s.label} for s in found.panoptic.segments],
        categories=table,
    )
    return float(panoptic.scores(counts, get_protocol("coco-panoptic"))["pq"])


@pytest.mark.parametrize(("name", "classes", "options", "expected"), COUNTS)
def test_published_parameter_count(name, classes, options, expected) -> None:
    with torch.device("meta"):
        model = create_model(name, *classes, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_learned_norms_are_the_difference_on_cityscapes() -> None:
    with torch.device("meta"):
        fixed, learned = (
            create_model("mask2former_resnet50", 8, 11, frozen_norm=frozen)
            for frozen in (True, False)
        )
    count = [sum(p.numel() for p in model.parameters()) for model in (fixed, learned)]
    assert count[1] - count[0] == 53_120


def test_ten_predictions_and_layers_that_read_the_maps_in_turn(on_meta: Mask2Former) -> None:
    images, places = torch.empty(2, 3, 96, 64, device="meta"), []
    hooks = [
        layer.cross_attention.register_forward_pre_hook(
            lambda _, given: places.append(given[1].shape[1])
        )
        for layer in on_meta.query_decoder.layers
    ]
    outputs, final = on_meta.train()(images), on_meta.eval()(images)
    for hook in hooks:
        hook.remove()
    assert places[:9] == [3 * 2, 6 * 4, 12 * 8] * 3  # strides 32, 16, 8
    assert [tuple(c.shape) for c in outputs["classes"]] == [(2, 100, 134)] * 10
    assert [tuple(m.shape) for m in outputs["masks"]] == [(2, 100, 24, 16)] * 10
    assert len(final["classes"]) == len(final["masks"]) == 1


def test_pixel_decoder_has_six_layers_on_three_maps_and_a_step_to_stride_4(
    on_meta: Mask2Former,
) -> None:
    decoder = on_meta.pixel_decoder
    maps = [torch.empty(1, 256 << i, 32 >> i, 32 >> i, device="meta") for i in range(4)]
    finest, levels = decoder(maps)
    assert len(decoder.layers) == 6
    assert all(layer.attention.levels == 3 for layer in decoder.layers)
    assert finest.shape == (1, 256, 32, 32)
    assert [level.shape[-1] for level in levels] == [4, 8, 16]


def test_cross_attention_comes_before_self_attention_and_nothing_is_dropped() -> None:
    layer = QueryLayer(8, heads=2, feedforward=16)
    order = []
    for name, module in layer.named_children():
        module.register_forward_pre_hook(lambda _, __, name=name: order.append(name))
    queries, tokens = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    hidden = torch.zeros(2, 3, 5, dtype=torch.bool)
    layer(queries, torch.randn(3, 8), tokens, tokens, hidden)
    assert order == [
        "cross_attention", "cross_norm", "self_attention", "self_norm", "expand", "reduce", "norm",
    ]  # fmt: skip
    attention = [m for m in tiny().modules() if isinstance(m, torch.nn.MultiheadAttention)]
    assert len(attention) == 6 and all(m.dropout == 0 for m in attention)
    assert not any(isinstance(m, torch.nn.Dropout) and m.p for m in tiny().modules())


def test_queries_look_within_their_masks_and_everywhere_when_these_are_empty() -> None:
    decoder = QueryDecoder(3, 8, queries=3, layers=3, heads=2, feedforward=8)
    masks = torch.full((1, 3, 8, 8), -1.0)
    masks[0, 0, :4] = 1.0
    masks[0, 1, :, 6:] = 1.0
    prediction = MaskPrediction(torch.zeros(1, 3, 4), masks)
    hidden = decoder._hidden(prediction, torch.zeros(1, 8, 4, 4)).reshape(2, 3, 4, 4)
    seen = ~hidden
    assert torch.equal(seen[0], seen[1])  # every head
    assert seen[0, 0, :2].all() and not seen[0, 0, 2:].any()
    assert seen[0, 1, :, 3].all() and not seen[0, 1, :, :3].any()
    assert seen[0, 2].all()


def test_a_query_does_not_depend_on_what_is_hidden_from_it() -> None:
    layer = QueryLayer(8, heads=2, feedforward=16).double()
    queries, positions = torch.randn(1, 2, 8).double(), torch.randn(2, 8).double()
    tokens, others = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    hidden = torch.zeros(2, 2, 5, dtype=torch.bool)
    hidden[:, :, 3:] = True
    changed = torch.where(torch.arange(5)[None, :, None] < 3, tokens, others)
    first, second, third = (
        layer(queries, positions, t, t, h)
        for t, h in ((tokens, hidden), (changed, hidden), (changed, torch.zeros_like(hidden)))
    )
    torch.testing.assert_close(first, second)
    assert not torch.allclose(second, third)


def test_costs_equal_those_of_each_pair() -> None:
    logits, truth = torch.randn(4, 50, dtype=torch.float64), torch.rand(3, 50, dtype=torch.float64)
    masks, dices = pairwise_mask_cost(logits, truth), pairwise_dice_cost(logits, truth)
    for q, n in itertools.product(range(4), range(3)):
        expected = functional.binary_cross_entropy_with_logits(logits[q], truth[n])
        torch.testing.assert_close(masks[q, n], expected)
        chance = logits[q].sigmoid()
        dice = (2 * (chance * truth[n]).sum() + 1) / (chance.sum() + truth[n].sum() + 1)
        torch.testing.assert_close(dices[q, n], 1 - dice)


@settings(max_examples=25, deadline=None)
@given(queries=st.integers(1, 4), masks=st.integers(0, 4), seed=st.integers(0, 999))
def test_matching_is_the_cheapest_of_all_permutations(queries, masks, seed) -> None:
    torch.manual_seed(seed)
    criterion = MaskCriterion(points=20)
    classes, logits = torch.randn(1, queries, 4), 3 * torch.randn(1, queries, 6, 6)
    truth = MaskTruth(torch.randint(0, 3, (masks,)), torch.rand(masks, 24, 24) > 0.5)
    torch.manual_seed(seed)
    ((rows, columns),) = criterion.match(classes, logits, [truth])
    torch.manual_seed(seed)
    points = torch.rand(1, 20, 2)  # those the matching draws
    seen = sample_points(truth.masks[None].float(), points)[0]
    own = sample_points(logits, points)[0]
    cost = (
        5 * pairwise_mask_cost(own, seen)
        + 5 * pairwise_dice_cost(own, seen)
        - 2 * classes[0].softmax(-1)[:, truth.labels]
    ).numpy()
    pairs = min(queries, masks)
    assert len(rows) == len(columns) == pairs
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == pairs
    smallest = min(
        sum(cost[q, n] for q, n in zip(some, others, strict=True))
        for some in itertools.permutations(range(queries), pairs)
        for others in itertools.combinations(range(masks), pairs)
    )
    assert cost[rows, columns].sum() == pytest.approx(smallest, abs=1e-5)


def test_points_are_sampled_between_pixels_as_a_resized_map_is() -> None:
    maps = torch.randn(2, 3, 5, 7)
    rows, columns = torch.meshgrid(torch.arange(10), torch.arange(14), indexing="ij")
    centres = torch.stack([(columns + 0.5) / 14, (rows + 0.5) / 10], dim=-1).reshape(1, -1, 2)
    found = sample_points(maps, centres.expand(2, -1, -1)).reshape(2, 3, 10, 14)
    resized = functional.interpolate(maps, (10, 14), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], resized[..., 1:-1, 1:-1])


def test_three_quarters_of_the_points_lie_where_masks_are_least_certain() -> None:
    criterion = MaskCriterion(points=400)
    ramp = torch.linspace(-8, 8, 64).expand(2, 64, 64)
    points = criterion.uncertain_points(ramp.contiguous())
    assert points.shape == (2, 400, 2)
    assert ((points >= 0) & (points < 1)).all()
    # The 300 most uncertain of 1,200 lie in the middle quarter of the ramp, or at the border,
    # where a sampled map fades to 0.
    middle = (points[..., 0] - 0.5).abs() < 0.15
    border = ((points - 0.5).abs() > 0.5 - 0.5 / 64).any(dim=-1)
    assert (middle | border)[:, :300].all()
    assert middle[:, :300].float().mean() > 0.8
    assert (middle[:, 300:].float().mean() - 0.3).abs() < 0.1


def test_defaults_are_the_paper_s(on_meta: Mask2Former) -> None:
    wanted = {
        "points": 12_544, "oversample": 3.0, "importance": 0.75, "class_weight": 2.0,
        "mask_weight": 5.0, "dice_weight": 5.0, "no_object": 0.1,
    }  # fmt: skip
    assert vars(MaskCriterion()) == wanted
    assert on_meta.criterion == MaskCriterion()
    assert (on_meta.panoptic_threshold, on_meta.panoptic_overlap) == (0.8, pytest.approx(1 - 0.8))


def test_losses_of_one_prediction_by_hand() -> None:
    """Flat masks make every point alike, so the sums can be written down."""
    criterion = MaskCriterion(points=16)
    classes = torch.zeros(1, 2, 3)
    classes[0, 0, 1] = 2.0
    masks = torch.full((1, 2, 4, 4), -4.0)
    masks[0, 0] = 1.0
    # Larger than the map, so that no sampled point lies at its border, where truth fades.
    truth = [MaskTruth(torch.tensor([1]), torch.ones(1, 4, 4, dtype=torch.bool))]
    torch.manual_seed(3)
    losses = criterion(classes, masks, truth)
    chances = classes[0].softmax(-1)
    expected = -(chances[0, 1].log() + 0.1 * chances[1, 2].log()) / 1.1
    torch.testing.assert_close(losses["class"], 2 * expected)
    torch.manual_seed(3)
    torch.rand(1, 16, 2)  # of the matching
    points = criterion.uncertain_points(masks[0, :1])
    seen = sample_points(torch.ones(1, 1, 4, 4), points)[0, 0]
    given = sample_points(masks[:, :1], points)[0, 0]
    entropy = functional.binary_cross_entropy_with_logits(given, seen)
    torch.testing.assert_close(losses["mask"], 5 * entropy)
    dice = (2 * (given.sigmoid() * seen).sum() + 1) / (given.sigmoid().sum() + seen.sum() + 1)
    torch.testing.assert_close(losses["dice"], 5 * (1 - dice))


def test_image_without_masks_teaches_no_object_alone() -> None:
    classes = torch.randn(1, 3, 4, requires_grad=True)
    masks = torch.randn(1, 3, 8, 8, requires_grad=True)
    truth = [MaskTruth(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 32, 32) > 0)]
    losses = MaskCriterion(points=16)(classes, masks, truth)
    sum(losses.values()).backward()
    expected = -classes.detach().log_softmax(-1)[0, :, 3].mean()
    torch.testing.assert_close(losses["class"].detach(), 2 * expected)
    assert losses["mask"] == losses["dice"] == 0
    assert masks.grad is not None and not masks.grad.any()


def test_true_queries_have_almost_no_loss_and_shifted_ones_have() -> None:
    model, (numbers, labels) = tiny(), strips()
    outputs = true_queries()
    things = [n for n in range(6) if labels[numbers == n][0] < THINGS]
    objects = {
        "labels": torch.tensor([labels[numbers == n][0] + 1 for n in things]),
        "masks": torch.from_numpy(np.stack([numbers == n for n in things])),
    }
    # Each strip of stuff becomes a mask of its own class: two of class 2 are one region.
    masks = outputs["masks"][0]
    masks[0, 1] = torch.maximum(masks[0, 1], masks[0, 5])
    outputs["classes"][0][0, 5] = outputs["classes"][0][0, 6]
    targets = Targets([objects], torch.from_numpy(labels)[None], [(96, 96)])
    losses = model.loss(outputs, targets)
    assert float(losses["class"]) < 1e-3
    assert float(losses["dice"]) < 0.3  # uncertain points lie on the borders
    shifted = {**outputs, "masks": [masks.roll(6, dims=-1)]}
    assert float(model.loss(shifted, targets)["dice"]) > 5 * float(losses["dice"])


def test_losses_add_up_over_the_depths() -> None:
    model = tiny().train()
    images = torch.randn(1, 3, 96, 96)
    numbers, labels = strips()
    objects = {"labels": torch.tensor([1]), "masks": torch.from_numpy(numbers == 0)[None]}
    targets = Targets([objects], torch.from_numpy(labels)[None], [(96, 96)])
    outputs = model(images)
    assert len(outputs["classes"]) == 4
    whole = model.loss(outputs, targets)
    singles = [
        model.loss({"classes": [c], "masks": [m]}, targets)["class"].detach()
        for c, m in zip(outputs["classes"], outputs["masks"], strict=True)
    ]
    assert float(whole["class"].detach()) == pytest.approx(float(sum(singles)), rel=0.05)


def test_ignored_pixels_belong_to_no_mask() -> None:
    model = tiny()
    semantic = torch.full((1, 64, 64), IGNORE_INDEX)
    semantic[:, :16] = 2
    nothing = {"labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 64, 64) > 0}
    targets = Targets([nothing], semantic, [(64, 64)])
    truth = model._truth(targets, 0, (96, 64))
    assert truth.labels.tolist() == [2]
    assert truth.masks.shape == (1, 96, 64)
    assert truth.masks[0, :16].all() and not truth.masks[0, 16:].any()


@pytest.mark.parametrize(("semantic", "word"), [(True, "instances"), (False, "semantic map")])
def test_missing_truth_is_refused(semantic: bool, word: str) -> None:
    maps = torch.zeros(1, 96, 96, dtype=torch.int64)
    objects = [{"labels": torch.tensor([1]), "masks": torch.ones(1, 96, 96) > 0}]
    targets = Targets(None if semantic else objects, maps if semantic else None, [(96, 96)])
    with pytest.raises(ConfigError, match=f"needs targets with a?n? ?{word}"):
        tiny().loss(true_queries(), targets)


def test_true_queries_give_pq_1() -> None:
    numbers, labels = strips()
    (found,) = tiny().predict(true_queries(), [(96, 96)])
    assert quality(found, numbers, labels) == 1.0
    np.testing.assert_array_equal(found.semantic, labels)
    assert found.instances is not None and found.panoptic is not None
    assert sorted(found.instances.labels.tolist()) == [1, 1, 2]
    assert found.instances.scores is not None and found.instances.scores.min() > 0.99
    boxes = {tuple(box) for box in found.instances.boxes.tolist()}
    assert boxes == {(0, 0, 16, 96), (28, 0, 48, 96), (48, 0, 56, 96)}
    assert sorted(s.label for s in found.panoptic.segments) == [0, 0, 1, 2, 3]
    assert all(s.area == (found.panoptic.ids == s.id).sum() for s in found.panoptic.segments)


def test_padding_is_cut_off() -> None:
    (whole,) = tiny().predict(true_queries(), [(96, 96)])
    (part,) = tiny().predict(true_queries(), [(90, 50)])
    assert part.panoptic is not None and whole.panoptic is not None
    assert part.panoptic.ids.shape == part.semantic.shape == (90, 50)
    np.testing.assert_array_equal(part.semantic, whole.semantic[:90, :50])


def masks_of(rows: list[list[float]], labels: list[int], scores: list[float]) -> ScoredMasks:
    chances = torch.tensor(rows)[:, None, :]
    return ScoredMasks(torch.tensor(labels), torch.tensor(scores), chances)


def test_merge_gives_pixels_to_score_times_chance() -> None:
    masks = masks_of(
        [[0.9, 0.9, 0.6, 0.0], [0.0, 0.0, 0.7, 0.9]], labels=[0, 1], scores=[1.0, 0.85]
    )
    found = merge_masks(masks, num_things=2, overlap_threshold=0.5)
    np.testing.assert_array_equal(found.ids, [[1, 1, 1, 2]])  # 0.6 > 0.85 x 0.7
    assert [(s.label, s.area) for s in found.segments] == [(0, 3), (1, 1)]


def test_merge_leaves_out_what_lost_too_much_or_scored_too_low() -> None:
    rows = [[0.9, 0.9, 0.9, 0.9, 0.0], [0.8, 0.0, 0.0, 0.0, 0.9], [0.0, 0.0, 0.0, 0.0, 1.0]]
    masks = masks_of(rows, labels=[0, 1, 1], scores=[0.95, 0.9, 0.8])
    found = merge_masks(masks, num_things=2)
    np.testing.assert_array_equal(found.ids, [[1, 1, 1, 1, VOID]])  # half of the second is lost
    found = merge_masks(masks, num_things=2, overlap_threshold=0.5)
    np.testing.assert_array_equal(found.ids, [[1, 1, 1, 1, 2]])
    found = merge_masks(masks, num_things=2, score_threshold=0.92)
    assert [s.label for s in found.segments] == [0]
    nothing = merge_masks(masks, num_things=2, score_threshold=0.99)
    assert nothing.segments == () and not nothing.ids.any()


def test_merge_joins_stuff_of_a_class_and_keeps_things_apart() -> None:
    rows = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.4]]
    for label, expected in ((0, [[1, 2, 3, VOID]]), (2, [[1, 1, 1, VOID]])):
        found = merge_masks(masks_of(rows, [label] * 4, [0.9] * 4), num_things=2)
        np.testing.assert_array_equal(found.ids, expected)  # below one half stays void


def test_a_query_with_two_likely_classes_is_one_segment() -> None:
    """Pairs of a query and a class are listed; the less likely class of a query wins nothing."""
    outputs = true_queries()
    outputs["classes"][0][0, 3] = torch.tensor([0.0, 0.2, -9.0, -9.0, -9.0])
    model = tiny()
    model.panoptic_threshold = 0.3
    (found,) = model.predict(outputs, [(96, 96)])
    numbers, labels = strips()
    assert len(found.instances) == 4 and found.panoptic is not None
    assert quality(found, numbers, labels) == 1.0


def test_oracles_of_masks_and_semantics_take_part_in_the_merge() -> None:
    model, (numbers, labels) = tiny(), strips()
    truth = OracleTruth(
        labels.astype(np.uint8),
        Instances(
            masks=np.stack([numbers == n for n in (0, 2, 3)]),
            labels=np.array([1, 1, 2]),
            boxes=np.array([[0, 0, 16, 96], [28, 0, 48, 96], [48, 0, 56, 96]], dtype=np.float32),
        ),
    )
    outputs = true_queries()
    masks = outputs["masks"][0]
    masks[0, 2, :6] = -CERTAIN  # an object loses a quarter
    masks[0, 4] = -CERTAIN  # a stuff class is not seen
    scores = {}
    for oracles in ((), ("masks",), ("semantic",), ("masks", "semantic")):
        (found,) = predict_with_truth(model, outputs, [truth], oracles)
        scores[oracles] = quality(found, numbers, labels)
    assert scores[()] < scores["masks",] < scores["masks", "semantic"] == 1.0
    assert scores[()] < scores["semantic",] < 1.0


def test_boxes_cannot_be_given() -> None:
    (found,) = tiny().predict(true_queries(), [(96, 96)])
    assert found.instances is not None
    with pytest.raises(ConfigError, match="without boxes") as error:
        tiny().parts(true_queries(), [(96, 96)], boxes=[found.instances])
    assert "semantic or masks" in str(error.value.fix)
    assert tiny().replaceable == ("semantic", "masks")


def test_parts_are_objects_chances_and_the_mixture() -> None:
    torch.manual_seed(1)
    outputs = {"classes": [torch.randn(1, 5, 5)], "masks": [torch.randn(1, 5, 8, 8)]}
    (parts,) = tiny(queries=5).parts(outputs, [(32, 32)])
    classes = outputs["classes"][0][0].softmax(-1)
    large = functional.interpolate(outputs["masks"][0], scale_factor=4, mode="bilinear")
    chances = large[0].sigmoid()
    expected = sum(classes[q, :4, None, None] * chances[q][None] for q in range(5))
    torch.testing.assert_close(parts.scores.exp(), expected)
    assert isinstance(parts, QueryParts) and parts.mask_scores is not None
    assert parts.mask_scores.shape == parts.instances.masks.shape
    np.testing.assert_array_equal(parts.instances.masks, parts.mask_scores > 0.5)
    assert parts.instances.scores is not None
    for score, label, chance, own in zip(
        parts.instances.scores, parts.instances.labels, parts.mask_scores,
        parts.class_scores.tolist(), strict=True,
    ):  # fmt: skip
        query = int(np.abs(chances.numpy() - chance).sum((1, 2)).argmin())
        assert own == pytest.approx(float(classes[query, label - 1]))
        assert score == pytest.approx(own * chance[chance > 0.5].mean(), rel=1e-4)


def recipe(task: str, **more: Any) -> Recipe:
    values = {
        "model": "mask2former_tiny", "dataset": "digit_scenes", "task": task,
        "iterations": 1, "batch_size": 1, "base_lr": 0.1,
    }  # fmt: skip
    return Recipe.model_validate({**values, **more})


def table() -> CategoryTable:
    kinds = (True, False, True, False, False)
    return CategoryTable(tuple(Category(i, str(i), k, (0, 0, 0)) for i, k in enumerate(kinds)))


@pytest.mark.parametrize(
    ("task", "counts", "absent"),
    [
        ("semantic", (0, 5), {"instances", "panoptic"}),
        ("instance", (2, 0), {"semantic", "panoptic"}),
        ("panoptic", (2, 3), set()),
    ],
)
def test_one_id_serves_recipes_of_three_tasks(task, counts, absent) -> None:
    assert class_counts(task, table(), builder="panoptic") == counts
    model = build_model(recipe(task), table()).eval()
    assert (model.num_things, model.num_stuff) == counts
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 64))
    (found,) = model.predict(outputs, [(64, 64)])
    parts = {name: getattr(found, name) for name in ("semantic", "instances", "panoptic")}
    assert {name for name, part in parts.items() if part is None} == absent


def test_other_panoptic_models_stay_panoptic() -> None:
    assert model_info("mask2former_resnet50").tasks == ("panoptic", "semantic", "instance")
    assert model_info("panoptic_fpn_tiny").tasks == ("panoptic",)
    with pytest.raises(ConfigError, match="the model's task is panoptic"):
        build_model(recipe("semantic", model="panoptic_fpn_tiny"), table())


@pytest.mark.parametrize(("task", "key"), [("semantic", "semantic"), ("instance", "instances")])
def test_one_task_learns_from_its_truth_alone(task: str, key: str) -> None:
    model = build_model(recipe(task), table()).train()
    objects = [{"labels": torch.tensor([2]), "masks": torch.ones(1, 64, 64) > 0}]
    maps = torch.arange(64).reshape(1, 64, 1).expand(-1, -1, 64) % 5
    targets = Targets(
        objects if key == "instances" else None, maps if key == "semantic" else None, [(64, 64)]
    )
    losses = model.loss(model(torch.randn(1, 3, 64, 64)), targets)
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_semantic_form_has_logits_for_windows_and_several_scales() -> None:
    model = build_model(recipe("semantic", multi_scale=(1.0, 1.5), flip=True), table()).eval()
    images = torch.randn(1, 3, 70, 45)
    outputs = model(images)
    assert outputs["logits"].shape == (1, 5, 70, 45)
    windows = slide_logits(model, images, window=(48, 48), stride=(32, 32))
    averaged = averaged_logits(model, images, recipe("semantic", multi_scale=(1.0, 1.5)))
    assert windows.shape == averaged.shape == outputs["logits"].shape
    torch.testing.assert_close(averaged.exp().sum(1), torch.ones(1, 70, 45))
    (found,) = model.predict({"logits": averaged}, [(140, 90)])
    assert found.semantic is not None and found.semantic.shape == (140, 90)


@torch.no_grad()
def test_output_does_not_depend_on_the_batch() -> None:
    model = tiny().eval()
    images = torch.randn(2, 3, 64, 96)
    together = model(images)
    for n in range(2):
        alone = model(images[n : n + 1])
        torch.testing.assert_close(alone["masks"][0][0], together["masks"][0][n])
        torch.testing.assert_close(alone["classes"][0][0], together["classes"][0][n])


def test_multiply_adds_are_counted_without_values(on_meta: Mask2Former) -> None:
    macs = count_macs_by_module(on_meta, (256, 256), task="panoptic")
    assert 15e9 < macs[""] < 20e9
    assert macs["backbone"] == pytest.approx(4.1e9 * (256 / 224) ** 2, rel=0.02)
    assert all(parameter.is_meta for parameter in on_meta.parameters())


def test_profile_takes_things_and_stuff_or_all_classes() -> None:
    assert classes_of("mask2former_resnet50", "80+53", None) == (80, 53)
    assert classes_of("mask2former_resnet50", "150", None) == (0, 150)
    for model, text in (("mask2former_resnet50", "1+2+3"), ("panoptic_fpn_resnet50", "150")):
        with pytest.raises((ConfigError, BadParameter), match=r"THINGS\+STUFF"):
            classes_of(model, text, None)


def test_replaced_scores_stand_for_the_queries_of_stuff() -> None:
    model, (_, labels) = tiny(), strips()
    (parts,) = model.parts(true_queries(), [(96, 96)])
    other = torch.from_numpy(np.where(labels == 2, 3, labels))
    merged = model.merge(replace(parts, scores=model.truth_scores(other)))
    assert merged.panoptic is not None
    assert sorted(s.label for s in merged.panoptic.segments) == [0, 0, 1, 3]
    np.testing.assert_array_equal(merged.semantic, other.numpy())
