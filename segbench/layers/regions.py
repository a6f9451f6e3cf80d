"""Images cut into regions without learning, by scikit-image.

Each function takes an image float [H, W, 3] with values in [0, 1] and returns the region of
each pixel, int64 [H, W], numbered from 0 without gaps. The same image gives the same regions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from skimage import color, graph, measure, morphology, segmentation

Image = NDArray[np.float64]
Labels = NDArray[np.int64]

LEVELS = 16
"""Steps of a minimum's depth. On floats, scikit-image 0.26 loses minima to rounding."""


def watershed_regions(
    image: Image, *, sigma: float = 0.7, depth: float = 4.0, merge: float = 8.0
) -> Labels:
    """Flood the colour gradient from its minima, then join neighbours of like colour.

    Vincent and Soille, "Watersheds in Digital Spaces", PAMI 1991.

    Args:
        image: The image.
        sigma: Blur before the gradient, in pixels.
        depth: A minimum less deep than this, in CIELAB units a pixel, has no basin.
        merge: Neighbours whose mean colours differ by less, in CIELAB units, are one region.
    """
    lab = color.rgb2lab(image)
    gradient = color_gradient(ndimage.gaussian_filter(lab, (sigma, sigma, 0)))
    levels = np.rint(gradient * (LEVELS / depth)).astype(np.int32)
    minima = measure.label(morphology.h_minima(levels, LEVELS))
    return _merged(lab, segmentation.watershed(gradient, minima), merge)


def normalized_cut_regions(
    image: Image,
    *,
    superpixels: int = 100,
    compactness: float = 10.0,
    sigma: float = 20.0,
    threshold: float = 0.05,
    cuts: int = 3,
) -> Labels:
    """Cut the adjacency graph of SLIC superpixels where the normalised cut is small.

    Shi and Malik, "Normalized Cuts and Image Segmentation", PAMI 2000.

    Args:
        image: The image.
        superpixels: About how many nodes the graph has.
        compactness: Weight of nearness against colour in a superpixel.
        sigma: Scale of the likeness exp(-difference^2 / sigma) of mean colours in CIELAB.
        threshold: A part whose best cut costs more stays whole.
        cuts: Thresholds of an eigenvector that are tried.
    """
    nodes = segmentation.slic(image, superpixels, compactness=compactness, start_label=0)
    if nodes.max() == 0:
        return _numbered(nodes)
    pairs, differences = _contacts(color.rgb2lab(image), _numbered(nodes))
    links = graph.RAG()
    links.add_nodes_from((node, {"labels": [node]}) for node in range(nodes.max() + 1))
    likeness = np.exp(-(differences**2) / sigma)
    links.add_weighted_edges_from(zip(*pairs.T.tolist(), likeness.tolist(), strict=True))
    return _numbered(graph.cut_normalized(nodes, links, thresh=threshold, num_cuts=cuts, rng=0))


def quickshift_regions(
    image: Image,
    *,
    sigma: float = 0.5,
    kernel_size: float = 2.0,
    max_distance: float = 8.0,
    ratio: float = 0.3,
    merge: float = 8.0,
) -> Labels:
    """Link each pixel to the nearest of higher density in colour and place: quick shift.

    Vedaldi and Soatto, "Quick Shift and Kernel Methods for Mode Seeking", ECCV 2008, the
    quick form of mean shift (Comaniciu and Meer, PAMI 2002).

    Args:
        image: The image.
        sigma: Blur beforehand, in pixels.
        kernel_size: Width of the density's kernel.
        max_distance: Longest link.
        ratio: Weight of colour (CIELAB units) against place (pixels).
        merge: As of ``watershed_regions``; mean shift joins near modes in the same way.
    """
    found = segmentation.quickshift(
        image, ratio=ratio, kernel_size=kernel_size, max_dist=max_distance, sigma=sigma, rng=0
    )
    return _merged(color.rgb2lab(image), found, merge)


def color_gradient(lab: Image) -> Image:
    """Return the gradient's length [H, W] over all channels of [H, W, C], in units a pixel."""
    slopes = [ndimage.sobel(lab, axis=axis, mode="nearest") / 8 for axis in (0, 1)]
    length: Image = np.sqrt(sum((slope**2).sum(-1) for slope in slopes))
    return length


def touching(labels: Labels) -> Labels:
    """Return the two regions [2, P] on either side of each pixel edge between regions."""
    across = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    along = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    pairs = np.concatenate([across, along], axis=1)
    return pairs[:, pairs[0] != pairs[1]]


def _contacts(lab: Image, labels: Labels) -> tuple[Labels, Image]:
    """Return the pairs [P, 2] of touching regions and the difference [P] of their mean colours."""
    pairs = np.unique(np.sort(touching(labels), axis=0), axis=1).T
    area = np.bincount(labels.ravel())
    sums = [np.bincount(labels.ravel(), channel) for channel in lab.reshape(-1, 3).T]
    means = np.stack(sums, axis=1) / area[:, None]
    return pairs, np.linalg.norm(means[pairs[:, 0]] - means[pairs[:, 1]], axis=1)


def _merged(lab: Image, labels: Labels, merge: float) -> Labels:
    """Join regions along contacts of less difference than ``merge``."""
    labels = _numbered(labels)
    pairs, differences = _contacts(lab, labels)
    rows, columns = pairs[differences < merge].T
    number = int(labels.max()) + 1
    links = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(number, number))
    joined: Labels = connected_components(links, directed=False)[1].astype(np.int64)
    return joined[labels]


def _numbered(labels: Labels) -> Labels:
    numbers = np.unique(labels, return_inverse=True)[1]
    return numbers.reshape(labels.shape).astype(np.int64)
