"""Overlay layers: exact colours, transparency, outlines, small files, fast."""

import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.core.types import Category, CategoryTable
from segbench.report.pictures import colors as overlay

TABLE = CategoryTable(
    (
        Category(7, "cup", True, (200, 60, 10)),
        Category(3, "wall", False, (20, 30, 200)),
        Category(9, "dog", True, (0, 250, 0)),
    )
)


def test_labels_have_the_colour_of_their_class_and_void_is_transparent():
    labels = np.array([[0, 1, 2, 255, 7]], dtype=np.uint8)
    expected = [(200, 60, 10, 255), (20, 30, 200, 255), (0, 250, 0, 255), (0,) * 4, (0,) * 4]
    assert overlay.label_rgba(labels, table=TABLE)[0].tolist() == [list(c) for c in expected]
    wide = np.array([[0, 65535]], dtype=np.uint16)
    assert overlay.label_rgba(wide, table=TABLE)[0, 1].tolist() == [0, 0, 0, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1, 100_000]))
def test_panoptic_layer_pixel_by_pixel(seed, factor):
    """Against a plain loop over pixels, for small and for large segment ids."""
    rng = np.random.default_rng(seed)
    ids = np.kron(rng.integers(0, 5, (3, 3)), np.ones((3, 3), dtype=int)) * factor
    segments = {1 * factor: 0, 2 * factor: 0, 3 * factor: 1}
    layer = overlay.panoptic_rgba(ids, segments, table=TABLE)
    first, second = (200, 60, 10), None
    for (row, column), segment in np.ndenumerate(ids):
        near = ids[max(row - 1, 0) : row + 2, column].tolist()
        near += ids[row, max(column - 1, 0) : column + 2].tolist()
        color = tuple(layer[row, column].tolist())
        if segment not in segments:
            assert color[3] == 0
        elif segment == 3 * factor:
            assert color == (20, 30, 200, 255)
        elif len(set(near)) > 1:
            assert color == (*overlay.OUTLINE, 255)
        elif segment == factor:
            assert color == (*first, 255)
        else:
            assert second in (None, color) and color != (*first, 255)
            second = color


def test_instances_of_one_class_differ_and_the_best_lies_on_top():
    masks = np.zeros((2, 30, 30), dtype=bool)
    masks[0, 2:20, 2:20] = masks[1, 10:28, 10:28] = True
    on_top = {}
    for scores in ([0.9, 0.1], [0.1, 0.9]):
        layer = overlay.instances_rgba(masks, [0, 0], table=TABLE, scores=np.array(scores))
        assert layer[5, 5].tolist() != layer[25, 25].tolist()
        assert layer[0, 0, 3] == 0
        on_top[scores[0]] = layer[15, 15].tolist() == layer[5, 5].tolist()
    assert on_top == {0.9: True, 0.1: False}


def test_no_instance_gives_an_empty_layer():
    layer = overlay.instances_rgba(np.zeros((0, 4, 5), dtype=bool), [], table=TABLE)
    assert layer.shape == (4, 5, 4) and not layer.any()


def test_errors_are_right_wrong_or_not_scored():
    truth = np.array([[0, 0, 255, 1]], dtype=np.uint8)
    predicted = np.array([[0, 1, 0, 255]], dtype=np.uint8)
    colors = [tuple(c[:3]) for c in overlay.error_rgba(truth, predicted)[0].tolist()]
    assert colors == [overlay.CORRECT, overlay.WRONG, overlay.IGNORED, overlay.WRONG]


def blobs(height=480, width=640):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, (height // 40, width // 40))
    labels = np.kron(coarse, np.ones((40, 40))).astype(np.uint8)
    labels[:20] = 255
    return labels


def test_webp_keeps_every_visible_pixel(tmp_path):
    layer = overlay.label_rgba(blobs(), table=TABLE)
    overlay.save_webp(tmp_path / "layer.webp", layer)
    read = np.asarray(Image.open(tmp_path / "layer.webp").convert("RGBA"))
    assert np.array_equal(read[layer[..., 3] > 0], layer[layer[..., 3] > 0])
    assert np.array_equal(read[..., 3], layer[..., 3])
    assert (tmp_path / "layer.webp").stat().st_size < 5000


def test_palette_png_is_a_picture_and_still_the_label_map(tmp_path):
    labels = blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        overlay.save_palette_png(tmp_path / "labels.png", labels, table=TABLE)
    with Image.open(tmp_path / "labels.png") as image:
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(
            np.asarray(image.convert("RGBA")), overlay.label_rgba(labels, table=TABLE)
        )


@pytest.mark.parametrize("layer", ["label", "panoptic", "instances", "error"])
def test_layers_are_made_within_a_frame(layer):
    """10 ms at 640x480 with room for a busy machine: the best of 15 must be below 25 ms."""
    labels = blobs()
    masks = np.stack([labels == number for number in range(3)])
    make = {
        "label": lambda: overlay.label_rgba(labels, table=TABLE),
        "panoptic": lambda: overlay.panoptic_rgba(labels.astype(np.int32), {1: 0}, table=TABLE),
        "instances": lambda: overlay.instances_rgba(masks, [0, 0, 2], table=TABLE),
        "error": lambda: overlay.error_rgba(labels, np.roll(labels, 3)),
    }[layer]
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        make()
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.025
