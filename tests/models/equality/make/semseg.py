"""PSPNet of its authors: a checkout of hszhao/semseg."""

from __future__ import annotations

import sys

from tests.models.equality.make.checkout import checkout_of
from tests.models.equality.stored import Reference, store

SIZES = ((97, 129), (129, 161))
"""The reference takes sides of a multiple of 8, plus 1."""


def main() -> None:
    commit = checkout_of(sys.argv[1])
    from model.pspnet import PSPNet  # type: ignore[import-not-found]

    for depth in (50, 101):
        store(
            f"pspnet_resnet{depth}",
            PSPNet(layers=depth, classes=19, pretrained=False),
            lambda network, batch: network(batch),
            model=f"pspnet_resnet{depth}",
            arguments=(19,),
            reference=Reference("hszhao/semseg", commit, "model/pspnet.py"),
            sizes=SIZES,
        )


if __name__ == "__main__":
    main()
