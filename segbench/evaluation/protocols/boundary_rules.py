"""What boundary scores mean, in plain words: the same under every protocol that has them."""

from __future__ import annotations

from collections.abc import Mapping

_REGION = (
    "The boundary of a region is its pixels whose square window of d pixels to each side leaves "
    "the region or the image; d is 2 % of the image diagonal, rounded, at least 1. "
)
_SOURCE = "Cheng et al., Boundary IoU, CVPR 2021; bowenc0221/boundary-iou-api"
BOUNDARY_RULES: Mapping[str, str] = {
    "semantic": (
        f"{_REGION}Boundary IoU of a class: pixels on both boundaries over pixels on either, "
        "summed over images, with this protocol's rules for void and absent classes "
        f"({_SOURCE}). Boundary F: per image and class the harmonic mean of the parts of the two "
        "contours (pixels with a 4-neighbour of another label) within 0.75 % of the diagonal of "
        "each other, averaged over the images with a contour of the class, then over classes "
        "(the BF measure of Csurka et al., BMVC 2013)."
    ),
    "instance": (
        f"{_REGION}Boundary AP is COCO's AP with the smaller of mask IoU and boundary IoU of each "
        f"pair; crowds are matched by mask alone ({_SOURCE})."
    ),
    "panoptic": (
        f"{_REGION}Boundary PQ is PQ with the smaller of mask IoU and boundary IoU of each pair; "
        f"predicted boundaries on void do not count ({_SOURCE})."
    ),
}
"""Rule and source of a task's boundary scores."""
