"""Multi-scale deformable attention beside a loop over queries, heads, maps and points.

    OMP_NUM_THREADS=1 python benchmarks/bench_deformable_attention.py [--rounds 5] [--device cpu]

The loop takes one query and head at a time, as the formula is written. Results are compared before
they are timed; on a GPU, wall time is measured and the loop left out.
"""

import itertools
from functools import partial

import torch
from timing import compare, gpu_milliseconds, on_device

from segbench.layers.deformable_attention import sample_levels

CHANNELS, HEADS, POINTS = 256, 8, 4
SIZES = [(16, 16), (32, 32), (64, 64)]
"""Maps of Mask2Former's pixel decoder on 512 x 512 pixels; each place is a query."""
SMALL = [(2, 2), (4, 4), (8, 8)]
"""What the loop can do in seconds."""


def workload(sizes, *, batch=1, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    places = sum(height * width for height, width in sizes)
    values = torch.randn(batch, places, HEADS, CHANNELS // HEADS, generator=generator)
    shape = (batch, places, HEADS, len(sizes), POINTS)
    points = torch.rand(*shape, 2, generator=generator) * 1.2 - 0.1
    weights = torch.randn(shape, generator=generator).flatten(3).softmax(-1).reshape(shape)
    return [tensor.to(device) for tensor in (values, points, weights)]


def ours(sizes, values, points, weights):
    return sample_levels(values, sizes, points, weights)


def by_loop(sizes, values, points, weights):
    batch, queries, heads, levels, count = weights.shape
    maps = values.split([height * width for height, width in sizes], dim=1)
    images = [m.reshape(batch, *size, *m.shape[2:]) for m, size in zip(maps, sizes, strict=True)]
    result = values.new_zeros(batch, queries, heads, values.shape[-1])
    ranges = (range(number) for number in (batch, queries, heads, levels, count))
    for n, query, head, level, point in itertools.product(*ranges):
        height, width = sizes[level]
        x, y = points[n, query, head, level, point].tolist()
        x, y = x * width - 0.5, y * height - 0.5
        left, top = int(x // 1), int(y // 1)
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                share = share * weights[n, query, head, level, point]
                result[n, query, head] += share * images[level][n, row, column, head]
    return result.flatten(2)


def and_back(function, sizes, tensors):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    function(sizes, *tensors).sum().backward()


def on_cpu(rounds):
    tensors = workload(SMALL)
    difference = (by_loop(SMALL, *tensors) - ours(SMALL, *tensors)).abs().max()
    assert difference < 1e-5, f"the loop differs by {difference}"
    functions = {"loop": by_loop, "ours": ours}
    print(f"maps {SMALL}, {CHANNELS} channels, {HEADS} heads, {POINTS} points")
    with torch.no_grad():
        compare({n: partial(f, SMALL, *tensors) for n, f in functions.items()}, rounds=rounds)
    compare(
        {f"{n}, and back": partial(and_back, f, SMALL, tensors) for n, f in functions.items()},
        rounds=rounds,
    )
    tensors = workload(SIZES)
    print(f"maps {SIZES}")
    with torch.no_grad():
        compare({"ours": partial(ours, SIZES, *tensors)}, rounds=rounds)
    compare({"ours, and back": partial(and_back, ours, SIZES, tensors)}, rounds=rounds)


def on_gpu(rounds):
    tensors = workload(SIZES, batch=8, device="cuda")
    each = gpu_milliseconds(partial(and_back, ours, SIZES, tensors), times=10 * rounds)
    print(f"maps {SIZES} batch 8, and back: {each:.3f} ms")


def main():
    options = on_device(__doc__)
    on_gpu(options.rounds) if options.device == "cuda" else on_cpu(options.rounds)


if __name__ == "__main__":
    main()
