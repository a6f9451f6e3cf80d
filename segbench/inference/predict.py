"""Prediction of a split: whole images, sliding windows, several scales, mirrored, with oracles.

Axes: N images, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.core.progress import track
from segbench.core.types import ImageRecord, Prediction, Sample
from segbench.formats.predictions import PredictionWriter
from segbench.formats.prepared import PreparedDataset
from segbench.inference.dense_crf import CrfSettings, dense_crf
from segbench.inference.oracles import Truth, check_oracles, predict_with_truth, truth_of
from segbench.inference.to_size import to_size
from segbench.training.build import build_model
from segbench.training.data import DIVISOR, Batch, SplitDataset, collate, in_page_locked_memory
from segbench.training.device import autocast_dtype, choose_device, explain_memory, numerics
from segbench.training.loading import load
from segbench.training.recipe import Recipe
from segbench.training.transforms import EvalPreset, to_view
from segbench.training.weights import load_weights

PIXELS_PER_BATCH = 1 << 20
MAX_BATCH = 32
TINY = 1e-12
"""Smallest probability whose logarithm is taken."""


def predict_split(
    recipe: Recipe,
    weights: Path,
    dataset: PreparedDataset,
    split: str,
    out: Path,
    *,
    device: str | None = None,
    oracles: Sequence[str] = (),
) -> list[str]:
    """Predict every image of a split and write the public formats.

    Args:
        recipe: The experiment the weights come from.
        weights: Its ``weights.safetensors``.
        dataset: The prepared dataset; its ground truth is read for ``oracles`` alone.
        split: The split to predict.
        out: Folder of the predictions; the caller adds the manifest.
        device: See ``runtime.choose_device``.
        oracles: Parts that the ground truth takes the place of (``segbench.inference.oracles``).

    Returns:
        The written paths, relative to ``out``.

    Raises:
        TrainingError: The weights are of another model or number of classes.
        ConfigError: The recipe asks a model for a kind of inference it has not, or
            ``oracles`` for a part.
        DataError: An oracle needs a ground truth that the split has not.
    """
    place = choose_device(recipe, device)
    _check_recipe(recipe, oracles)
    with numerics(recipe, place):
        model = build_model(recipe, dataset.table, pretrained=False)
        if oracles:
            check_oracles(model, recipe.model, oracles)
        load_weights(weights, model)
        form = torch.channels_last if recipe.channels_last else torch.preserve_format
        model.to(device=place, memory_format=form).eval()  # type: ignore[call-overload]
        task = recipe.task if oracles else None
        samples = SplitDataset(dataset, split, task=task, keep=False)
        writer = PredictionWriter(
            out,
            dataset.table,
            panoptic_indices=recipe.task == "panoptic",
            score_threshold=recipe.score_threshold,
        )
        label = f"predict {recipe.model} on {dataset.name}/{split}"
        predictions = _predictions(model, samples, recipe, place, oracles)
        for record, prediction in track(predictions, len(samples), label):
            writer.add(record, prediction)
    return writer.close()


def _check_recipe(recipe: Recipe, oracles: Sequence[str]) -> None:
    if oracles and recipe.task != "panoptic":
        raise ConfigError(
            f"recipe of '{recipe.model}': --oracle is for panoptic models, its task is "
            f"{recipe.task}",
            fix="leave out --oracle",
        )
    plain = recipe.inference == "whole" and recipe.multi_scale == (1.0,) and not recipe.flip
    if recipe.task != "semantic" and not plain:
        raise ConfigError(
            f"recipe of '{recipe.model}': inference: slide, multi_scale and flip are for "
            f"semantic models, its task is {recipe.task}",
            fix="set inference: whole, multi_scale: [1.0], flip: false",
        )
    if not recipe.multi_scale or min(recipe.multi_scale) <= 0:
        raise ConfigError(f"multi_scale: expected factors above 0, found {recipe.multi_scale}")


def _predictions(
    model: nn.Module,
    samples: SplitDataset,
    recipe: Recipe,
    device: torch.device,
    oracles: Sequence[str],
) -> Iterator[tuple[ImageRecord, Prediction]]:
    records = {record.image_id: record for record in samples.records}
    with closing(_batches(samples, recipe, truths=bool(oracles))) as batches:
        yield from _of_batches(batches, records, model, recipe, device, oracles)


def _of_batches(
    batches: Iterator[tuple[Batch, list[Truth]]],
    records: dict[int, ImageRecord],
    model: nn.Module,
    recipe: Recipe,
    device: torch.device,
    oracles: Sequence[str],
) -> Iterator[tuple[ImageRecord, Prediction]]:
    for batch, truths in batches:
        sizes = [_size(records[image_id]) for image_id in batch.image_ids]
        place = f"predicting {len(batch.image_ids)} images of {batch.targets.sizes[0]} pixels"
        if recipe.task == "semantic":  # its scores are resized, not its maps
            batch = replace(batch, targets=replace(batch.targets, sizes=sizes))
        with explain_memory(place, "ask for more memory, or set inference: slide"):
            found = predict_batch(model, batch, recipe, device, truths, oracles)
        for image_id, size, prediction in zip(batch.image_ids, sizes, found, strict=True):
            yield records[image_id], to_size(prediction, size)


@torch.inference_mode()
def predict_batch(
    model: nn.Module,
    batch: Batch,
    recipe: Recipe,
    device: torch.device,
    truths: Sequence[Truth] = (),
    oracles: Sequence[str] = (),
) -> list[Prediction]:
    """Return the prediction of each image of a batch at its size in ``batch.targets``.

    ``truths`` of the images stand in for the parts of the prediction in ``oracles``.
    """
    images = batch.images.to(device, non_blocking=True)
    if recipe.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(recipe, device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        if recipe.multi_scale != (1.0,) or recipe.flip:
            outputs: dict[str, Any] = {"logits": averaged_logits(model, images, recipe)}
        elif recipe.inference == "slide":
            outputs = {"logits": _logits(model, images, recipe)}
        else:
            outputs = model(images)
        if recipe.crf_iterations:
            outputs = {"logits": crf_logits(outputs["logits"], images, recipe)}
        if oracles:
            return predict_with_truth(
                model,  # type: ignore[arg-type]
                outputs,
                [truth.at(size) for truth, size in zip(truths, batch.targets.sizes, strict=True)],
                oracles,
            )
        found: list[Prediction] = model.predict(outputs, batch.targets.sizes)  # type: ignore[operator]
    return found


def crf_logits(logits: Tensor, images: Tensor, recipe: Recipe) -> Tensor:
    """Return log of the marginals of a dense CRF, [N, C, H, W], at the size of the images.

    Args:
        logits: Semantic logits at any size.
        images: As the network sees them, normalised, [N, 3, H, W].
        recipe: Gives the settings of the CRF, and mean and deviation of the images.
    """
    names = [field.name for field in fields(CrfSettings)]
    settings = CrfSettings(**{name: getattr(recipe, f"crf_{name}") for name in names})
    shape = (3, 1, 1)
    scale, offset = images.new_tensor(recipe.std), images.new_tensor(recipe.mean)
    colours = (images * scale.view(shape) + offset.view(shape)).mul(255).round().clamp(0, 255)
    pictures = colours.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    height, width = images.shape[-2:]
    chances = _resize(logits.float(), (height, width)).softmax(dim=1).cpu().numpy()
    marginals = [
        dense_crf(one, picture, settings) for one, picture in zip(chances, pictures, strict=True)
    ]
    return torch.from_numpy(np.stack(marginals)).to(logits.device).clamp_min(TINY).log()


def averaged_logits(model: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    """Return log of the class probabilities averaged over scales and mirror images.

    Each view of images [N, 3, H, W] is predicted (whole or by windows), its logits resized
    back to [N, C, H, W], and its softmax averaged with the others.
    """
    size = images.shape[-2:]
    total, views = torch.zeros((), device=images.device), 0
    for factor in recipe.multi_scale:
        scaled = _resize(images, (round(size[0] * factor), round(size[1] * factor)))
        for mirrored in (False, True) if recipe.flip else (False,):
            logits = _logits(model, scaled.flip(-1) if mirrored else scaled, recipe)
            logits = _resize(logits.flip(-1) if mirrored else logits, (size[0], size[1]))
            total, views = total + logits.softmax(dim=1), views + 1
    return (total / views).clamp_min(TINY).log()


def _logits(model: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    if recipe.inference == "slide" and recipe.window is not None:
        stride = recipe.window_stride or (recipe.window[0] * 2 // 3, recipe.window[1] * 2 // 3)
        return slide_logits(model, images, window=recipe.window, stride=stride)
    logits: Tensor = model(images)["logits"]
    return logits.float()


def slide_logits(
    model: nn.Module, images: Tensor, *, window: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Return logits [N, C, H, W] of images by overlapping windows, averaged where they meet.

    The last window of a row or column is moved back to end at the border; an image smaller
    than the window is taken whole on that axis.
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    visits = images.new_zeros((1, 1, height, width))
    for top in window_starts(height, window[0], stride[0]):
        for left in window_starts(width, window[1], stride[1]):
            place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            logits = model(images[place])["logits"].float()
            if total is None:
                total = logits.new_zeros((len(images), logits.shape[1], height, width))
            total[place] += logits
            visits[place] += 1
    assert total is not None
    return total / visits


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start so that they cover ``length`` pixels."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def _batches(
    samples: SplitDataset, recipe: Recipe, *, truths: bool
) -> Generator[tuple[Batch, list[Truth]], None, None]:
    join = partial(_collate, preset=EvalPreset(recipe), divisor=DIVISOR[recipe.task], truths=truths)

    def make(indices: list[int]) -> tuple[Batch, list[Truth]]:
        return join([samples[index] for index in indices])

    made = load(make, _groups(samples.records), workers=recipe.workers, doing="predicting images")
    return in_page_locked_memory(
        made, lambda pair: (pair[0].pin_memory(), pair[1]), workers=recipe.workers
    )


def _collate(
    samples: list[Sample], *, preset: EvalPreset, divisor: int, truths: bool
) -> tuple[Batch, list[Truth]]:
    """Return the images as a batch without truth, and the ground truth of each beside it."""
    known = [truth_of(sample) for sample in samples] if truths else []
    images = [replace(sample, semantic=None, instances=None) for sample in samples]
    views = [preset(to_view(sample)) for sample in images]
    return collate(views, [s.record.image_id for s in images], divisor=divisor), known


def _groups(records: list[ImageRecord]) -> list[list[int]]:
    """Return indices in file order, in runs of images of one size."""
    groups: list[list[int]] = []
    for index, record in enumerate(records):
        limit = max(1, min(MAX_BATCH, PIXELS_PER_BATCH // (record.width * record.height)))
        same = groups and _size(records[groups[-1][0]]) == _size(record)
        if same and len(groups[-1]) < limit:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _size(record: ImageRecord) -> tuple[int, int]:
    return record.height, record.width
