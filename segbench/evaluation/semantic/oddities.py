"""What is odd in label maps though it can be scored: numbers that look like another numbering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segbench.core.types import IGNORE_INDEX, IntArray
from segbench.evaluation.protocols.label_codes import TRAIN_IDS, UNKNOWN, LabelCode
from segbench.evaluation.semantic.counts import SemanticCounts


def label_oddities(
    pooled: IntArray, counts: SemanticCounts, code: LabelCode, num_classes: int
) -> list[str]:
    """Return what there is to doubt in the numbers of label maps, the ground truth first.

    Args:
        pooled: [256, 256] pixels of pairs of numbers, rows truth.
        counts: The counts of each image under ``code``.
        code: The numbering the files should have.
        num_classes: C.
    """
    found = _truth_of_one_class(pooled.sum(axis=1), code, num_classes)
    found = found or _some_masks_of_void(counts)
    found = found or _other_readings(pooled, code, num_classes)
    return found or _predictions_of_void(pooled, code, num_classes)


def _truth_of_one_class(pixels: IntArray, code: LabelCode, num_classes: int) -> list[str]:
    """Doubt a ground truth that shows at most one class: the right answer is always the same.

    With 255 beside that class these are masks of 0 and 255, whose objects are not looked at.
    """
    table = code.truth_table(num_classes)
    classes = _numbers(pixels, (table >= 0) & (table < num_classes))
    void = _numbers(pixels, table == num_classes)
    if len(classes) > 1 or not pixels.sum() or (num_classes == 1 and not void):
        return []
    share = 100 * int(pixels[void].sum()) / int(pixels.sum())
    if not classes:
        return [f"no pixel of the truth has a class: 100 % is {_listed(void)} = void"]
    said = f"only {len(classes)} of {num_classes} classes is in the truth ({classes[0]})"
    if not void:
        return [f"{said}: predicting it everywhere is scored as perfect"]
    said += f", and {share:.{0 if share >= 1 else 2}f} % of it is {_listed(void)} = void"
    if void != [IGNORE_INDEX]:
        return [said]
    return [f"{said}: are these masks of {classes[0]} and 255? {_ADVICE}"]


_ADVICE = "255 is never scored as a class: write the number of the other class in its place"


def _some_masks_of_void(counts: SemanticCounts) -> list[str]:
    """Doubt a truth of two classes where void never meets the second one: some masks have 255."""
    if counts.num_classes != 2:
        return []
    rows = np.zeros((len(counts.image_ids), 3), dtype=bool)
    rows[counts.entries[:, 0], counts.entries[:, 1]] = True
    with_void, with_second = rows[:, 2] & rows[:, 0], rows[:, 1]
    if not with_void.any() or not with_second.any() or (rows[:, 2] & with_second).any():
        return []
    first = counts.image_ids[int(np.flatnonzero(with_void)[0])]
    return [
        f"{int(with_void.sum())} of {len(rows)} truths hold class 0 and void but never class 1, "
        f"{int(with_second.sum())} hold class 1 but no void: are the first ones masks of 0 and "
        f"255? {_ADVICE}; first {first}"
    ]


def _predictions_of_void(pooled: IntArray, code: LabelCode, num_classes: int) -> list[str]:
    """Doubt predictions of one class and void alone where the ground truth shows other classes."""
    truth = code.truth_table(num_classes)
    table = code.prediction_table(num_classes)
    pixels = pooled[(truth >= 0) & (truth < num_classes)].sum(axis=0)
    classes = _numbers(pixels, (table >= 0) & (table < num_classes))
    void = _numbers(pixels, table == num_classes)
    if len(classes) != 1 or void != [IGNORE_INDEX]:
        return []
    share = 100 * int(pixels[void].sum()) / int(pixels.sum())
    return [
        f"the predictions hold {classes[0]} and 255 alone, and 255 = void on {share:.2g} % of the "
        f"labelled pixels: are these masks of {classes[0]} and 255? {_ADVICE}"
    ]


def _numbers(pixels: IntArray, wanted: Sequence[bool] | np.ndarray) -> list[int]:
    """Return the wanted numbers that occur."""
    return np.flatnonzero((pixels > 0) & wanted).tolist()


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def _other_readings(pooled: IntArray, code: LabelCode, num_classes: int) -> list[str]:
    """Return a warning for each other reading of the predictions that agrees far better."""
    truth = code.truth_table(num_classes)
    stated = _agreement(pooled, truth, code.prediction_table(num_classes), num_classes)
    readings = {
        "are one too low (a zero label reduced that should not be, or reduced twice)": 1,
        "are one too high (a zero label not reduced)": -1,
        "are two too low (a zero label reduced twice)": 2,
    }
    found = []
    for problem, shift in readings.items():
        shifted = _shifted(code.prediction_table(num_classes), shift)
        found += _compare(_agreement(pooled, truth, shifted, num_classes), stated, problem)
    if code.ids:
        train_ids = TRAIN_IDS.prediction_table(num_classes)
        agreement = _agreement(pooled, truth, train_ids, num_classes)
        found += _compare(agreement, stated, f"are train ids in place of '{code.name}'")
    return found


def _shifted(table: IntArray, by: int) -> IntArray:
    """Return the table read ``by`` numbers further on; what is beyond its ends is no class."""
    ends = np.full(abs(by), UNKNOWN, dtype=np.int64)
    return np.concatenate([table[by:], ends] if by > 0 else [ends, table[:by]])


def _agreement(pooled: IntArray, truth: IntArray, prediction: IntArray, num_classes: int) -> float:
    """Return the share of labelled pixels whose two numbers mean one class."""
    labelled = (truth >= 0) & (truth < num_classes)
    total = int(pooled[labelled].sum())
    same = (truth[:, None] == prediction[None, :]) & labelled[:, None]
    return int(pooled[same].sum()) / total if total else 0.0


def _compare(other: float, stated: float, problem: str) -> list[str]:
    if other <= max(2 * stated, 0.2):
        return []
    return [
        f"it looks as if the predicted numbers {problem}: pixel accuracy is "
        f"{100 * stated:.1f} as stated and would be {100 * other:.1f}"
    ]
