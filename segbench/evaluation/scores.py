"""Scores of counts, whatever their task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segbench.evaluation.boundary_scores import boundary_scores
from segbench.evaluation.cityscapes import average_precision as cityscapes_ap
from segbench.evaluation.counts import Counts
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic import instance_weighted as cityscapes_instances
from segbench.evaluation.semantic.instance_weighted import LabelCounts
from segbench.evaluation.semantic.scores import scores as semantic_scores


def score_parts(parts: Mapping[str, Counts], protocol: Protocol) -> dict[str, Any]:
    """Turn stored counts into scores under a protocol, ``per_class`` among them."""
    result: dict[str, Any] = {}
    per_class: list[dict[str, Any]] = []
    for counts in parts.values():
        if isinstance(counts, LabelCounts) and not protocol.instance_weighted:
            continue
        for found in (_score(counts, protocol), boundary_scores(counts, protocol)):
            rows = found.pop("per_class", per_class)
            per_class = [{**old, **new} for old, new in zip(per_class or rows, rows, strict=True)]
            result |= found
    return {**result, "per_class": per_class}


def _score(counts: Counts, protocol: Protocol) -> dict[str, Any]:
    if isinstance(counts, semantic.SemanticCounts):
        return semantic_scores(counts, protocol)
    if isinstance(counts, panoptic.PanopticCounts):
        return panoptic.scores(counts, protocol)
    if isinstance(counts, LabelCounts):
        return cityscapes_instances.scores(counts)
    if isinstance(counts, cityscapes_ap.OverlapCounts):
        return cityscapes_ap.scores(counts, protocol)
    return instance.scores(counts, protocol)
