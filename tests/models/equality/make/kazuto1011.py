"""DeepLab v1 and v2 on ResNet-101: a checkout of kazuto1011/deeplab-pytorch."""

from __future__ import annotations

import sys

from torch import Tensor, nn
from torch.nn import functional

from tests.models.equality.make.checkout import checkout_of
from tests.models.equality.stored import Reference, store


def main() -> None:
    commit = checkout_of(sys.argv[1])
    from libs.models import DeepLabV1, DeepLabV2  # type: ignore[import-not-found]

    blocks = [3, 4, 23, 3]
    rates = [6, 12, 18, 24]
    for model, network, file in (
        ("deeplab_v1", DeepLabV1(21, blocks), "libs/models/deeplabv1.py"),
        ("deeplab_v2_resnet101", DeepLabV2(21, blocks, rates), "libs/models/deeplabv2.py"),
    ):
        reference = Reference("kazuto1011/deeplab-pytorch", commit, file)
        store(model, network, run, model=model, arguments=(21,), reference=reference)


def run(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the scores at the size of the images, enlarged as the port's main.py does."""
    size = batch.shape[-2:]
    return functional.interpolate(network(batch), size=size, mode="bilinear", align_corners=False)


if __name__ == "__main__":
    main()
