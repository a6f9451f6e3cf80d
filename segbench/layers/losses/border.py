"""U-Net's weight map: pixels in the narrow gaps between two regions count more.

Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, equation 2:
w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), with d1 and d2 the distances to the
nearest and the second nearest cell. It is computed on the CPU where batches are made, after
all augmentation, so distances are those of the pixels the network sees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segbench.core.types import IGNORE_INDEX

REACH = 5.0
"""Sigmas beyond which a cell is not looked for; the term left out is below 4e-6 w0."""


def border_weights(
    cells: NDArray[np.int64], *, strength: float = 10.0, sigma: float = 5.0
) -> NDArray[np.float32]:
    """Return 1 + ``strength`` exp(-(d1 + d2)^2 / (2 ``sigma``^2)) outside of cells, 1 inside.

    Args:
        cells: Numbers of the cells [H, W], 0 outside of every cell.
        strength: w0.
        sigma: In pixels.
    """
    reach = int(np.ceil(REACH * sigma))
    nearest, second = np.full((2, *cells.shape), np.inf)
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        rows, columns = (slice(max(0, side.start - reach), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(cells[rows, columns] != number)
        first = nearest[rows, columns]
        second[rows, columns] = np.minimum(second[rows, columns], np.maximum(first, distance))
        nearest[rows, columns] = np.minimum(first, distance)
    extra = strength * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(cells == 0, 1 + extra, 1).astype(np.float32)


def cells_of(labels: NDArray[np.integer], *, background: int = 0) -> NDArray[np.int64]:
    """Number the connected regions of a label map [H, W] from 1; 0 is background or ignored.

    Pixels connect over their edges; regions of two classes are two cells where they touch.
    """
    cells = np.zeros(labels.shape, dtype=np.int64)
    for label in np.unique(labels):
        if label not in (background, IGNORE_INDEX):
            regions, _ = ndimage.label(labels == label)
            cells = np.where(regions > 0, regions + cells.max(), cells)
    return cells
