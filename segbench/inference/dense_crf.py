"""Dense CRF: every pixel of an image coupled to every other, solved by mean field.

Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011 (arXiv 1210.5644). Labels that differ cost (Potts) a spatial Gaussian of
the distance of two pixels and a bilateral one of distance and colour. One step of mean field
filters the label probabilities with both, adds them to the logits and takes the softmax.

As in the authors' code (which DeepLab used, and pydensecrf wraps), a pixel also hears itself,
and kernels are normalised symmetrically. Defaults are those of DeepLab v2 on PASCAL VOC.
Axes: C classes, H rows, W columns, P = H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from segbench.core.errors import ConfigError
from segbench.core.types import FloatArray, IntArray
from segbench.layers.permutohedral import TINY as TINY_MASS
from segbench.layers.permutohedral import build_lattice

CrfKernel = Literal["lattice", "window", "exact"]
TINY = 1e-12
"""Smallest probability whose logarithm is taken."""
EXACT_PIXELS = 10_000
"""Largest image whose pairs of pixels are all written down: 400 MB a kernel."""
WINDOW = 2.0
"""Standard deviations after which the truncated Gaussian ends on each image axis."""
SAMPLES = 8
"""Samples of the truncated Gaussian in one standard deviation."""


class Kernel(Protocol):
    """A Gaussian over pairs of pixels."""

    def filter(self, values: FloatArray) -> FloatArray:
        """Return the normalised sum over all pixels for values float32 [P, C]."""


@dataclass(frozen=True)
class CrfSettings:
    """Weights and standard deviations (pixels; 8-bit colour) of both kernels.

    ``kernel`` says how their sums are made: ``lattice``, the permutohedral lattice;
    ``window``, a Gaussian cut off at two standard deviations of distance and evaluated at
    eight sample pixels a standard deviation, on each axis; ``exact``, all pairs, for small
    images only.
    """

    iterations: int = 10
    spatial_weight: float = 3.0
    spatial_std: float = 1.0
    bilateral_weight: float = 4.0
    bilateral_xy_std: float = 67.0
    bilateral_rgb_std: float = 3.0
    kernel: CrfKernel = "lattice"


def dense_crf(
    probabilities: FloatArray, image: IntArray, settings: CrfSettings | None = None
) -> FloatArray:
    """Return the marginals of the labels, float32 [C, H, W].

    Args:
        probabilities: The softmax of a network, [C, H, W].
        image: Its colours, uint8 [H, W, 3].
        settings: Weights and standard deviations; None takes DeepLab v2's.

    Raises:
        ConfigError: ``exact`` is asked for an image of more than ``EXACT_PIXELS``.
        ValueError: The sizes of probabilities and image differ.
    """
    settings = settings or CrfSettings()
    classes, height, width = probabilities.shape
    if image.shape != (height, width, 3):
        raise ValueError(
            f"probabilities are [{classes}, {height}, {width}], the image is {image.shape}"
        )
    unary = np.log(np.maximum(probabilities, TINY), dtype=np.float32)
    unary = np.ascontiguousarray(unary.reshape(classes, -1).T)
    marginals = mean_field(unary, pairwise_kernels(image, settings), settings.iterations)
    return np.ascontiguousarray(marginals.T).reshape(classes, height, width)


def mean_field(
    unary: FloatArray, kernels: list[tuple[float, Kernel]], iterations: int
) -> FloatArray:
    """Return the label probabilities [P, C] after some steps from the softmax of the logits.

    Under Potts a label loses the weighted messages of all others: up to a constant of the pixel,
    which the softmax takes out, it gains its own.
    """
    marginals = softmax(unary)
    for _ in range(iterations):
        total = unary.copy()
        for weight, kernel in kernels:
            message = kernel.filter(marginals)
            message *= np.float32(weight)
            total += message
        marginals = softmax(total)
    return marginals


def softmax(logits: FloatArray) -> FloatArray:
    """Return the softmax of [P, C] over the last axis."""
    result: FloatArray = logits - logits.max(axis=1, keepdims=True)
    np.exp(result, out=result)
    result /= result.sum(axis=1, keepdims=True)
    return result


def pairwise_kernels(image: IntArray, settings: CrfSettings) -> list[tuple[float, Kernel]]:
    """Return the spatial and the bilateral kernel of an image with their weights, if not 0."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    place = np.stack([columns, rows], axis=-1)
    colour = image.astype(np.float32) / settings.bilateral_rgb_std
    bilateral = np.concatenate([place / settings.bilateral_xy_std, colour], axis=-1)
    wanted = [
        (settings.spatial_weight, place / settings.spatial_std, settings.spatial_std),
        (settings.bilateral_weight, bilateral, settings.bilateral_xy_std),
    ]
    return [(weight, _kernel(f, std, settings.kernel)) for weight, f, std in wanted if weight]


def _kernel(features: FloatArray, std: float, kind: CrfKernel) -> Kernel:
    """Return a kernel of features [H, W, D] whose spatial standard deviation is ``std`` pixels."""
    flat = features.reshape(-1, features.shape[-1])
    if kind == "lattice":
        return build_lattice(flat).normalised()
    return WindowKernel.of(features, std) if kind == "window" else ExactKernel.of(flat)


@dataclass(frozen=True)
class ExactKernel:
    """All pairs, written down: ``matrix`` float32 [P, P], normalised."""

    matrix: FloatArray

    @classmethod
    def of(cls, features: FloatArray) -> ExactKernel:
        """Return the kernel of features [P, D] in standard deviations."""
        if len(features) > EXACT_PIXELS:
            raise ConfigError(
                f"crf_kernel: exact takes images up to {EXACT_PIXELS} pixels, "
                f"found {len(features)}",
                fix="write crf_kernel: lattice",
            )
        squares = np.zeros((len(features),) * 2, dtype=np.float64)
        for axis in features.T.astype(np.float64):
            squares += (axis[:, None] - axis[None, :]) ** 2
        matrix = np.exp(-squares / 2)
        norm = 1 / np.sqrt(matrix.sum(axis=1) + TINY_MASS)
        return cls((matrix * norm[:, None] * norm[None, :]).astype(np.float32))

    def filter(self, values: FloatArray) -> FloatArray:
        """See ``Kernel``."""
        result: FloatArray = self.matrix @ values
        return result


@dataclass(frozen=True)
class WindowKernel:
    """A Gaussian cut off at a distance, from every ``step``-th pixel of both axes only.

    ``features`` float32 [H, W, D] in standard deviations; ``norm`` float32 [P, 1]; ``reach``
    and ``step`` in pixels.
    """

    features: FloatArray
    norm: FloatArray
    reach: int
    step: int

    @classmethod
    def of(cls, features: FloatArray, std: float) -> WindowKernel:
        """Return the kernel whose spatial standard deviation is ``std`` pixels."""
        reach, step = round(WINDOW * std), max(1, round(std / SAMPLES))
        ones = np.ones((features.shape[0] * features.shape[1], 1), dtype=np.float32)
        features = np.ascontiguousarray(features, dtype=np.float32)
        mass = cls(features, ones, max(reach, 1), step).filter(ones)
        norm = (1 / np.sqrt(mass + TINY_MASS)).astype(np.float32)
        # a pixel that hears no sample keeps its own opinion
        norm[mass == 0] = 0
        return cls(features, norm, max(reach, 1), step)

    def filter(self, values: FloatArray) -> FloatArray:
        """See ``Kernel``."""
        from segbench.inference.window_kernels import window_sum

        out = np.zeros_like(values)
        window_sum(self.features, values * self.norm, self.reach, self.step, out)
        out *= self.norm
        return out
