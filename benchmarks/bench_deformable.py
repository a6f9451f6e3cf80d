"""Deformable convolution 3x3 beside torchvision's operator, forwards and with gradients.

    OMP_NUM_THREADS=1 python benchmarks/bench_deformable.py [--rounds 3]

The CPU form of ``segbench.layers.deformable``; on a GPU that is torchvision's operator itself.
"""

import argparse
from functools import partial

import torch
from timing import compare
from torchvision.ops import deform_conv2d

from segbench.layers.deformable import deformed

SHAPES = [(8, 64, 24), (1, 128, 50)]
"""Images, channels and side: the tiny LPSNet at stride 4, the full one's P4 on 800 pixels."""


def by_torchvision(features, offsets, weight):
    return deform_conv2d(features, offsets, weight, padding=1)


def workload(images, channels, side):
    generator = torch.Generator().manual_seed(0)
    shapes = (images, channels, side, side), (images, 18, side, side), (channels, channels, 3, 3)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def and_back(function, tensors):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    function(*tensors).sum().backward()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    functions = {"torchvision": by_torchvision, "ours": deformed}
    for shape in SHAPES:
        tensors = workload(*shape)
        torch.testing.assert_close(deformed(*tensors), by_torchvision(*tensors), rtol=0, atol=1e-3)
        print(f"{shape[0]} images, {shape[1]} channels, {shape[2]} x {shape[2]}")
        compare(
            {f"{name}, and back": partial(and_back, f, tensors) for name, f in functions.items()},
            rounds=rounds,
        )
        with torch.no_grad():
            compare({n: partial(f, *tensors) for n, f in functions.items()}, rounds=rounds)


if __name__ == "__main__":
    main()
