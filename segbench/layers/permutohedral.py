"""Gaussian filtering of scattered points by the permutohedral lattice.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
Eurographics 2010. In D dimensions space is tiled by simplices; a point gives its value to the
D + 1 vertices round it (splat), vertices are blurred by (1, 2, 1) / 2 along each of D + 1 axes,
and a point reads the vertices round it again (slice). The cost is linear in the points. Only
vertices that a point touches exist; what is blurred onto another is lost, as in the filter of
Kraehenbuehl and Koltun.

The result approximates ``out[i] = sum_j exp(-|f_i - f_j|^2 / 2) values[j]`` up to a factor that
is nearly constant. Axes: P points, D dimensions, C channels, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from segbench.core.types import FloatArray, IntArray

TINY = 1e-20
"""Added to the weight a point gathers before dividing by it."""


@dataclass(frozen=True)
class Lattice:
    """Which vertices each point touches, how much, and which vertices are neighbours.

    ``corners`` int32 [P, D + 1]; ``weights`` [P, D + 1]; ``neighbours`` int32 [D + 1, 2, V]
    with V for none.
    """

    corners: IntArray
    weights: FloatArray
    neighbours: IntArray

    def filter(self, values: FloatArray, *, adjoint: bool = False) -> FloatArray:
        """Return the values [P, C] filtered, in the type of the weights.

        The axes are blurred in order, for the ``adjoint`` (transposed) filter in reverse order:
        splat and slice are transposes of each other, and so is each blur of itself.
        """
        from segbench.layers import permutohedral_kernels as loops

        axes = len(self.neighbours)
        values = np.ascontiguousarray(values, dtype=self.weights.dtype)
        now = np.zeros((self.neighbours.shape[2] + 1, values.shape[1]), dtype=values.dtype)
        after = np.zeros_like(now)
        loops.splat(values, self.corners, self.weights, now)
        for axis in reversed(range(axes)) if adjoint else range(axes):
            loops.blur(now, self.neighbours[axis], after)
            now, after = after, now
        out = np.empty_like(values)
        loops.gather(now, self.corners, self.weights, out)
        out *= gain(axes - 1)
        return out

    def normalised(self) -> Lattice:
        """Return N K N with N = 1 / sqrt(K 1): the filter made symmetric and near a mean."""
        mass = self.filter(np.ones((len(self.corners), 1), dtype=self.weights.dtype))
        return replace(self, weights=self.weights / np.sqrt(mass + TINY).astype(mass.dtype))


def build_lattice(features: FloatArray) -> Lattice:
    """Return the lattice of points whose features [P, D] are in units of standard deviations."""
    from segbench.layers import permutohedral_kernels as loops

    points, dims = features.shape
    keys = np.empty((points, dims + 1, dims), dtype=np.int32)
    weights = np.empty((points, dims + 1), dtype=np.float32)
    corners = np.empty((points, dims + 1), dtype=np.int32)
    loops.enclose(np.ascontiguousarray(features, dtype=np.float32), _scale(dims), keys, weights)
    vertices, table = loops.number(keys.reshape(-1, dims), corners.reshape(-1))
    neighbours = np.empty((dims + 1, 2, len(vertices)), dtype=np.int32)
    loops.connect(vertices, table, neighbours)
    return Lattice(corners, weights, neighbours)


def _scale(dims: int) -> FloatArray:
    """Return [D]: one standard deviation of the whole filter along each axis of the basis.

    Splat, blur and slice together have the variance of ``2 (D + 1)^2 / 3`` squared units.
    """
    axis = np.arange(1, dims + 1)
    scale: FloatArray = (dims + 1) * np.sqrt(2 / 3) / np.sqrt(axis * (axis + 1.0))
    return scale


def gain(dims: int) -> float:
    """Return the factor on what is read, as in the published filter of dense CRFs."""
    return 1 / (1 + 2.0**-dims)
