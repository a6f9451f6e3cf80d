from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from segbench.core.errors import ConfigError
from segbench.layers.boxes import boxes_of
from segbench.training.transforms import (
    EvalPreset,
    TrainPreset,
    View,
    blur,
    cyclic_shift,
    elastic,
    flip,
    jitter_color,
    largest_share,
    normalise,
    pad,
    random_crop,
    rescale,
    resize_factor,
    rotate,
)
from tests.training import training_toys

SIDES = st.integers(3, 12)


def coded_view(height: int, width: int, objects: int = 3, seed: int = 0) -> View:
    """The red channel repeats the label map; object k covers the pixels of label k."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, objects + 1, (height, width), dtype=np.uint8))
    numbers = torch.arange(1, objects + 1)
    masks = labels == numbers[:, None, None]
    image = torch.stack([labels, labels * 2, labels * 3])
    return View(image, labels, masks, numbers)


def agree(view: View) -> bool:
    """Whether image, label map and objects still tell the same story."""
    assert view.semantic is not None
    assert view.masks is not None
    assert view.labels is not None
    same = torch.equal(view.image[0], view.semantic)
    return same and all(
        bool((view.semantic[mask] == label).all())
        for mask, label in zip(view.masks, view.labels, strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 14), st.integers(1, 14))
def test_geometry_moves_image_and_truth_together(
    height: int, width: int, down: int, right: int, crop_height: int, crop_width: int
) -> None:
    rng = np.random.default_rng(height * width)
    view = flip(cyclic_shift(coded_view(height, width), down, right))
    assert agree(view)
    view = random_crop(view, (crop_height, crop_width), rng)
    assert agree(view)
    assert view.size == (min(height, crop_height), min(width, crop_width))


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, st.integers(-9, 9), st.integers(-9, 9))
def test_shift_splits_objects_at_the_old_border(
    height: int, width: int, down: int, right: int
) -> None:
    view = coded_view(height, width, objects=2)
    shifted = cyclic_shift(view, down, right)
    assert view.masks is not None
    assert shifted.masks is not None
    assert shifted.labels is not None
    rolled = view.masks.roll((down, right), (1, 2))
    for number in (1, 2):
        pieces = shifted.masks[shifted.labels == number]
        assert torch.equal(pieces.sum(0), rolled[number - 1].long())
    for box in boxes_of(shifted.masks).int().tolist():
        for low, high, seam in ((box[0], box[2], right % width), (box[1], box[3], down % height)):
            assert not low < seam < high, "one piece on both sides of the old border"


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), SIDES, SIDES, st.integers(0, 99))
def test_boxes_equal_those_of_torchvision(number: int, height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand((number, height, width), generator=generator) < 0.3
    masks = masks[masks.flatten(1).any(1)] if number else masks
    expected = masks_to_boxes(masks) if len(masks) else torch.zeros((0, 4))
    expected[:, 2:] += 1 if len(masks) else 0
    assert torch.equal(boxes_of(masks), expected)


def test_a_mask_without_pixels_has_no_box() -> None:
    with pytest.raises(ValueError, match="no box"):
        boxes_of(torch.zeros((1, 3, 3), dtype=torch.bool))


def test_rescale_keeps_labels_and_doubles_pixels() -> None:
    view = rescale(coded_view(6, 8), 2.0)
    assert view.size == (12, 16)
    assert view.semantic is not None
    original = coded_view(6, 8).semantic
    assert original is not None
    assert torch.equal(view.semantic, original.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_padding_is_mean_and_ignored() -> None:
    view = normalise(coded_view(4, 4), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    padded = pad(view, (6, 5))
    assert padded.size == (6, 5)
    assert padded.semantic is not None
    assert padded.masks is not None
    assert float(padded.image[:, 4:].abs().max()) == 0
    assert set(padded.semantic[4:].flatten().tolist()) == {255}
    assert not padded.masks[:, 4:].any()


def test_colour_jitter_keeps_range_and_is_drawn() -> None:
    view = View(torch.rand((3, 9, 9)))
    changed = jitter_color(view, 0.3, np.random.default_rng(0))
    assert not torch.equal(changed.image, view.image)
    assert float(changed.image.min()) >= 0
    assert float(changed.image.max()) <= 1
    assert jitter_color(view, 0.0, np.random.default_rng(0)) is view


def test_preset_is_a_function_of_its_generator_and_drops_what_it_cut_away() -> None:
    preset = TrainPreset(training_toys.recipe(crop_size=(8, 30)))
    views = [preset(coded_view(20, 20), np.random.default_rng(s)) for s in (1, 1, 2)]
    assert torch.equal(views[0].image, views[1].image)
    assert not torch.equal(views[0].image, views[2].image)
    for view in views:
        assert view.size == (8, 30)
        assert view.masks is not None
        assert bool(view.masks.flatten(1).any(1).all())


def test_image_without_objects_keeps_the_shape_of_its_masks() -> None:
    view = View(
        torch.zeros((3, 9, 9), dtype=torch.uint8),
        masks=torch.zeros((0, 9, 9), dtype=torch.bool),
        labels=torch.zeros(0, dtype=torch.int64),
    )
    result = TrainPreset(training_toys.recipe(crop_size=(5, 6)))(view, np.random.default_rng(0))
    assert result.masks is not None
    assert result.masks.shape == (0, 5, 6)


@pytest.mark.parametrize("size", [(9, 13), (1, 6), (5, 1)])
def test_no_displacement_changes_nothing(size) -> None:
    view = coded_view(*size)
    for same in (elastic(view, torch.zeros(2, 3, 3)), rotate(view, 0.0, fill=(0.4, 0.5, 0.6))):
        assert torch.equal(same.image, view.image)
        assert agree(same)
        assert torch.equal(same.semantic, view.semantic)
        assert torch.equal(same.masks, view.masks)


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, st.integers(-9, 9), st.integers(-9, 9), st.integers(2, 5))
def test_one_displacement_everywhere_is_a_shift_with_mirrored_borders(
    height: int, width: int, down: int, right: int, points: int
) -> None:
    field = torch.tensor([float(down), float(right)])[:, None, None].expand(2, points, points)
    view = coded_view(height, width)
    moved = elastic(view, field)
    assert agree(moved)
    margin = 10
    wide = np.pad(view.semantic.numpy(), margin, mode="reflect")
    top, left = margin - down, margin - right
    assert np.array_equal(moved.semantic, wide[top : top + height, left : left + width])


def test_displacements_are_interpolated_between_the_corners() -> None:
    view = View(torch.zeros((3, 41, 41), dtype=torch.uint8), torch.arange(41 * 41).view(41, 41))
    field = torch.zeros(2, 3, 3)
    field[0, 1, 1] = 6.0  # the centre moves down, the border stays
    moved = elastic(view, field).semantic
    assert int(moved[20, 20]) == 14 * 41 + 20
    assert torch.equal(moved[:, [0, 40]], view.semantic[:, [0, 40]])
    assert torch.equal(moved[[0, 40]], view.semantic[[0, 40]])
    rows = moved // 41
    assert (rows.diff(dim=0) >= 0).all(), "a smooth field keeps the order of the rows"


def test_labels_stay_labels_under_a_strong_deformation() -> None:
    rng = np.random.default_rng(3)
    view = coded_view(40, 50)
    moved = elastic(view, torch.from_numpy(rng.normal(0, 10, (2, 3, 3)).astype(np.float32)))
    assert set(moved.semantic.unique().tolist()) <= set(view.semantic.unique().tolist())
    assert moved.semantic.dtype == torch.uint8 and moved.masks.dtype == torch.bool
    assert moved.image.dtype == torch.uint8
    for mask, label in zip(moved.masks, moved.labels, strict=True):
        assert torch.equal(mask, moved.semantic == label), "objects move with the labels"


def test_quarter_turns_are_exact_and_corners_are_ignored() -> None:
    view = coded_view(12, 12)
    turned = rotate(view, 90.0, fill=(0.0, 0.0, 0.0))
    assert agree(turned)
    assert torch.equal(turned.semantic, torch.rot90(view.semantic))
    assert torch.equal(turned.image, torch.rot90(view.image, dims=(1, 2)))
    turned = rotate(coded_view(20, 20), 45.0, fill=(0.2, 0.4, 0.6))
    assert turned.image[:, 0, 0].tolist() == [51, 102, 153]
    assert int(turned.semantic[0, 0]) == 255 and not turned.masks[:, 0, 0].any()
    assert int(turned.semantic[10, 10]) != 255


def test_blur_keeps_the_mean_and_the_truth() -> None:
    view = View(torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8), torch.zeros(30, 40))
    soft = blur(view)
    assert soft.semantic is view.semantic and soft.image.dtype == torch.uint8
    assert float(soft.image.float().std()) < 0.6 * float(view.image.float().std())
    assert float(soft.image.float().mean()) == pytest.approx(
        float(view.image.float().mean()), abs=2
    )
    assert blur(View(torch.zeros(3, 2, 9))).image.shape == (3, 2, 9)


@pytest.mark.parametrize("key", [{"elastic": 3.0}, {"rotation": 20.0}, {"blur": 1.0}])
def test_each_augmentation_is_a_function_of_the_generator(key) -> None:
    plain, changed = (
        TrainPreset(training_toys.recipe(crop_size=None, scale_range=(1, 1), shift=0, **keys))
        for keys in ({}, key)
    )
    views = [changed(coded_view(30, 20), np.random.default_rng(s)) for s in (1, 1, 2)]
    assert torch.equal(views[0].image, views[1].image)
    assert not torch.equal(views[0].image, views[2].image)
    assert not torch.equal(
        views[0].image, plain(coded_view(30, 20), np.random.default_rng(1)).image
    )


@pytest.mark.parametrize(
    ("size", "short", "long_max", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((300, 640), 800, 1333, (625, 1333)),
        ((640, 300), 800, 1333, (1333, 625)),
        ((480, 640), 800, None, (800, 1067)),
        ((480, 640), None, 1024, (768, 1024)),
        ((480, 640), None, None, (480, 640)),
    ],
)
def test_the_shorter_side_is_resized_up_to_a_longest(size, short, long_max, expected) -> None:
    factor = resize_factor(size, short=short, long_max=long_max)
    assert rescale(View(torch.zeros((3, *size), dtype=torch.uint8)), factor).size == expected


def test_one_of_the_given_sides_is_drawn_then_the_scale() -> None:
    plain = {"crop_size": None, "scale_range": (1.0, 1.0), "shift": 0}
    preset = TrainPreset(training_toys.recipe(**plain, resize_short=[20, 30], resize_long_max=45))
    drawn = {preset(coded_view(10, 14), np.random.default_rng(seed)).size for seed in range(12)}
    assert drawn == {(20, 28), (30, 42)}
    jitter = {**plain, "resize_long_max": 40, "scale_range": (0.5, 0.5), "crop_size": (24, 24)}
    view = TrainPreset(training_toys.recipe(**jitter))(coded_view(10, 20), np.random.default_rng(0))
    assert view.size == (24, 24)  # 10 x 20 pixels at long side 40 and factor 0.5, padded
    assert view.semantic is not None
    assert int((view.semantic != 255).sum()) == 10 * 20


def test_images_are_resized_before_prediction_where_a_recipe_says_so() -> None:
    recipe = training_toys.recipe(predict_short=20, predict_long_max=26)
    assert EvalPreset(recipe)(coded_view(10, 14)).size == (19, 26)
    assert EvalPreset(training_toys.recipe())(coded_view(10, 14)).size == (10, 14)


def test_crops_of_one_class_are_drawn_again() -> None:
    labels = torch.zeros((12, 24), dtype=torch.uint8)
    labels[:, 20:] = 1
    labels[0] = 255
    view = View(labels.expand(3, -1, -1), labels)
    for seed in range(6):
        free = random_crop(view, (12, 8), np.random.default_rng(seed))
        mixed = random_crop(view, (12, 8), np.random.default_rng(seed), max_share=0.75)
        assert mixed.semantic is not None
        assert free.semantic is not None
        assert largest_share(mixed.semantic) <= 0.75
        kept = largest_share(free.semantic) <= 0.75
        assert torch.equal(free.semantic, mixed.semantic) == kept
    only = View(torch.zeros((3, 12, 12), dtype=torch.uint8), torch.zeros((12, 12)).byte())
    assert random_crop(only, (8, 8), np.random.default_rng(0), max_share=0.75).size == (8, 8)
    with pytest.raises(ConfigError, match="crop_max_share needs a crop_size"):
        training_toys.recipe(crop_size=None, crop_max_share=0.75)
