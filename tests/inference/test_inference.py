from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import load_file, save_file
from torch import nn

from segbench.core.errors import ConfigError, DataError, TrainingError
from segbench.core.files import read_json
from segbench.core.types import Instances, PanopticMap, Prediction, Segment
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.formats.predictions import PredictionWriter
from segbench.formats.prepared import PreparedDataset
from segbench.inference.dense_crf import CrfSettings, dense_crf
from segbench.inference.predict import averaged_logits, predict_split, slide_logits, window_starts
from segbench.inference.to_size import nearest, to_size
from segbench.training.build import build_model
from segbench.training.loop import train
from segbench.training.weights import save_weights
from tests.training import training_toys

POINTWISE = {"kernel": 1}


def trained(dataset: PreparedDataset, folder: Path, **changes: Any) -> Path:
    torch.manual_seed(3)
    path = folder / "weights.safetensors"
    model = build_model(training_toys.recipe(**changes), dataset.table)
    save_weights(path, model)
    return path


def maps(folder: Path) -> np.ndarray:
    return np.stack([read_label_map(path) for path in sorted((folder / "semantic").iterdir())])


@pytest.mark.parametrize(
    "changes",
    [
        {"inference": "slide", "window": (10, 7), "window_stride": (4, 5)},
        {"inference": "slide", "window": (100, 100)},
        {"flip": True},
        {"flip": True, "multi_scale": (1.0, 1.0), "inference": "slide", "window": (9, 9)},
    ],
)
def test_views_of_a_pointwise_network_agree_with_the_whole(
    toys: PreparedDataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    learner = training_toys.recipe(model_options=POINTWISE)
    train(learner, toys, seed=0, out=tmp_path / "run", state=tmp_path / "state")
    weights = tmp_path / "run" / "weights.safetensors"
    for name, options in (("whole", {}), ("views", changes)):
        recipe = training_toys.recipe(model_options=POINTWISE, **options)
        files = predict_split(recipe, weights, toys, "val", tmp_path / name)
        assert files == [f"semantic/{i:03d}.png" for i in range(1, 6)]
    assert maps(tmp_path / "whole").shape == (5, 24, 24)
    assert len(np.unique(maps(tmp_path / "whole"))) > 1
    assert np.array_equal(maps(tmp_path / "whole"), maps(tmp_path / "views"))


def test_files_equal_the_network_run_by_hand(toys: PreparedDataset, tmp_path: Path) -> None:
    recipe = training_toys.recipe()
    weights = trained(toys, tmp_path)
    predict_split(recipe, weights, toys, "val", tmp_path / "out")
    model = build_model(recipe, toys.table)
    model.load_state_dict(load_file(str(weights)))
    for record, found in zip(toys.images("val"), maps(tmp_path / "out"), strict=True):
        image = torch.from_numpy(np.array(Image.open(record.image))).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (recipe.mean, recipe.std))
        with torch.no_grad():
            logits = model.eval()(((image - mean) / std)[None])["logits"]
        assert np.array_equal(found, logits[0].argmax(0).numpy())


def test_files_of_a_dense_crf_equal_the_crf_run_by_hand(
    toys: PreparedDataset, tmp_path: Path
) -> None:
    settings = {"crf_iterations": 3, "crf_bilateral_rgb_std": 20.0}
    recipe = training_toys.recipe(**settings)
    weights = trained(toys, tmp_path)
    predict_split(training_toys.recipe(), weights, toys, "val", tmp_path / "plain")
    predict_split(recipe, weights, toys, "val", tmp_path / "crf")
    model = build_model(recipe, toys.table)
    model.load_state_dict(load_file(str(weights)))
    for record, found in zip(toys.images("val"), maps(tmp_path / "crf"), strict=True):
        image = np.array(Image.open(record.image))
        mean, std = (torch.tensor(v)[:, None, None] for v in (recipe.mean, recipe.std))
        view = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            chances = model.eval()(view[None])["logits"][0].softmax(0).numpy()
        expected = dense_crf(chances, image, CrfSettings(3, bilateral_rgb_std=20))
        assert np.array_equal(found, expected.argmax(0))
    assert not np.array_equal(maps(tmp_path / "plain"), maps(tmp_path / "crf"))


class Counting(nn.Module):
    """Gives every pixel of a view the mean of its first channel."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": images[:, :1].mean((2, 3), keepdim=True).expand_as(images[:, :2])}


def test_overlapping_windows_are_averaged() -> None:
    images = torch.zeros((1, 3, 2, 6))
    images[..., 4:] = 6.0
    logits = slide_logits(Counting(), images, window=(2, 4), stride=(2, 2))
    assert logits[0, 0, 0].tolist() == [0, 0, 1.5, 1.5, 3, 3]


def test_scales_are_averaged_as_probabilities() -> None:
    class Scale(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = torch.zeros((1, 2, *images.shape[-2:]))
            logits[:, 0] = 0.0 if images.shape[-1] == 8 else float(np.log(3))
            return {"logits": logits}

    recipe = training_toys.recipe(multi_scale=(1.0, 2.0))
    found = averaged_logits(Scale(), torch.zeros((1, 3, 8, 8)), recipe).exp()
    assert found[0, :, 0, 0].tolist() == pytest.approx([(0.5 + 0.75) / 2, (0.5 + 0.25) / 2])


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_windows_cover_everything_and_stay_inside(length: int, window: int, stride: int) -> None:
    stride = min(stride, window)
    starts = window_starts(length, window, stride)
    covered = {p for start in starts for p in range(start, min(start + window, length))}
    assert covered == set(range(length))
    assert max(starts) + min(window, length) == length
    assert starts == sorted(set(starts))


def test_panoptic_model_writes_all_three_formats(toys: PreparedDataset, tmp_path: Path) -> None:
    recipe = training_toys.recipe(
        model="toy_panoptic", task="panoptic", score_threshold=0.05, panoptic_threshold=0.4
    )
    weights = trained(toys, tmp_path, model="toy_panoptic", task="panoptic")
    model = build_model(recipe, toys.table)
    assert (model.score_threshold, model.panoptic_threshold) == (0.05, 0.4)
    files = predict_split(recipe, weights, toys, "val", tmp_path / "out")
    assert set(files) == {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")
    }
    labels = maps(tmp_path / "out")[0]
    assert labels[0, 0] == 255
    assert np.unique(labels[1:]).tolist() == [0], "the first stuff is panoptic 2, train id 0"
    _check_instances(tmp_path / "out", toys)
    _check_panoptic(tmp_path / "out")


def _check_instances(out: Path, toys: PreparedDataset) -> None:
    rows = read_json(out / "instances.json")
    assert [row["image_id"] for row in rows] == [i for i in range(1, 6) for _ in range(2)]
    assert [row["category_id"] for row in rows[:2]] == [7, 11], "0.01 is below the threshold"
    assert rows[1]["bbox"] == [12, 1, 12, 1]
    mask = coco_mask.area(rows[1]["segmentation"])
    assert (int(mask), rows[1]["segmentation"]["size"]) == (12, [24, 24])
    assert coco_mask.toBbox(rows[1]["segmentation"]).tolist() == rows[1]["bbox"]


def _check_panoptic(out: Path) -> None:
    content = read_json(out / "panoptic.json")
    assert [a["image_id"] for a in content["annotations"]] == [1, 2, 3, 4, 5]
    annotation = content["annotations"][2]
    ids = read_panoptic_ids(out / "panoptic" / annotation["file_name"])
    assert [s["category_id"] for s in annotation["segments_info"]] == [3, 7, 11]
    for segment in annotation["segments_info"]:
        rows, columns = np.nonzero(ids == segment["id"])
        assert segment["area"] == len(rows)
        x, y, width, height = segment["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert segment["iscrowd"] == 0
    assert sum(s["area"] for s in annotation["segments_info"]) == (ids != 0).sum()


def test_panoptic_map_must_list_what_it_shows(toys: PreparedDataset, tmp_path: Path) -> None:
    record, writer = toys.images("val")[0], PredictionWriter(tmp_path, toys.table)
    ids = np.full((24, 24), 4, np.int32)
    with pytest.raises(DataError, match=r"shows segments \[4\]"):
        writer.add(record, Prediction(panoptic=PanopticMap(ids, (Segment(5, 0, True, 1),))))
    with pytest.raises(DataError, match="24x24 pixels, found 8x8"):
        writer.add(record, Prediction(semantic=np.zeros((8, 8), np.uint8)))


@pytest.mark.fault(4)
def test_foreign_weights_are_refused(toys: PreparedDataset, tmp_path: Path) -> None:
    recipe, path = training_toys.recipe(), trained(toys, tmp_path)
    good = load_file(str(path))
    save_file({**good, "head.weight": torch.zeros(9, 8, 1, 1)}, str(path))
    with pytest.raises(TrainingError, match=r"head\.weight: expected \(4, 8, 1, 1\), found \(9"):
        predict_split(recipe, path, toys, "val", tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TrainingError, match="no readable safetensors"):
        predict_split(recipe, path, toys, "val", tmp_path / "out")
    with pytest.raises(TrainingError, match="does not exist"):
        predict_split(recipe, tmp_path / "no.safetensors", toys, "val", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_views_are_for_semantic_models_only(toys: PreparedDataset, tmp_path: Path) -> None:
    recipe = training_toys.recipe(model="toy_panoptic", task="panoptic", flip=True)
    with pytest.raises(ConfigError, match="semantic models"):
        predict_split(recipe, tmp_path / "w", toys, "val", tmp_path / "out")


def test_json_files_are_plain(toys: PreparedDataset, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, toys.table)
    writer.add(toys.images("val")[0], Prediction(panoptic=PanopticMap(np.zeros((24, 24), int), ())))
    assert writer.close() == ["panoptic/001.png", "panoptic.json"]
    annotation = json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]
    assert annotation == {"image_id": 1, "file_name": "001.png", "segments_info": []}


@pytest.mark.parametrize("model", ["toy", "toy_panoptic"])
def test_predictions_of_resized_images_have_the_size_of_the_image(
    model: str, toys: PreparedDataset, tmp_path: Path
) -> None:
    task = "semantic" if model == "toy" else "panoptic"
    recipe = training_toys.recipe(
        model=model, task=task, predict_short=48, model_options=POINTWISE if model == "toy" else {}
    )
    torch.manual_seed(3)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, build_model(recipe, toys.table))
    predict_split(recipe, weights, toys, "val", tmp_path / "large")
    plain = recipe.model_copy(update={"predict_short": None})
    predict_split(plain, weights, toys, "val", tmp_path / "plain")
    large, small = maps(tmp_path / "large"), maps(tmp_path / "plain")
    assert large.shape == small.shape == (5, 24, 24)
    assert (large == small).mean() > 0.9


def test_a_prediction_is_brought_to_a_size_with_boxes_areas_and_what_is_left() -> None:
    masks = np.zeros((2, 4, 6), dtype=bool)
    masks[0, :2, :3] = True
    masks[1, 3, 5] = True  # one pixel, between those that a third of the size takes
    boxes = np.array([[0, 0, 3, 2], [5, 3, 6, 4]], dtype=np.float32)
    found = Instances(masks, np.array([1, 2]), boxes, np.array([0.9, 0.8], dtype=np.float32))
    ids = np.where(masks[0], 7, np.where(masks[1], 9, 3)).astype(np.int32)
    segments = (Segment(7, 0, True, 6), Segment(9, 1, True, 1), Segment(3, 2, False, 17))
    prediction = Prediction(ids.astype(np.uint8), found, PanopticMap(ids, segments))
    assert to_size(prediction, (4, 6)).instances is found
    twice = to_size(prediction, (8, 12))
    assert twice.instances is not None
    assert twice.panoptic is not None
    assert twice.instances.boxes.tolist() == [[0, 0, 6, 4], [10, 6, 12, 8]]
    assert np.array_equal(twice.instances.masks, masks.repeat(2, axis=1).repeat(2, axis=2))
    assert [one.area for one in twice.panoptic.segments] == [24, 4, 68]
    small = to_size(prediction, (2, 2))
    assert small.instances is not None
    assert small.panoptic is not None
    assert small.instances.labels.tolist() == [1]
    assert [one.id for one in small.panoptic.segments] == [7, 3]
    assert [one.area for one in small.panoptic.segments] == [1, 3]
    assert small.semantic is not None
    assert small.semantic.tolist() == small.panoptic.ids.tolist() == [[7, 3], [3, 3]]


@given(st.integers(1, 9), st.integers(1, 9))
def test_nearest_equals_that_of_torch(new: int, old: int) -> None:
    values = np.arange(old)[None]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None].float(), (1, new), mode="nearest-exact"
    )
    assert nearest(values, (1, new)).tolist() == expected[0, 0].long().tolist()
