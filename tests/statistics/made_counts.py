"""Counts of made-up runs: images of one truth, predictions of a given skill."""

import numpy as np

from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.semantic.counts import SemanticCounts


def semantic_counts(seed, *, images=12, classes=4, skill=0.7, truth_seed=0, void=False):
    """Every image holds some classes; a pixel is right with about the skill's probability."""
    shared, rng = np.random.default_rng(truth_seed), np.random.default_rng(seed)
    size = classes + 1
    pixels = shared.integers(0, 200, (images, size)) * (shared.random((images, size)) < 0.7)
    pixels[:, -1] *= void
    last = size if void else classes
    tables = np.zeros((images, size, size), dtype=np.int64)
    for image in range(images):
        right = np.clip(skill + 0.25 * rng.standard_normal(), 0.02, 0.98)
        for row in range(size):
            chances = np.full(last, (1 - right) / (last - 1))
            if row < last:
                chances[row] = right
            else:
                chances[:] = 1 / last
            tables[image, row, :last] = rng.multinomial(pixels[image, row], chances)
    return from_tables(tables)


def from_tables(tables):
    """Confusions [N, C+1, C+1] as counts of images 1 .. N."""
    cells = np.nonzero(tables)
    entries = np.stack([*cells, tables[cells]], axis=1).astype(np.int64)
    return SemanticCounts(tables.shape[1] - 1, tuple(range(1, len(tables) + 1)), entries)


def panoptic_counts(seed, *, images=10, skill=0.7, truth_seed=0):
    """Three things and two stuff classes; a true segment is found with the skill's chance."""
    shared, rng = np.random.default_rng(truth_seed), np.random.default_rng(seed)
    truths = shared.integers(0, 4, (images, 5)) * (shared.random((images, 5)) < 0.6)
    found = rng.binomial(truths, skill)
    false = rng.poisson(0.3, truths.shape)
    union = rng.integers(100, 200, found.sum())
    inter = (union * rng.uniform(0.51, 1.0, len(union))).astype(np.int64)
    cells = np.repeat(np.argwhere(found >= 0), found.ravel(), axis=0)
    ids = np.arange(1, len(union) + 1)
    wrong = np.argwhere((false > 0) | (truths > found))
    index = (wrong[:, 0], wrong[:, 1])
    return PanopticCounts(
        (1, 2, 5, 8, 9),
        np.array([True, True, True, False, False]),
        tuple(range(100, 100 + images)),
        np.arange(images),
        np.column_stack([cells, ids, ids, inter, union]).astype(np.int64),
        np.column_stack([wrong, false[index], (truths - found)[index]]).astype(np.int64),
    )


def instance_counts(seed, *, images=10, classes=3, skill=0.7, truth_seed=0, iou_type="segm"):
    """Matches are nested in the IoU threshold; scores are distinct and higher on hits."""
    shared, rng = np.random.default_rng(truth_seed), np.random.default_rng(seed)
    cells, scores, matched, ignored, truth_ignored = [], [], [], [], []
    for k in range(classes):
        for i in range(images):
            truths = int(shared.integers(0, 4))
            area, crowd = shared.integers(1, 4, truths), shared.random(truths) < 0.1
            out = np.stack([crowd, *(crowd | (area != a) for a in (1, 2, 3))])
            hits = rng.binomial(truths, skill)
            number = hits + int(rng.poisson(0.8))
            if not truths + number:
                continue
            level = np.where(np.arange(number) < hits, rng.integers(1, 11, number), 0)
            order = np.argsort(-(level / 20 + rng.random(number)))
            owner = np.full(number, -1)
            owner[:hits] = rng.permutation(truths)[:hits]
            hit = np.arange(10)[:, None] < level[order]
            absorbed = np.pad(out, ((0, 0), (0, 1)))[:, owner[order]]
            matched.append(np.broadcast_to(hit, (4, 10, number)))
            ignored.append(hit & absorbed.reshape(4, 1, number))
            scores.append(-np.sort(-rng.random(number)))
            truth_ignored.append(out.reshape(4, truths))
            cells.append([k, i, number, truths])
    return InstanceCounts(
        iou_type,
        tuple(range(1, classes + 1)),
        tuple(range(images)),
        np.array(cells, dtype=np.int64),
        np.concatenate(scores),
        np.concatenate(matched, axis=2),
        np.concatenate(ignored, axis=2),
        np.concatenate(truth_ignored, axis=1).astype(bool),
    )
