"""Two networks merged: their count, their independence, and the rule beside panopticapi's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError
from segbench.core.files import read_json
from segbench.core.types import IGNORE_INDEX, Instances
from segbench.formats.label_maps import read_panoptic_ids
from segbench.models.bases.panoptic import PanopticParts, certain
from segbench.models.mask_rcnn_fcn_merge import TwoNetworks
from segbench.models.registry import create_model
from segbench.panopticapi import combine_semantic_and_instance_predictions as combine
from tests.models.targets import Targets

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"
THINGS, STUFF = 3, 2
NAME = "mask_rcnn_fcn_merge_tiny"


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_count_is_the_sum_of_the_parts() -> None:
    with torch.device("meta"):
        network = create_model("mask_rcnn_fcn_merge", 80, 53)
        detector = create_model("mask_rcnn_resnet50_fpn", 81)
        semantics = create_model("torchvision_fcn_resnet50", 133)
        # torchvision's own numbers of classes
        published = (
            create_model("mask_rcnn_resnet50_fpn", 91),
            create_model("torchvision_fcn_resnet50", 21),
        )
        pspnet = create_model("mask_rcnn_fcn_merge", 80, 53, semantic="pspnet")
        deep = create_model("pspnet_resnet50", 133)
    assert [count(one) for one in published] == [44_401_393, 35_322_218]
    assert (count(detector), count(semantics)) == (44_347_573, 35_408_458)
    assert count(network) == 79_756_031 == count(detector) + count(semantics)
    assert count(pspnet) == count(detector) + count(deep)
    assert count(deep) == 49_167_818


def test_pspnet_has_no_weights_of_torchvision_to_start_from(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"none\.safetensors"):
        create_model("mask_rcnn_fcn_merge", 3, 2, semantic_backbone_weights=missing)
    with pytest.raises(ConfigError, match=r"semantic: .*found 'pspnett'. Did you mean 'pspnet'"):
        create_model(NAME, 3, 2, semantic="pspnett")


def scene() -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 10:40, 20:50] = True
    semantic = torch.full((2, 64, 64), THINGS)
    semantic[:, mask[0]] = 1
    box = torch.tensor([[20.0, 10.0, 50.0, 40.0]])
    objects = {"boxes": box, "labels": torch.tensor([2]), "masks": mask}
    return images, Targets([objects, objects], semantic, [(64, 64)] * 2)


@pytest.mark.parametrize("semantic", ["fcn", "pspnet"])
def test_each_network_learns_what_it_would_learn_alone(semantic: str) -> None:
    torch.manual_seed(0)
    network = create_model(NAME, THINGS, STUFF, semantic=semantic, semantic_weight=0.5).train()
    shared = {id(p) for p in network.detector.parameters()}
    assert not shared & {id(p) for p in network.semantics.parameters()}
    images, targets = scene()
    torch.manual_seed(1)
    losses = network.loss(network(images), targets)
    sum(losses.values()).backward()
    together = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    torch.manual_seed(1)
    alone = network.semantics.loss(network.semantics(images), targets)
    sum(0.5 * loss for loss in alone.values()).backward()
    torch.manual_seed(1)
    sum(network.detector.loss(network.detector(images), targets).values()).backward()
    for one, parameter in zip(together, network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    assert {f"semantic_{name}" for name in alone} < losses.keys()


def test_the_score_threshold_is_the_detectors() -> None:
    network = create_model(NAME, THINGS, STUFF)
    network.score_threshold = 0.25
    assert network.detector.score_threshold == network.score_threshold == 0.25
    backbone = {id(p) for p in network.backbone_parameters()}
    assert {id(p) for p in network.detector.backbone.body.parameters()} <= backbone
    with pytest.raises(ConfigError, match="semantic"):
        images, targets = scene()
        network.loss(network(images), Targets(targets.instances, None, targets.sizes))


# The rule beside panopticapi's


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def combined(
    found: list[tuple[Instances, np.ndarray]],
    categories: list[int],
    things: int,
    folder: Path,
    thresholds: tuple[float, float, int],
) -> list[tuple[np.ndarray, dict[int, int]]]:
    """Write instances and label maps as COCO results, run the official tool, read what it wrote.

    Returns:
        Ids [H, W] and panoptic index of each id, one pair an image.
    """
    instances, semantic = [], []
    for number, (objects, labels) in enumerate(found):
        for mask, label, score in zip(objects.masks, objects.labels, objects.scores, strict=True):
            category = categories[label - 1]
            entry = {"image_id": number, "category_id": category, "segmentation": rle(mask)}
            instances.append({**entry, "score": float(score)})
        for label in np.unique(labels[labels != IGNORE_INDEX]).tolist():
            segmentation = rle(labels == label)
            semantic.append(
                {"image_id": number, "category_id": categories[label], "segmentation": segmentation}
            )
    table = [
        {"id": c, "name": str(c), "isthing": int(i < things), "color": [100 + i, 50 + i, 90]}
        for i, c in enumerate(categories)
    ]
    images = [
        {"id": n, "height": m.shape[0], "width": m.shape[1], "file_name": f"{n}.jpg"}
        for n, (_, m) in enumerate(found)
    ]
    files = {"inst": instances, "sem": semantic, "images": {"images": images, "categories": table}}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    combine.combine_predictions(
        folder / "sem.json", folder / "inst.json", folder / "images.json", None, None,
        folder / "out.json", *thresholds,
    )  # fmt: skip
    index = {category: i for i, category in enumerate(categories)}
    return [
        (
            read_panoptic_ids(folder / "out" / one["file_name"]),
            {s["id"]: index[s["category_id"]] for s in one["segments_info"]},
        )
        for one in read_json(folder / "out.json")["annotations"]
    ]


def segments_of(ids: np.ndarray, labels: dict[int, int]) -> set[tuple[int, bytes]]:
    """Return class and pixels of every segment that a map shows."""
    shown = set(np.unique(ids).tolist()) - {0}
    assert shown == labels.keys()
    return {(labels[i], np.packbits(ids == i).tobytes()) for i in shown}


def merged(network: TwoNetworks, objects: Instances, labels: np.ndarray) -> Any:
    """Merge objects and a label map, which the logits are sure of."""
    scores = certain(torch.from_numpy(labels.astype(np.int64)), network.semantics.num_classes)
    found = network.merge(PanopticParts(objects, scores))
    known = labels != IGNORE_INDEX
    np.testing.assert_array_equal(found.semantic[known], labels[known])
    return found.panoptic


def random_scene(seed: int) -> tuple[Instances, np.ndarray]:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(4, 40, 2)
    number = int(rng.integers(0, 7))
    masks = np.zeros((number, height, width), dtype=bool)
    for mask in masks:
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(0, 20), x : x + rng.integers(0, 20)] = True
        mask &= rng.random(mask.shape) < 0.9
    labels = rng.integers(0, THINGS + STUFF, (height // 3 + 1, width // 3 + 1))
    labels = labels.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]
    scores = rng.choice([0.1, 0.3, 0.5, 0.5, 0.9, 0.75], number).astype(np.float32)
    boxes = np.zeros((number, 4), dtype=np.float32)
    return Instances(masks, rng.integers(1, THINGS + 1, number), boxes, scores), labels


@pytest.mark.parametrize("thresholds", [(0.5, 0.5, 64), (0.0, 0.0, 1), (0.3, 0.9, 20)], ids=str)
def test_the_merge_equals_panopticapi_on_random_inputs(
    tmp_path: Path, thresholds: tuple[float, float, int]
) -> None:
    network = create_model(NAME, THINGS, STUFF)
    network.panoptic_threshold, network.panoptic_overlap = thresholds[:2]
    network.panoptic_stuff_area = thresholds[2]
    found = [random_scene(seed) for seed in range(60)]
    official = combined(found, [1, 5, 9, 90, 200], THINGS, tmp_path, thresholds)
    kinds = set()
    for (objects, labels), (ids, classes) in zip(found, official, strict=True):
        ours = merged(network, objects, labels)
        expected = segments_of(ids, classes)
        assert segments_of(ours.ids, {s.id: s.label for s in ours.segments}) == expected
        kinds |= set(classes.values())
    assert kinds == set(range(THINGS + STUFF))


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "coco_panoptic").is_dir(), reason="no shared data")
def test_the_merge_equals_panopticapi_on_real_truth_disturbed(tmp_path: Path) -> None:
    """Objects of the COCO subset moved, doubled and scored at random; blocks of wrong stuff."""
    folder = SHARED / "coco_panoptic" / "annotations"
    content = read_json(folder / "panoptic_val2017.json")
    table = sorted(content["categories"], key=lambda c: (not c["isthing"], c["id"]))
    index = {category["id"]: i for i, category in enumerate(table)}
    rng = np.random.default_rng(0)
    found = []
    for one in content["annotations"][:12]:
        ids = read_panoptic_ids(folder / "panoptic_val2017" / one["file_name"])
        found.append(
            disturbed(ids, {s["id"]: index[s["category_id"]] for s in one["segments_info"]}, rng)
        )
    network = create_model(NAME, 80, 53)
    official = combined(found, [c["id"] for c in table], 80, tmp_path, (0.5, 0.5, 4096))
    things = 0
    for (objects, labels), (ids, classes) in zip(found, official, strict=True):
        ours = merged(network, objects, labels)
        expected = segments_of(ids, classes)
        assert segments_of(ours.ids, {s.id: s.label for s in ours.segments}) == expected
        things += sum(label < 80 for label in classes.values())
    assert things > 30


def disturbed(
    ids: np.ndarray, classes: dict[int, int], rng: np.random.Generator
) -> tuple[Instances, np.ndarray]:
    labels = np.full(ids.shape, IGNORE_INDEX)
    masks, names = [], []
    for segment, label in classes.items():
        labels[ids == segment] = label
        for _ in range(2 if label < 80 else 0):
            masks.append(np.roll(ids == segment, tuple(rng.integers(-25, 26, 2)), axis=(0, 1)))
            names.append(label + 1)
    for _ in range(10):
        y, x = rng.integers(0, ids.shape[0]), rng.integers(0, ids.shape[1])
        labels[y : y + 90, x : x + 90] = rng.integers(0, 133)
    number = len(masks)
    stacked = np.stack(masks) if masks else np.zeros((0, *ids.shape), dtype=bool)
    scores = rng.random(number).astype(np.float32)
    boxes = np.zeros((number, 4), dtype=np.float32)
    return Instances(stacked, np.array(names, dtype=np.int64), boxes, scores), labels
