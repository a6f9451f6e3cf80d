"""The composed dataset: the same bits always, nothing shared between splits, as it is told."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.core.errors import ConfigError
from segbench.core.files import read_jsonl
from segbench.datasets import digit_scenes, prepare_dataset
from segbench.datasets.digit_scenes import DIGITS_OF, TEXTURE_OF, SceneOptions, compose_scene

OPTIONS = SceneOptions()


def assert_same_scene(one, other):
    for part in ("image", "semantic"):
        assert np.array_equal(getattr(one, part), getattr(other, part))
    assert np.array_equal(one.panoptic.ids, other.panoptic.ids)


def test_a_scene_is_the_same_each_time_and_differs_from_every_other():
    first = compose_scene(OPTIONS, split="train", index=3)
    compose_scene(OPTIONS, split="train", index=4)
    assert_same_scene(first, compose_scene(OPTIONS, split="train", index=3))
    seeded = dataclasses.replace(OPTIONS, seed=1)
    others = [
        compose_scene(OPTIONS, split="train", index=4),
        compose_scene(OPTIONS, split="val", index=3),
        compose_scene(seeded, split="train", index=3),
    ]
    for other in others:
        assert not np.array_equal(first.image, other.image)


def test_scenes_do_not_depend_on_how_many_there_are(tmp_path):
    few = prepare_dataset("digit_scenes", tmp_path / "few", options={"train": 2, "val": 1})
    more = prepare_dataset("digit_scenes", tmp_path / "more", options={"train": 4, "val": 1})
    rows = [read_jsonl(dataset.root / "train.jsonl") for dataset in (few, more)]
    assert rows[0] == rows[1][:2] and len(rows[1]) == 4
    assert (few.root / "val.jsonl").read_text() == (more.root / "val.jsonl").read_text()
    assert few.digest != more.digest


def test_an_empty_split_is_left_out(tmp_path):
    dataset = prepare_dataset("digit_scenes", tmp_path / "x", options={"train": 1, "val": 1})
    assert dataset.description["splits"] == {"train": 1, "val": 1}
    assert not (dataset.root / "test.jsonl").exists()


def test_splits_draw_from_disjoint_digits(monkeypatch):
    count = digit_scenes._digits()[0].shape[0]
    full_ink = np.ones((count, 10, 10), dtype=np.float32)
    monkeypatch.setattr(digit_scenes, "_digits", lambda: (full_ink, np.arange(count)))
    drawn = {}
    for split in DIGITS_OF:
        rng = np.random.default_rng(0)
        drawn[split] = {digit_scenes._draw(rng, OPTIONS, split=split)[0] for _ in range(3000)}
    assert drawn["train"] <= set(range(1200)) and len(drawn["train"]) > 1000
    assert drawn["val"] == set(range(1200, 1500))
    assert drawn["test"] == set(range(1500, count))


def test_splits_show_disjoint_texture_pixels():
    """Each texture pixel carries its own number; no split shows one that another shows."""
    numbers = np.arange(512 * 512, dtype=np.float64).reshape(512, 512, 1)
    seen = {}
    for split in TEXTURE_OF:
        rng = np.random.default_rng(0)
        allowed = numbers[TEXTURE_OF[split]]
        sizes = (96, 200, 400, 700)
        crops = [digit_scenes._crop(rng, allowed, size=size) for size in sizes]
        assert [crop.shape[:2] for crop in crops] == [(size, size) for size in sizes]
        seen[split] = set(np.concatenate([crop.ravel() for crop in crops]).astype(int).tolist())
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]
    assert max(seen["train"]) < 512 * 256 <= min(seen["val"] | seen["test"])


def test_no_pixel_is_void_and_all_classes_occur():
    seen = np.zeros(256, dtype=int)
    for index in range(40):
        scene = compose_scene(OPTIONS, split="val", index=index)
        seen += np.bincount(scene.semantic.ravel(), minlength=256)
        assert (scene.panoptic.ids > 0).all()
        assert 3 <= len(scene.instances) <= 5
    assert (seen[:14] > 0).all() and seen[14:].sum() == 0


def test_stuff_keeps_its_texture_and_digits_cover_it():
    """Without tint, noise and digits, a region is an exact crop of its texture."""
    rng = np.random.default_rng(5)
    ground, labels = digit_scenes._ground(rng, 96, split="train")
    assert set(np.unique(labels)) <= {10, 11, 12, 13}
    assert 2 <= len(np.unique(labels)) <= 4
    for label in np.unique(labels):
        pixels = ground[labels == label]
        texture = digit_scenes._textures()[label - 10][TEXTURE_OF["train"]]
        assert pixels.min() >= 0 and pixels.max() <= texture.max() * (1 + digit_scenes.TINT)


scene_options = st.builds(
    SceneOptions,
    size=st.integers(64, 140),
    seed=st.integers(0, 2**32),
    min_digits=st.just(1),
    max_digits=st.integers(1, 6),
    min_digit_size=st.integers(10, 24),
    max_digit_size=st.integers(24, 40),
    max_occlusion=st.sampled_from([0.0, 0.1, 0.5]),
    rotation=st.floats(0, 45),
)


@settings(max_examples=25, deadline=None)
@given(options=scene_options, index=st.integers(0, 10**6))
def test_occlusion_count_and_size_stay_within_the_options(options, index):
    rng = np.random.default_rng([options.seed, index])
    digits = digit_scenes._place_digits(rng, options, split="train")
    assert options.min_digits <= len(digits) <= options.max_digits
    owner = np.zeros((options.size, options.size), dtype=int)
    full = []
    for number, digit in enumerate(digits, start=1):
        assert options.min_digit_size <= len(digit.ink) <= options.max_digit_size
        owner[digit.window][digit.mask] = number
        full.append(digit.mask.sum())
    visible = np.bincount(owner.ravel(), minlength=len(digits) + 1)[1:]
    assert (visible >= (1 - options.max_occlusion) * np.array(full)).all()
    assert (visible > 0).all()


@settings(max_examples=15, deadline=None)
@given(options=scene_options, index=st.integers(0, 10**6))
def test_the_three_truths_agree(options, index):
    scene = compose_scene(options, split="val", index=index)
    masks, labels = scene.instances.masks, scene.instances.labels
    assert masks.sum(axis=0).max() <= 1
    assert np.array_equal(masks.any(axis=0), scene.semantic < 10)
    for mask, label, box in zip(masks, labels, scene.instances.boxes, strict=True):
        assert (scene.semantic[mask] == label).all()
        x1, y1, x2, y2 = box.astype(int)
        assert mask[y1:y2, x1:x2].sum() == mask.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "'size': expected 16 to 2048, found 8"),
        ({"min_digits": 6}, "'min_digits': expected 1 to 5, found 6"),
        ({"max_digit_size": 97}, "'max_digit_size': expected 8 to 96, found 97"),
        ({"max_occlusion": 1.5}, "'max_occlusion': expected 0 to 0.9, found 1.5"),
        ({"train": "many"}, "'train': expected int, found 'many'"),
        ({"train": True}, "'train': expected int, found True"),
        ({"max_oclusion": 0.1}, "Did you mean 'max_occlusion'"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare_dataset("digit_scenes", tmp_path / "x", options=options)
    assert not (tmp_path / "x").exists()


def test_digits_that_do_not_fit_are_an_error_that_says_so():
    crowded = SceneOptions(size=40, min_digits=20, max_digits=20, max_occlusion=0.0)
    with pytest.raises(ConfigError, match="20 digits of 26 to 36 pixels do not fit into 40"):
        compose_scene(crowded, split="train", index=0)


def test_a_generated_dataset_takes_no_raw_folder(tmp_path):
    with pytest.raises(ConfigError, match="takes no raw folder"):
        prepare_dataset("digit_scenes", tmp_path / "x", raw=tmp_path)


DICHROMATS = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "full": np.eye(3),
}
"""Simulation matrices on linear RGB of Machado, Oliveira, Fernandes, TVCG 2009."""


@pytest.mark.parametrize(
    ("sight", "apart"), [("full", 40), ("deuteranopia", 20), ("protanopia", 20)]
)
def test_class_colours_can_be_told_apart(sight, apart):
    from skimage.color import rgb2lab

    colors = np.array([category.color for category in digit_scenes.INFO.categories]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[sight]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distances[np.triu_indices(len(lab), 1)].min() >= apart
