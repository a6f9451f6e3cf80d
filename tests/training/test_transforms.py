from __future__ import annotations

import numpy as np
import pytest
import torch
import training_toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from segbench.transforms import (
    TrainPreset,
    View,
    boxes_of,
    cyclic_shift,
    flip,
    jitter_color,
    normalise,
    pad,
    random_crop,
    rescale,
)

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
