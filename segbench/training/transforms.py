"""Training and evaluation presets: the whole augmentation policy of a recipe.

Everything random is drawn from the generator that is handed in, so a view is a pure
function of the sample and that generator. Axes: N instances, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import gaussian_blur, resize

from segbench.core.types import IGNORE_INDEX, Sample
from segbench.layers.mirror import mirrored
from segbench.training.recipe import Recipe

BLUR_WINDOW, BLUR_SIGMA = 5, 1.1
CROP_TRIES = 10


@dataclass(frozen=True)
class View:
    """One image with its ground truth on its way into a batch.

    ``image`` uint8 or float32 [3, H, W]; ``semantic`` uint8 [H, W], 255 ignored; ``masks``
    bool [N, H, W] with ``labels`` int64 [N] from 1. Truths a task does not use are None.
    """

    image: Tensor
    semantic: Tensor | None = None
    masks: Tensor | None = None
    labels: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.image.shape[-2:]
        return int(height), int(width)


def to_view(sample: Sample) -> View:
    """Return the tensors of a sample; arrays are shared, not copied."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
    semantic = None if sample.semantic is None else torch.from_numpy(sample.semantic)
    if sample.instances is None:
        return View(image, semantic)
    masks = torch.from_numpy(sample.instances.masks)
    labels = torch.from_numpy(np.asarray(sample.instances.labels, dtype=np.int64))
    return View(image, semantic, masks, labels)


@dataclass(frozen=True)
class TrainPreset:
    """The augmentation of a recipe, in a fixed order.

    Size and scale jitter, elastic deformation, rotation, cyclic shift, crop, flip, blur, colour,
    normalisation, padding. What a recipe leaves off draws nothing from the generator, except
    for what was there first (scale, shift, colour).
    """

    recipe: Recipe

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """Return a float32 view of ``crop_size`` (of any size where the recipe has none)."""
        recipe = self.recipe
        short = int(rng.choice(recipe.resize_short)) if recipe.resize_short else None
        factor = resize_factor(view.size, short=short, long_max=recipe.resize_long_max)
        view = rescale(view, factor * rng.uniform(*recipe.scale_range))
        if recipe.elastic:
            grid = rng.normal(0, recipe.elastic, (2, recipe.elastic_grid, recipe.elastic_grid))
            view = elastic(view, torch.from_numpy(grid.astype(np.float32)))
        if recipe.rotation:
            degrees = float(rng.uniform(-recipe.rotation, recipe.rotation))
            view = rotate(view, degrees, fill=recipe.mean)
        shift = rng.integers(-recipe.shift, recipe.shift + 1, size=2)
        view = cyclic_shift(view, int(shift[0]), int(shift[1]))
        if recipe.crop_size is not None:
            view = random_crop(view, recipe.crop_size, rng, max_share=recipe.crop_max_share)
        if recipe.horizontal_flip and rng.random() < 0.5:
            view = flip(view)
        if recipe.blur and rng.random() < recipe.blur:
            view = blur(view)
        view = replace(view, image=view.image.to(torch.float32) / 255)
        view = jitter_color(view, recipe.color_jitter, rng)
        view = normalise(view, recipe.mean, recipe.std)
        return drop_empty(pad(view, recipe.crop_size or view.size))


@dataclass(frozen=True)
class EvalPreset:
    """Normalisation, of images as they are or of the size the recipe predicts at."""

    recipe: Recipe

    def __call__(self, view: View) -> View:
        """Return the float32 view."""
        recipe = self.recipe
        short, long_max = recipe.predict_short, recipe.predict_long_max
        view = rescale(view, resize_factor(view.size, short=short, long_max=long_max))
        view = replace(view, image=view.image.to(torch.float32) / 255)
        return normalise(view, self.recipe.mean, self.recipe.std)


def resize_factor(size: tuple[int, int], *, short: int | None, long_max: int | None) -> float:
    """Return what brings the shorter side to ``short`` and the longer to ``long_max`` at most.

    Without ``short`` the longer side comes to ``long_max``; without both the factor is 1.
    """
    factor = 1.0 if short is None else short / min(size)
    if long_max is None:
        return factor
    most = long_max / max(size)
    return most if short is None else min(factor, most)


def rescale(view: View, factor: float) -> View:
    """Resize by a factor: the image bilinearly with antialiasing, the truth to the nearest."""
    height, width = view.size
    size = [max(1, round(height * factor)), max(1, round(width * factor))]
    if size == [height, width]:
        return view
    nearest = partial(resize, size=size, interpolation=InterpolationMode.NEAREST_EXACT)
    return _apply(view, partial(resize, size=size, antialias=True), lambda t: nearest(t[None])[0])


def elastic(view: View, displacements: Tensor) -> View:
    """Deform image and ground truth smoothly by the displacements of a coarse grid.

    Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015: each pixel's displacement is a bicubic
    interpolation of the grid's. What comes from outside of the image is mirrored.

    Args:
        view: What is deformed; the image is interpolated bilinearly, the ground truth is nearest.
        displacements: Rows down and columns right, in pixels, float32 [2, G, G]; the outer
            points of the grid are the corners of the image.
    """
    size = list(view.size)
    offsets = functional.interpolate(displacements[None], size, mode="bicubic", align_corners=True)
    rows, columns = _places(view)
    return _warp(view, rows - offsets[0, 0], columns - offsets[0, 1])


def rotate(view: View, degrees: float, *, fill: tuple[float, float, float]) -> View:
    """Rotate anticlockwise about the centre; the corners are ``fill`` (0 to 1) and ignored."""
    angle = math.radians(degrees)
    centre = [(side - 1) / 2 for side in view.size]
    rows, columns = (place - middle for place, middle in zip(_places(view), centre, strict=True))
    down = math.cos(angle) * rows + math.sin(angle) * columns
    right = math.cos(angle) * columns - math.sin(angle) * rows
    return _warp(view, down + centre[0], right + centre[1], fill=fill)


def blur(view: View) -> View:
    """Blur the image by a Gaussian of 5x5 pixels and sigma 1.1; smaller images stay sharp."""
    if min(view.size) <= BLUR_WINDOW // 2:
        return view
    return replace(view, image=gaussian_blur(view.image, [BLUR_WINDOW] * 2, [BLUR_SIGMA] * 2))


def _places(view: View) -> tuple[Tensor, Tensor]:
    """Return the row and the column of each pixel, float32 [H, 1] and [1, W]."""
    height, width = view.size
    return torch.arange(height).float()[:, None], torch.arange(width).float()[None, :]


def _warp(
    view: View,
    rows: Tensor,
    columns: Tensor,
    *,
    fill: tuple[float, float, float] | None = None,
) -> View:
    """Take each pixel from a place (row, column) of the view, both [H, W], in pixels.

    Outside of the view lies its mirror image, or where ``fill`` is given that colour, label 255
    and no object.
    """
    height, width = view.size
    row, column = mirrored(rows.round().long(), height), mirrored(columns.round().long(), width)
    outside = (rows.round() != row) | (columns.round() != column)
    unit = [2 * rows / max(height - 1, 1) - 1, 2 * columns / max(width - 1, 1) - 1]
    grid = torch.stack([unit[1], unit[0]], dim=-1)[None]

    def image(tensor: Tensor) -> Tensor:
        colour = 255 * torch.tensor(fill or (0.0, 0.0, 0.0))[:, None, None]
        mode = "reflection" if fill is None else "zeros"
        moved = functional.grid_sample(
            (tensor.float() - colour)[None], grid, padding_mode=mode, align_corners=True
        )
        return (moved[0] + colour).round().clamp(0, 255).to(tensor.dtype)

    def truth(tensor: Tensor) -> Tensor:
        moved = tensor[..., row, column]
        if fill is None:
            return moved
        return moved.masked_fill(outside, 0 if tensor.dim() == 3 else IGNORE_INDEX)

    return _apply(view, image, truth)


def cyclic_shift(view: View, down: int, right: int) -> View:
    """Roll image and truth; an object that is cut by the border becomes one object a piece."""
    if down == 0 and right == 0:
        return view
    rolled = partial(torch.roll, shifts=(down, right), dims=(-2, -1))
    view = _apply(view, rolled, rolled)
    if view.masks is None or view.labels is None or len(view.labels) == 0:
        return view
    height, width = view.size
    rows, columns = torch.arange(height) < down % height, torch.arange(width) < right % width
    parts = [
        view.masks & r[:, None] & c[None, :] for r in (rows, ~rows) for c in (columns, ~columns)
    ]
    return drop_empty(replace(view, masks=torch.cat(parts), labels=view.labels.repeat(4)))


def random_crop(
    view: View, size: tuple[int, int], rng: np.random.Generator, *, max_share: float = 1.0
) -> View:
    """Cut a uniformly placed window of at most ``size``; a smaller axis is kept whole.

    A window in which one class has more than ``max_share`` of the labelled pixels is drawn again,
    up to ``CROP_TRIES`` times.
    """
    height, width = min(size[0], view.size[0]), min(size[1], view.size[1])
    for _ in range(CROP_TRIES):
        top = int(rng.integers(0, view.size[0] - height + 1))
        left = int(rng.integers(0, view.size[1] - width + 1))
        place = (..., slice(top, top + height), slice(left, left + width))
        if (
            max_share == 1
            or view.semantic is None
            or largest_share(view.semantic[place]) <= max_share
        ):
            break

    def window(tensor: Tensor) -> Tensor:
        return tensor[place]

    return _apply(view, window, window)


def largest_share(semantic: Tensor) -> float:
    """Return the share of the labelled pixels that the most frequent class has; 1 without any."""
    counts = torch.bincount(semantic.flatten().long(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def flip(view: View) -> View:
    """Mirror left and right."""
    mirror = partial(torch.flip, dims=(-1,))
    return _apply(view, mirror, mirror)


def jitter_color(view: View, strength: float, rng: np.random.Generator) -> View:
    """Scale brightness, each channel and contrast by factors drawn from 1 +- ``strength``."""
    factors = rng.uniform(1 - strength, 1 + strength, size=5).astype(np.float32)
    if strength == 0:
        return view
    tint = torch.from_numpy(factors[:3] * factors[3])
    image = view.image * tint[:, None, None]
    level = image.mean()
    return replace(view, image=((image - level) * float(factors[4]) + level).clamp_(0, 1))


def normalise(
    view: View, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> View:
    """Subtract the mean and divide by the standard deviation of each channel."""
    shape = (3, 1, 1)
    offset, scale = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)
    return replace(view, image=(view.image - offset) / scale)


def pad(view: View, size: tuple[int, int]) -> View:
    """Pad right and below to ``size``: the normalised image with 0, which is the mean."""
    height, width = view.size
    if (height, width) == size:
        return view
    margin = (0, size[1] - width, 0, size[0] - height)

    def truth(tensor: Tensor) -> Tensor:
        return functional.pad(tensor, margin, value=0 if tensor.dim() == 3 else IGNORE_INDEX)

    return _apply(view, lambda image: functional.pad(image, margin), truth)


def drop_empty(view: View) -> View:
    """Return the view without objects of no pixel."""
    if view.masks is None or view.labels is None or len(view.labels) == 0:
        return view
    keep = view.masks.flatten(1).any(dim=1)
    return replace(view, masks=view.masks[keep], labels=view.labels[keep])


def _apply(
    view: View, image: Callable[[Tensor], Tensor], truth: Callable[[Tensor], Tensor]
) -> View:
    """Apply one operation to the image and one to the label map and the masks."""
    masks = view.masks
    if masks is not None:
        masks = truth(masks) if len(masks) else masks.new_zeros((0, *_shape_after(view, image)))
    semantic = None if view.semantic is None else truth(view.semantic)
    return View(image(view.image), semantic, masks, view.labels)


def _shape_after(view: View, image: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    height, width = image(view.image).shape[-2:]
    return int(height), int(width)
