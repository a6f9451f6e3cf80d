"""Ground truth and prediction files to counts: the one place that says which evaluator counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segbench.core.errors import ConfigError
from segbench.evaluation.cityscapes import coco_form as cityscapes_coco
from segbench.evaluation.cityscapes import folders as cityscapes_folders
from segbench.evaluation.instance.average_precision import match_parts
from segbench.evaluation.kinds import Counts
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.semantic.folders import count_folder


@dataclass(frozen=True)
class Files:
    """What is counted, and how.

    Attributes:
        truth: Folder of label maps, or COCO JSON.
        predictions: Folder of label maps, or JSON.
        truth_folder: Panoptic PNGs, or label maps whose 255 is void (Cityscapes instances in
            COCO form); None takes the JSON's name without its ending.
        prediction_folder: Panoptic PNGs; None as above.
        num_classes: Semantic: classes, where the protocol leaves it open.
        boundary: Count boundaries too.
        workers: Processes that count images.
        warnings: Takes what looks wrong though it can be scored.
    """

    truth: Path
    predictions: Path
    truth_folder: Path | None = None
    prediction_folder: Path | None = None
    num_classes: int | None = None
    boundary: bool = False
    workers: int = 1
    warnings: list[str] = field(default_factory=list)


def count_files(files: Files, protocol: Protocol) -> dict[str, Counts]:
    """Return the counts of files by part, as ``counts.npz`` stores them.

    Raises:
        ConfigError: The protocol does not fit what is asked.
        DataError: A file is missing, broken or does not fit the ground truth.
    """
    if files.boundary and not protocol.boundary_rule:
        raise ConfigError(
            f"--boundary: protocol '{protocol.id}' has no boundary score",
            fix="leave --boundary out, or score under coco-instances",
        )
    return _EVALUATORS[protocol.evaluator](files, protocol)


def class_count(protocol: Protocol, num_classes: int | None) -> int:
    """Return the number of classes that a protocol and the command line agree on.

    Raises:
        ConfigError: They differ, or neither says.
    """
    if num_classes is not None and protocol.num_classes not in (None, num_classes):
        raise ConfigError(
            f"--num-classes {num_classes}: protocol '{protocol.id}' has {protocol.num_classes}",
            fix="leave --num-classes out, or choose the protocol of this label set",
        )
    chosen = protocol.num_classes or num_classes
    if chosen is None:
        raise ConfigError("--num-classes is missing", fix="say how many train ids there are")
    return chosen


def _semantic(files: Files, protocol: Protocol) -> dict[str, Counts]:
    found = count_folder(
        files.truth, files.predictions,
        protocol=protocol, num_classes=class_count(protocol, files.num_classes),
        boundary=files.boundary, workers=files.workers,
    )  # fmt: skip
    files.warnings.extend(found.warnings)
    labels: dict[str, Counts] = {"semantic_labels": found.labels} if found.labels else {}
    return {"semantic": found.counts, **labels}


def _instance(files: Files, _: Protocol) -> dict[str, Counts]:
    return match_parts(
        files.truth, files.predictions, boundary=files.boundary, warnings=files.warnings
    )


def _cityscapes(files: Files, _: Protocol) -> dict[str, Counts]:
    """Count folders of the official form, or COCO files with label ids as category ids."""
    if files.truth.suffix != ".json":
        found = cityscapes_folders.count_folder(
            files.truth, files.predictions, workers=files.workers
        )
    else:
        found = cityscapes_coco.count_files(
            files.truth, files.predictions, semantic=files.truth_folder
        )
    files.warnings.extend(found.warnings)
    return {"segm_overlaps": found.counts}


def _panoptic(files: Files, _: Protocol) -> dict[str, Counts]:
    counts = evaluate_panoptic(
        files.truth,
        files.predictions,
        truth_folder=files.truth_folder or files.truth.with_suffix(""),
        prediction_folder=files.prediction_folder or files.predictions.with_suffix(""),
        boundary=files.boundary,
        warnings=files.warnings,
        workers=files.workers,
    )
    return {"panoptic": counts}


_EVALUATORS: Mapping[str, Callable[[Files, Protocol], dict[str, Counts]]] = {
    "semantic": _semantic,
    "instance": _instance,
    "cityscapes_instance": _cityscapes,
    "panoptic": _panoptic,
}
"""``Protocol.evaluator`` -> what counts."""
