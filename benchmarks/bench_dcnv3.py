"""Sampling of DCNv3 beside torchvision's deformable convolution and beside a loop over places.

    OMP_NUM_THREADS=1 python benchmarks/bench_dcnv3.py [--rounds 5] [--device cpu]

Torchvision's operator sums the same samples when its kernel is the identity of a group at every
point. The loop takes one place and group at a time, as the formula is written. Results are compared
before they are timed; on a GPU, wall time is measured and the loop left out.
"""

import itertools
from functools import partial

import torch
from timing import compare, gpu_milliseconds, on_device
from torchvision.ops import deform_conv2d

from segbench.layers.dcnv3 import sample_points

SHAPES = [(128, 64, 4), (32, 256, 16)]
"""Side, channels and groups: stages 1 and 3 of InternImage-T on 512 x 512 pixels."""
SMALL = (12, 64, 4)
"""What the loop can do in seconds."""


def workload(side, channels, groups, *, batch=1, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = (channels,), (groups, 9, 2), (groups, 9)
    values, offsets, modulation = (
        torch.randn(batch, side, side, *shape, generator=generator).to(device) for shape in shapes
    )
    return [values, offsets, modulation.softmax(-1)]


def by_torchvision(values, offsets, modulation):
    groups = modulation.shape[3]
    each = values.shape[-1] // groups
    by_row = torch.arange(9).reshape(3, 3).T.flatten()
    identity = torch.eye(each, device=values.device).repeat(groups, 1)
    summed = deform_conv2d(
        values.permute(0, 3, 1, 2),
        offsets[..., by_row, :].flip(-1).flatten(3).permute(0, 3, 1, 2),
        identity[:, :, None, None].expand(-1, -1, 3, 3).contiguous(),
        padding=1,
        mask=modulation[..., by_row].flatten(3).permute(0, 3, 1, 2),
    )
    return summed.permute(0, 2, 3, 1)


def by_loop(values, offsets, modulation):
    batch, height, width, groups = modulation.shape[:-1]
    padded = torch.nn.functional.pad(values, (0, 0, 9, 9, 9, 9)).unflatten(-1, (groups, -1))
    result = torch.zeros_like(values).unflatten(-1, (groups, -1))
    places = itertools.product(range(batch), range(height), range(width), range(groups))
    for n, row, column, group in places:
        shifts, weights = offsets[n, row, column, group], modulation[n, row, column, group]
        for point, ((dx, dy), weight) in enumerate(
            zip(shifts.tolist(), weights.tolist(), strict=True)
        ):
            x, y = column + point // 3 - 1 + dx, row + point % 3 - 1 + dy
            left, top = int(x // 1), int(y // 1)
            for i, j in itertools.product((top, top + 1), (left, left + 1)):
                share = weight * (1 - abs(y - i)) * (1 - abs(x - j))
                result[n, row, column, group] += share * padded[n, i + 9, j + 9, group]
    return result.flatten(-2)


def and_back(function, tensors):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    function(*tensors).sum().backward()


def check(function, tensors):
    difference = (function(*tensors) - sample_points(*tensors)).abs().max()
    assert difference < 1e-4, f"{function.__name__} differs by {difference}"


def on_cpu(rounds):
    small = workload(*SMALL)
    check(by_loop, small)
    with torch.no_grad():
        print(f"{SMALL[0]} x {SMALL[0]}, {SMALL[1]} channels, {SMALL[2]} groups")
        candidates = {"loop": partial(by_loop, *small), "ours": partial(sample_points, *small)}
        compare(candidates, rounds=rounds)
    for shape in SHAPES:
        tensors = workload(*shape)
        check(by_torchvision, tensors)
        print(f"{shape[0]} x {shape[0]}, {shape[1]} channels, {shape[2]} groups")
        functions = {"torchvision": by_torchvision, "ours": sample_points}
        compare(
            {f"{name}, and back": partial(and_back, f, tensors) for name, f in functions.items()},
            rounds=rounds,
        )
        with torch.no_grad():
            compare({n: partial(f, *tensors) for n, f in functions.items()}, rounds=rounds)


def on_gpu(rounds):
    for shape in SHAPES:
        tensors = workload(*shape, batch=8, device="cuda")
        check(by_torchvision, tensors)
        for name, function in {"torchvision": by_torchvision, "ours": sample_points}.items():
            each = gpu_milliseconds(partial(and_back, function, tensors), times=10 * rounds)
            print(f"{shape} batch 8, {name}, and back: {each:.3f} ms")


def main():
    options = on_device(__doc__)
    on_gpu(options.rounds) if options.device == "cuda" else on_cpu(options.rounds)


if __name__ == "__main__":
    main()
