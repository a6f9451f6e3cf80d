"""From a prepared split to batches, as pure functions of (seed, iteration).

Batch k of a training run is the same whoever makes it: the order of an epoch follows from
(seed, epoch), the augmentation of an image from (seed, iteration, position in the batch).
So resuming needs no sampler state, loader processes change nothing, and each process of a
distributed run takes its share of the same global batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, Sample, Task
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import SplitSamples
from segbench.layers.boxes import boxes_of
from segbench.layers.losses.border import border_weights, cells_of
from segbench.training.loading import load, pinned
from segbench.training.recipe import Recipe
from segbench.training.transforms import TrainPreset, View, pad, to_view

Value = TypeVar("Value")

CACHE_BYTES = 1 << 29
"""Decoded samples are kept in memory when the whole split takes no more than this."""
DIVISOR = {"semantic": 1, "instance": 32, "panoptic": 32}
"""Batches are padded to a multiple of this; feature pyramids halve the size five times."""


@dataclass(frozen=True)
class Targets:
    """Batched truth for ``model.loss``.

    ``semantic`` int64 [N, H, W], 255 ignored: train ids for semantic models, panoptic
    indices for panoptic ones. ``instances`` one dict an image: ``boxes`` float32 [n, 4],
    ``labels`` int64 [n] from 1, ``masks`` bool [n, H, W]. ``sizes`` height and width of each
    image before padding. ``presence`` bool [N, 255], the image labels, is there when training is
    semi-supervised; the label maps of weak images are then ignored altogether.
    ``pixel_weights`` float32 [N, H, W] is there when the recipe has a ``border_weight``.
    """

    semantic: Tensor | None
    instances: list[dict[str, Tensor]] | None
    sizes: list[tuple[int, int]]
    presence: Tensor | None = None
    pixel_weights: Tensor | None = None

    def to(self, device: torch.device) -> Targets:
        """Return the targets on a device."""
        maps = {name: getattr(self, name) for name in ("semantic", "presence", "pixel_weights")}
        here = {k: v.to(device, non_blocking=True) for k, v in maps.items() if v is not None}
        moved = replace(self, **here)
        if self.instances is None:
            return moved
        instances = [
            {k: v.to(device, non_blocking=True) for k, v in one.items()} for one in self.instances
        ]
        return replace(moved, instances=instances)


@dataclass(frozen=True)
class Batch:
    """``images`` float32 [N, 3, H, W], normalised, with ground truth and image ids.

    ``num_labelled`` counts the pixels whose semantic label is not ignored; None without
    a semantic truth.
    """

    images: Tensor
    targets: Targets
    image_ids: list[int]
    num_labelled: int | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, targets=self.targets.to(device))

    def pin_memory(self) -> Batch:
        """Return the batch with images and label maps in page-locked memory."""
        semantic = self.targets.semantic
        targets = self.targets
        if semantic is not None:
            targets = replace(targets, semantic=semantic.pin_memory())
        return replace(self, images=self.images.pin_memory(), targets=targets)


def collate(views: Sequence[View], image_ids: Sequence[int], *, divisor: int = 1) -> Batch:
    """Pad views right and below to one size, a multiple of ``divisor``, and stack them."""
    sizes = [view.size for view in views]
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    views = [pad(view, (height, width)) for view in views]
    semantic = None
    if views[0].semantic is not None:
        semantic = torch.stack([cast(Tensor, v.semantic) for v in views]).to(torch.int64)
    instances = None
    if views[0].masks is not None:
        instances = [_instance_targets(view) for view in views]
    return Batch(
        images=torch.stack([view.image for view in views]),
        targets=Targets(semantic, instances, sizes),
        image_ids=list(image_ids),
        num_labelled=None if semantic is None else int((semantic != IGNORE_INDEX).sum()),
    )


def _instance_targets(view: View) -> dict[str, Tensor]:
    masks, labels = cast(Tensor, view.masks), cast(Tensor, view.labels)
    return {"boxes": boxes_of(masks), "labels": labels, "masks": masks}


class SplitDataset(Dataset[Sample]):
    """The decoded samples of a split, kept in memory when they fit.

    Args:
        dataset: A prepared dataset.
        split: Its split.
        task: Decides which truths are read; None reads images only.
        processes: Processes that will each hold a copy of the cache.
        keep: Keep samples in memory at all.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        *,
        task: Task | None,
        processes: int = 1,
        keep: bool = True,
    ) -> None:
        self.truth = SplitSamples(dataset, split, task=task)
        self.records = self.truth.records
        planes = 3 if task is None else 12
        needed = sum(record.width * record.height * planes for record in self.records)
        self._keep = keep and needed * processes <= CACHE_BYTES
        self._cache: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        if index in self._cache:
            return self._cache[index]
        sample = self.truth.sample(self.records[index])
        if self._keep:
            self._cache[index] = sample
        return sample


class TrainBatches(Dataset[Batch]):
    """The batches of a training run; item k is this process's share of global batch k.

    Args:
        samples: The training split.
        recipe: Decides batch size and augmentation.
        seed: Seed of the run.
        rank: Number of this process, below ``world_size``.
        world_size: Processes that share each batch.
    """

    def __init__(
        self, samples: SplitDataset, recipe: Recipe, *, seed: int, rank: int, world_size: int
    ) -> None:
        if recipe.batch_size % world_size:
            raise ConfigError(
                f"batch_size {recipe.batch_size} cannot be shared by {world_size} processes",
                fix="make batch_size a multiple of gpus",
            )
        self.samples, self.recipe, self.seed = samples, recipe, seed
        self.preset = TrainPreset(recipe)
        share = recipe.batch_size // world_size
        self.positions = range(rank * share, (rank + 1) * share)
        self.strong: frozenset[int] | None = None
        if recipe.masks_per_class is not None:
            self.strong = strong_samples(samples, recipe.masks_per_class)

    def __len__(self) -> int:
        return self.recipe.iterations

    def __getitem__(self, iteration: int) -> Batch:
        chosen = [self._index(iteration, position) for position in self.positions]
        views = [
            self.preset(to_view(self.samples[i]), augmentation_rng(self.seed, iteration, position))
            for i, position in zip(chosen, self.positions, strict=True)
        ]
        ids = [self.samples.records[i].image_id for i in chosen]
        batch = collate(views, ids, divisor=DIVISOR[self.recipe.task])
        if self.recipe.border_weight:
            batch = self._with_border_weights(batch)
        return batch if self.strong is None else self._weakened(batch, chosen)

    def _weakened(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        """Hide the label maps of weak images; all images keep their image labels."""
        assert self.strong is not None and batch.targets.semantic is not None
        presence = torch.from_numpy(np.stack([_classes(self.samples[i]) for i in chosen]))
        weak = torch.tensor([i not in self.strong for i in chosen])
        semantic = batch.targets.semantic.masked_fill(weak[:, None, None], IGNORE_INDEX)
        targets = replace(batch.targets, semantic=semantic, presence=presence)
        labelled = int((semantic != IGNORE_INDEX).sum())
        return replace(batch, targets=targets, num_labelled=labelled)

    def _with_border_weights(self, batch: Batch) -> Batch:
        """Weigh the pixels between the connected regions of each image's label map."""
        recipe = self.recipe
        assert batch.targets.semantic is not None
        maps = [
            border_weights(
                cells_of(labels.numpy(), background=recipe.border_background),
                strength=recipe.border_weight,
                sigma=recipe.border_sigma,
            )
            for labels in batch.targets.semantic
        ]
        weights = torch.from_numpy(np.stack(maps))
        return replace(batch, targets=replace(batch.targets, pixel_weights=weights))

    def image_ids(self, iteration: int) -> list[int]:
        """Return the image ids of a whole global batch."""
        places = range(self.recipe.batch_size)
        return [self.samples.records[self._index(iteration, p)].image_id for p in places]

    def _index(self, iteration: int, position: int) -> int:
        place = iteration * self.recipe.batch_size + position
        epoch, within = divmod(place, len(self.samples))
        return int(epoch_order(self.seed, epoch, len(self.samples))[within])


def strong_samples(samples: SplitDataset, per_class: int) -> frozenset[int]:
    """Choose the images whose label maps a semi-supervised training uses.

    Images are taken in an order that follows from their names, each one that has a class with
    fewer than ``per_class`` images so far; so the choice does not depend on the seed.

    Raises:
        ConfigError: The split has no semantic truth.
    """
    names = [hashlib.sha256(record.stem.encode()).digest() for record in samples.records]
    have = np.zeros(IGNORE_INDEX, dtype=np.int64)
    strong = []
    for index in sorted(range(len(names)), key=names.__getitem__):
        present = _classes(samples[index])
        if (present & (have < per_class)).any():
            strong.append(index)
            have += present
    return frozenset(strong)


def _classes(sample: Sample) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which train ids an image shows, bool [255]."""
    if sample.semantic is None:
        raise ConfigError("masks_per_class needs a semantic truth", fix="remove it")
    return np.bincount(sample.semantic.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX] > 0


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the order in which an epoch visits the samples."""
    return np.random.default_rng([seed, epoch, 0x0EDE2]).permutation(size)


def augmentation_rng(seed: int, iteration: int, position: int) -> np.random.Generator:
    """Return the generator of one image of one batch."""
    return np.random.default_rng([seed, iteration, position, 0xA06])


def train_loader(
    batches: TrainBatches, *, start: int, workers: int
) -> Generator[Batch, None, None]:
    """Return the batches from iteration ``start`` to the end, in order; close it after use."""
    made = load(
        batches.__getitem__, range(start, len(batches)), workers=workers,
        doing=batches_of(batches.recipe),
    )  # fmt: skip
    return in_page_locked_memory(made, Batch.pin_memory, workers=workers)


def batches_of(recipe: Recipe) -> str:
    """Return how large the batches are, for messages of memory that ran out."""
    crop = "whole images" if recipe.crop_size is None else "x".join(map(str, recipe.crop_size))
    return f"training batches of {recipe.batch_size} at crop {crop}"


def in_page_locked_memory(
    made: Generator[Value, None, None], pin: Callable[[Value], Value], *, workers: int
) -> Generator[Value, None, None]:
    """Return batches as a GPU takes them fastest; as they are where there is none."""
    if not torch.cuda.is_available():
        return made
    return pinned(made, pin) if workers else (pin(batch) for batch in made)
