from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench.core.errors import ConfigError, DataError
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import decode_mask
from segbench.layers.losses.border import border_weights, cells_of
from segbench.models.registry import create_model
from segbench.training.build import set_loss
from segbench.training.data import Batch, SplitDataset, TrainBatches, collate, train_loader
from segbench.training.transforms import View
from tests.training import training_toys


def batches(
    dataset: PreparedDataset, *, rank: int = 0, world_size: int = 1, **changes: Any
) -> TrainBatches:
    recipe = training_toys.recipe(**changes)
    samples = SplitDataset(dataset, "train", task=recipe.task)
    return TrainBatches(samples, recipe, seed=5, rank=rank, world_size=world_size)


def same(a: Batch, b: Batch) -> bool:
    assert a.targets.semantic is not None
    assert b.targets.semantic is not None
    return (
        a.image_ids == b.image_ids
        and torch.equal(a.images, b.images)
        and torch.equal(a.targets.semantic, b.targets.semantic)
    )


def test_loader_processes_and_the_start_change_nothing(toys: PreparedDataset) -> None:
    made = batches(toys, iterations=9)
    alone = list(train_loader(made, start=0, workers=0))
    helped = list(train_loader(made, start=3, workers=2))
    assert len(alone) == 9
    assert all(same(a, b) for a, b in zip(alone[3:], helped, strict=True))
    assert not same(alone[0], alone[1])


def test_an_epoch_shows_every_image_once(toys: PreparedDataset) -> None:
    made = batches(toys, iterations=20)
    shown = [i for iteration in range(20) for i in made.image_ids(iteration)]
    epochs = [shown[k : k + 10] for k in range(0, 80, 10)]
    assert all(sorted(epoch) == list(range(1, 11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_processes_share_one_global_batch(toys: PreparedDataset) -> None:
    whole = batches(toys)[7]
    parts = [batches(toys, rank=rank, world_size=2)[7] for rank in (0, 1)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert parts[0].image_ids + parts[1].image_ids == whole.image_ids
    assert batches(toys).image_ids(7) == whole.image_ids
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared by 3"):
        batches(toys, world_size=3)


def test_labels_are_numbered_for_the_task(toys: PreparedDataset) -> None:
    record = toys.images("train")[0]
    assert record.semantic is not None
    train_ids = read_label_map(record.semantic)
    semantic = SplitDataset(toys, "train", task="semantic")[0].semantic
    panoptic = SplitDataset(toys, "train", task="panoptic")[0]
    assert np.array_equal(semantic, train_ids)
    assert np.array_equal(panoptic.semantic, np.array([2, 0, 3, 1])[train_ids])
    assert panoptic.instances is not None
    assert panoptic.instances.labels.tolist() == [1, 2]
    assert np.array_equal(panoptic.instances.masks[0], train_ids == 1)
    assert SplitDataset(toys, "train", task="instance")[0].semantic is None


def test_semantic_truth_follows_from_the_panoptic_one(
    toys: PreparedDataset, tmp_path: Path
) -> None:
    shutil.copytree(toys.root, tmp_path / "data")
    lines = (tmp_path / "data" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["panoptic"] = row.pop("semantic").replace("semantic", "panoptic")
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    other = PreparedDataset.open(tmp_path / "data")
    for task in ("semantic", "panoptic"):
        found = SplitDataset(other, "train", task=task)[3].semantic
        assert np.array_equal(found, SplitDataset(toys, "train", task=task)[3].semantic)


def test_missing_truth_and_wrong_sizes_are_named(toys: PreparedDataset) -> None:
    truth = SplitDataset(toys, "train", task="semantic").truth
    record = truth.records[0]
    with pytest.raises(DataError, match="has no semantic truth"):
        truth.sample(replace(record, semantic=None, panoptic=None))
    with pytest.raises(DataError, match="16"):
        decode_mask({"size": [16, 16], "counts": "PPo0"}, 24, 24)


def test_polygons_and_plain_runs_decode() -> None:
    square = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(decode_mask(square, 6, 8), expected)
    runs = [13, 3, 3, 3, 3, 3, 3, 3, 14]
    assert np.array_equal(decode_mask({"size": [6, 8], "counts": runs}, 6, 8), expected)


def test_collate_pads_to_a_common_multiple() -> None:
    sizes = [(5, 9), (7, 4)]
    views = [View(torch.ones((3, *s)), torch.ones(s, dtype=torch.uint8)) for s in sizes]
    batch = collate(views, [3, 4], divisor=8)
    assert batch.images.shape == (2, 3, 8, 16)
    assert batch.targets.sizes == sizes
    assert batch.targets.semantic is not None
    assert batch.targets.semantic.dtype == torch.int64
    assert Counter(batch.targets.semantic.flatten().tolist()) == {1: 73, 255: 256 - 73}
    assert batch.num_labelled == 73


def test_samples_are_kept_when_they_fit(
    toys: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = SplitDataset(toys, "train", task="semantic")
    assert samples[2] is samples[2]
    monkeypatch.setattr("segbench.training.data.CACHE_BYTES", 100)
    samples = SplitDataset(toys, "train", task="semantic")
    assert samples[2] is not samples[2]


def test_semi_supervised_batches_hide_the_maps_of_weak_images(toys: PreparedDataset) -> None:
    whole, weak = batches(toys), batches(toys, masks_per_class=1)
    assert whole.strong is None and weak.strong is not None
    assert 1 <= len(weak.strong) < len(weak.samples)
    strong_ids = {weak.samples.records[i].image_id for i in weak.strong}
    pairs = zip(weak.samples.records, weak.samples, strict=True)
    classes = {record.image_id: np.unique(sample.semantic).tolist() for record, sample in pairs}
    for iteration in range(6):
        plain, batch = whole[iteration], weak[iteration]
        assert plain.targets.presence is None and batch.targets.presence is not None
        assert batch.image_ids == plain.image_ids
        rows = zip(batch.image_ids, batch.targets.semantic, plain.targets.semantic, strict=True)
        for position, (image_id, semantic, truth) in enumerate(rows):
            expected = truth if image_id in strong_ids else torch.full_like(truth, 255)
            assert torch.equal(semantic, expected)
            labels = torch.nonzero(batch.targets.presence[position]).flatten().tolist()
            assert labels == [label for label in classes[image_id] if label != 255]
    with pytest.raises(ConfigError, match="needs a semantic truth"):
        batches(toys, masks_per_class=1, task="instance")


def test_batches_carry_border_weights(toys) -> None:
    settings = training_toys.recipe(border_weight=10.0, border_background=2)
    samples = SplitDataset(toys, "train", task="semantic")
    batch = TrainBatches(samples, settings, seed=0, rank=0, world_size=1)[3]
    moved = batch.to(torch.device("cpu")).targets
    assert batch.targets.semantic is not None and moved.pixel_weights is not None
    assert float(moved.pixel_weights.max()) > 5
    for labels, weights in zip(batch.targets.semantic, moved.pixel_weights, strict=True):
        assert np.array_equal(border_weights(cells_of(labels.numpy(), background=2)), weights)


def test_median_frequencies_are_counted_image_by_image(toys) -> None:
    model = create_model("toy", 4)
    set_loss(model, training_toys.recipe(class_weighting="median_frequency"), toys)
    maps = [s.semantic for s in SplitDataset(toys, "train", task="semantic")]
    shares = [
        sum((m == c).sum() for m in maps) / sum(m.size for m in maps if (m == c).any())
        for c in range(4)
    ]
    assert model.class_weights.tolist() == pytest.approx(np.median(shares) / shares)
