"""Made-up worlds of images, without end: samples of them, scored by made-up predictions.

N images, C classes. Classes differ in how often they occur, in how well they are found and in how
many objects an image has of them; images differ in how hard they are. One seed is one world.
Areas of a class scatter as COCO's do (about as much as they measure).
"""

from dataclasses import dataclass

import numpy as np

from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.semantic.counts import SemanticCounts

COCO = (0.54, 0.12, 0.062, 0.04, 0.036, 0.031, 0.028, 0.024, 0.02, 0.018, 0.014, 0.009, 0.0017)
"""Share of COCO's validation images that show a class; thirteen of 80, the commonest first."""


def frequencies(kind, classes):
    """Return the share of images that show each class: even, uneven (1 to 30) or as in COCO."""
    if kind == "even":
        return np.full(classes, 0.5)
    if kind == "uneven":
        return np.geomspace(0.6, 0.02, classes)
    places = np.linspace(0, len(COCO) - 1, classes)
    return np.exp(np.interp(places, np.arange(len(COCO)), np.log(COCO)))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images: which classes they show [N, C], objects of each [N, C], pixels, how hard [N, 1]."""

    objects: np.ndarray
    pixels: np.ndarray
    hard: np.ndarray


@dataclass(frozen=True, eq=False)
class World:
    """Classes [C]: chance to be shown, log odds of being right, further objects an image."""

    shown: np.ndarray
    skill: np.ndarray
    crowding: np.ndarray

    @classmethod
    def of(cls, kind, classes, seed=0):
        rng = np.random.default_rng([seed, classes])
        skill = 0.5 + 0.9 * rng.standard_normal(classes)
        return cls(frequencies(kind, classes), skill, rng.gamma(2.0, 0.7, classes))

    def scenes(self, rng, images):
        present = rng.random((images, len(self.shown))) < self.shown
        objects = present * (1 + rng.poisson(np.broadcast_to(self.crowding, present.shape)))
        pixels = (present * (1 + 2000 * rng.gamma(0.85, size=present.shape))).astype(np.int64)
        return Scenes(objects, pixels, 0.7 * rng.standard_normal((images, 1)))

    def counts(self, task, scenes, rng):
        """Return what ``counts.npz`` holds of one run of a model on these images."""
        odds = self.skill + scenes.hard + 0.4 * rng.standard_normal(scenes.objects.shape)
        return {MAKERS[task][0]: MAKERS[task][1](self, scenes, odds, rng)}


def instance(world, scenes, odds, rng):
    truths = scenes.objects
    hits = rng.binomial(truths, sigmoid(odds + 1))
    wrong = rng.poisson(np.where(truths > 0, 0.7, 0.25 * world.shown))
    k, image = np.nonzero((truths + wrong).T)
    hit, false, true = hits[image, k], wrong[image, k], truths[image, k]
    cell = np.concatenate([np.repeat(np.arange(len(k)), n) for n in (hit, false)])
    right = np.arange(len(cell)) < hit.sum()
    level = right * (1 + rng.binomial(9, sigmoid(odds[image, k] + 0.3)[cell]))
    score = sigmoid(np.where(right, level / 4 - 0.5, -1) + rng.standard_normal(len(cell)))
    order = np.lexsort((-score, cell))
    matched = np.arange(10)[:, None] < level[order]
    shape = (4, *matched.shape)
    return InstanceCounts(
        "segm", tuple(range(1, len(world.shown) + 1)), tuple(range(len(truths))),
        np.column_stack([k, image, hit + false, true]).astype(np.int64), score[order],
        np.broadcast_to(matched, shape), np.zeros(shape, dtype=bool),
        np.zeros((4, int(true.sum())), dtype=bool),
    )  # fmt: skip


def panoptic(world, scenes, odds, rng):
    """Two classes of three are things, the others stuff: one segment an image."""
    isthing = np.arange(len(world.shown)) % 3 > 0
    truths = np.where(isthing, scenes.objects, scenes.objects > 0)
    found = rng.binomial(truths, sigmoid(odds))
    false = rng.poisson(np.where(truths > 0, 0.3, 0.1 * world.shown))
    image, k = (np.repeat(each, found.ravel()) for each in np.indices(found.shape).reshape(2, -1))
    union = rng.integers(1000, 2000, len(k))
    inter = (union * (0.501 + 0.49 * rng.beta(3, 2, len(k)))).astype(np.int64)
    ids = np.arange(1, len(k) + 1)
    wrong = np.argwhere((false > 0) | (truths > found))
    at = tuple(wrong.T)
    matches = np.column_stack([image, k, ids, ids, inter, union])
    return PanopticCounts(
        tuple(range(1, len(world.shown) + 1)), isthing, tuple(range(len(truths))),
        np.arange(len(truths)), matches.astype(np.int64),
        np.column_stack([wrong, false[at], (truths - found)[at]]).astype(np.int64),
    )  # fmt: skip


def semantic(world, scenes, odds, rng):
    """Most wrong pixels are taken for a class of the same image, some for any class."""
    pixels = scenes.pixels
    right = (pixels * sigmoid(odds + 0.7)).astype(np.int64)
    near = ((pixels - right) * rng.beta(4, 1, odds.shape)).astype(np.int64)
    image, k = np.nonzero(pixels)
    beside = np.argmax((pixels > 0) * rng.random(odds.shape), axis=1)[image]
    chance = np.cumsum(world.shown) / world.shown.sum()
    other = np.searchsorted(chance, rng.random(len(k)))
    parts = ((k, right), (beside, near), (other, pixels - right - near))
    rows = [np.column_stack([image, k, to, n[image, k]]) for to, n in parts]
    classes, images = len(world.shown), tuple(range(len(pixels)))
    return SemanticCounts(classes, images, _summed(np.concatenate(rows)))


def _summed(rows):
    """Add rows (image, truth, prediction, pixels) of one cell; cells in ascending order."""
    cells, place = np.unique(rows[:, :3], axis=0, return_inverse=True)
    pixels = np.bincount(place.ravel(), weights=rows[:, 3]).astype(np.int64)
    entries = np.column_stack([cells, pixels])
    return entries[pixels > 0].astype(np.int64)


MAKERS = {
    "semantic": ("semantic", semantic),
    "panoptic": ("panoptic", panoptic),
    "instance": ("segm", instance),
}
"""Name of the counts and what makes them, by task."""
