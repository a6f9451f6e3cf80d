"""Loops over the permutohedral lattice, compiled by numba; ``permutohedral`` describes it.

Only ``permutohedral`` imports this module, where something is to be filtered. Axes: P points, D
dimensions of their features, V vertices of the lattice that points touch, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import FloatArray, IntArray

_HASH = 11400714819323198485
"""2^64 / golden ratio: multiplying by it spreads keys over the upper bits (Knuth)."""


@compiled
def enclose(features: FloatArray, scale: FloatArray, keys: IntArray, weights: FloatArray) -> None:
    """Find the simplex round each point.

    Args:
        features: [P, D].
        scale: [D], from units of the features to lengths along the lattice's basis.
        keys: Filled with the first D of the D + 1 coordinates of each vertex, [P, D + 1, D].
        weights: Filled with barycentric coordinates, [P, D + 1]; vertex k has remainder k.
    """
    points, dims = features.shape
    high = np.zeros(dims + 1)
    base = np.zeros(dims + 1, dtype=np.int64)
    rank = np.zeros(dims + 1, dtype=np.int64)
    share = np.zeros(dims + 2)
    for p in range(points):
        total = 0.0
        for j in range(dims, 0, -1):
            part = features[p, j - 1] * scale[j - 1]
            high[j] = total - j * part
            total += part
        high[0] = total
        _nearest(high, base, rank)
        share[:] = 0.0
        for i in range(dims + 1):
            step = (high[i] - base[i]) / (dims + 1)
            share[dims - rank[i]] += step
            share[dims - rank[i] + 1] -= step
        share[0] += 1.0 + share[dims + 1]
        for k in range(dims + 1):
            weights[p, k] = share[k]
            for j in range(dims):
                keys[p, k, j] = base[j] + (k if rank[j] <= dims - k else k - dims - 1)


@compiled
def _nearest(high: FloatArray, base: IntArray, rank: IntArray) -> None:
    """Find the nearest vertex of remainder 0 and the order of the distances to it."""
    size = len(high)
    excess = 0
    for i in range(size):
        base[i] = np.int64(np.floor(high[i] / size + 0.5)) * size
        excess += base[i] // size
        rank[i] = 0
    for i in range(size):
        for j in range(i + 1, size):
            if high[i] - base[i] < high[j] - base[j]:
                rank[i] += 1
            else:
                rank[j] += 1
    for i in range(size):
        rank[i] += excess
        if rank[i] < 0:
            rank[i] += size
            base[i] += size
        elif rank[i] >= size:
            rank[i] -= size
            base[i] -= size


@compiled
def _slot(keys: IntArray, row: Any, vertices: IntArray, table: IntArray) -> Any:
    """Return the place of key ``row`` [., D] in the hash table, or the free place for it."""
    mask = np.uint64(len(table) - 1)
    hashed = np.uint64(0)
    for j in range(keys.shape[1]):
        hashed = (hashed ^ (hashed >> np.uint64(32)) ^ np.uint64(keys[row, j])) * np.uint64(_HASH)
    place = (hashed ^ (hashed >> np.uint64(32))) & mask
    while table[place] >= 0:
        vertex = table[place]
        same = 0
        while same < keys.shape[1] and vertices[vertex, same] == keys[row, same]:
            same += 1
        if same == keys.shape[1]:
            break
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def _larger(vertices: IntArray) -> Any:
    """Return the vertices [V, D] with room for as many again, and a new hash table of them."""
    count, dims = vertices.shape
    room = np.empty((2 * count, dims), dtype=np.int32)
    room[:count] = vertices
    table = np.full(4 * count, -1, dtype=np.int32)
    for v in range(count):
        table[_slot(room, v, room, table)] = v
    return room, table


@compiled
def number(keys: IntArray, corners: IntArray) -> Any:
    """Number the distinct keys in the order they come.

    Args:
        keys: [P * (D + 1), D].
        corners: Filled with the number of each key, [P * (D + 1)].

    Returns:
        The distinct keys [V, D] and the hash table of their numbers.
    """
    dims = keys.shape[1]
    vertices = np.empty((1024, dims), dtype=np.int32)
    table = np.full(2048, -1, dtype=np.int32)
    count = 0
    for n in range(len(keys)):
        if count == len(vertices):
            vertices, table = _larger(vertices)
        place = _slot(keys, n, vertices, table)
        if table[place] < 0:
            for j in range(dims):
                vertices[count, j] = keys[n, j]
            table[place] = count
            count += 1
        corners[n] = table[place]
    return vertices[:count], table


@compiled
def connect(vertices: IntArray, table: IntArray, neighbours: IntArray) -> None:
    """Find the two neighbours of each vertex along each of the D + 1 axes.

    Args:
        vertices: [V, D].
        table: Their hash table.
        neighbours: Filled with vertex numbers, V where there is none, [D + 1, 2, V].
    """
    count, dims = vertices.shape
    neighbours[:] = count
    key = np.empty((1, dims), dtype=np.int32)
    for v in range(count):
        for axis in range(dims + 1):
            for j in range(dims):
                key[0, j] = vertices[v, j] + 1
            if axis < dims:
                key[0, axis] -= dims + 1
            other = table[_slot(key, 0, vertices, table)]
            if other >= 0:
                neighbours[axis, 0, v] = other
                neighbours[axis, 1, other] = v


@compiled
def splat(values: FloatArray, corners: IntArray, weights: FloatArray, out: FloatArray) -> None:
    """Add values [P, C] to the vertices ``out`` [V + 1, C] of their simplices."""
    for p in range(len(corners)):
        for k in range(corners.shape[1]):
            weight, to, value = weights[p, k], out[corners[p, k]], values[p]
            for c in range(len(value)):
                to[c] += weight * value[c]


@compiled
def blur(values: FloatArray, neighbours: IntArray, out: FloatArray) -> None:
    """Add half of both neighbours [2, V] along one axis; row V of the values is zero."""
    half = values.dtype.type(0.5)
    for v in range(neighbours.shape[1]):
        first, second = values[neighbours[0, v]], values[neighbours[1, v]]
        own, to = values[v], out[v]
        for c in range(len(to)):
            to[c] = own[c] + half * (first[c] + second[c])


@compiled
def gather(values: FloatArray, corners: IntArray, weights: FloatArray, out: FloatArray) -> None:
    """Interpolate ``out`` [P, C] from the vertices [V + 1, C]."""
    for p in range(len(corners)):
        to = out[p]
        to[:] = 0
        for k in range(corners.shape[1]):
            weight, value = weights[p, k], values[corners[p, k]]
            for c in range(len(to)):
                to[c] += weight * value[c]
