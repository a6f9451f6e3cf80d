"""Why tools disagree: the same predictions under every semantic rule, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segbench.core.errors import DataError
from segbench.evaluation.kinds import Counts
from segbench.evaluation.protocol import Protocol, protocols
from segbench.evaluation.semantic.counts import SemanticCounts
from segbench.evaluation.semantic.scores import scores

_PRESENT = "present"
_EFFECTS = {
    "absent": "neither true nor predicted: left out, 0, 1 or no value at all",
    "predicted only": "predicted but never true: 0, or left out (detectron2)",
    "never predicted": "true but never predicted: 0 under every pooled rule",
}


_CHOICES = {
    "averaging": {"pooled": "pixels of all images pooled", "per_image": "mean over images"},
    "void_truth": {
        "ignored": "void truth ignored",
        "false_positive": "predictions on void truth are false",
    },
    "void_prediction": {
        "miss": "void predictions are misses",
        "ignored": "void predictions ignored",
        "refused": "void predictions refused",
    },
    "absent_class": {
        "excluded": "absent classes left out",
        "zero": "absent classes count 0",
        "one": "absent classes count 1",
        "truth_only": "classes without truth left out",
        "undefined": "no mean where a class is absent",
    },
}
"""What a rule decides, by field of ``Protocol`` and its value, in words."""


@dataclass(frozen=True)
class Explanation:
    """``rules``: a dict a distinct rule; ``classes``: a dict a class; ``causes``: sentences."""

    rules: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    causes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return all parts as plain JSON types."""
        return {"rules": self.rules, "classes": self.classes, "causes": self.causes}

    def summary(self) -> dict[str, Any]:
        """Return the scores under each rule and the causes: what a record keeps."""
        keys = ("rule", "used_by", "choices", "miou", "pixel_accuracy", "classes_in_mean", "note")
        rows = [{key: row[key] for key in keys} for row in self.rules]
        return {"rows": rows, "causes": self.causes}


def explain(counts: SemanticCounts, class_names: Sequence[str] = ()) -> Explanation:
    """Score counts under every distinct semantic rule and say what makes the difference.

    Args:
        counts: Counts of any number of classes C.
        class_names: C names; numbers where there are none.

    Returns:
        ``rules``: ``rule`` and ``used_by`` (protocol ids), ``choices`` (what the rule decides, a
        few words each), ``miou``, ``pixel_accuracy``, ``classes_in_mean``, ``note`` (why there
        is no value). ``classes``: ``name``,
        ``state``, ``truth``, ``predicted``, ``hits``, ``predicted_on_void``,
        ``predicted_as_void`` in pixels and ``iou`` by rule.
    """
    names = list(class_names) or [str(i) for i in range(counts.num_classes)]
    judged = [(rule, used_by, *_judge(counts, rule)) for rule, used_by in distinct_rules()]
    rules = [_rule_row(rule, used_by, found, note) for rule, used_by, found, note in judged]
    classes = _class_rows(counts, names)
    for rule, _, found, _ in judged:
        for row, value in zip(classes, found["per_class"] if found else (), strict=False):
            row["iou"][rule.id] = value["iou"]
    return Explanation(rules, classes, _causes(counts, classes))


def explain_parts(parts: Mapping[str, Counts], class_names: Sequence[str]) -> dict[str, Any] | None:
    """Return ``Explanation.summary`` of stored counts; None where they are not semantic.

    Args:
        parts: Counts by part, as ``counts.npz`` holds them.
        class_names: At least C names; one more where void counts as a class.
    """
    counts = parts.get("semantic")
    if not isinstance(counts, SemanticCounts):
        return None
    return explain(counts, class_names[: counts.num_classes]).summary()


def distinct_rules() -> list[tuple[Protocol, list[str]]]:
    """Return each way to count once, for any number of classes, and the protocols using it."""
    found: dict[tuple[Any, ...], tuple[Protocol, list[str]]] = {}
    ordered = sorted(protocols(task="semantic"), key=lambda p: not p.comparison)
    for each in ordered:
        key = (
            each.void_truth,
            each.void_prediction,
            each.absent_class,
            each.averaging,
            each.void_class,
        )
        general = replace(each, num_classes=None, categories=(), official_score=False)
        found.setdefault(key, (general, []))[1].append(each.id)
    return list(found.values())


def _judge(counts: SemanticCounts, rule: Protocol) -> tuple[dict[str, Any] | None, str]:
    try:
        found = scores(counts, rule)
    except DataError as error:
        return None, error.what
    if found["miou"] is None:
        missing = sum(row["iou"] is None for row in found["per_class"])
        return found, f"no value: {missing} classes have none, and the rule leaves none out"
    return found, ""


def _rule_row(
    rule: Protocol, used_by: list[str], found: dict[str, Any] | None, note: str
) -> dict[str, Any]:
    rows = found["per_class"] if found else []
    counted = sum(row["iou"] is not None for row in rows)
    return {
        "rule": rule.id,
        "miou": found["miou"] if found else None,
        "pixel_accuracy": found["pixel_accuracy"] if found else None,
        "classes_in_mean": counted if found and found["miou"] is not None else None,
        "used_by": used_by,
        "choices": _choices(rule),
        "text": rule.rule,
        "note": note,
    }


def _choices(rule: Protocol) -> list[str]:
    decided = [words[getattr(rule, field)] for field, words in _CHOICES.items()]
    return [*decided, "void is a class of its own"] if rule.void_class else decided


def _class_rows(counts: SemanticCounts, names: Sequence[str]) -> list[dict[str, Any]]:
    table = counts.confusion.tolist()
    last = counts.num_classes
    rows = []
    for c, name in enumerate(names):
        truth = sum(table[c])
        predicted = sum(table[t][c] for t in range(last))
        rows.append(
            {
                "class": c,
                "name": name,
                "state": _state(truth, predicted),
                "truth": truth,
                "predicted": predicted,
                "hits": table[c][c],
                "predicted_on_void": table[last][c],
                "predicted_as_void": table[c][last],
                "iou": {},
            }
        )
    return rows


def _state(truth: int, predicted: int) -> str:
    if truth and predicted:
        return _PRESENT
    if truth:
        return "never predicted"
    return "predicted only" if predicted else "absent"


def _causes(counts: SemanticCounts, classes: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for state, effect in _EFFECTS.items():
        names = [row["name"] for row in classes if row["state"] == state]
        if names:
            found.append(f"{len(names)} classes ({_some(names)}) are {effect}")
    on_void = sum(row["predicted_on_void"] for row in classes)
    as_void = sum(row["predicted_as_void"] for row in classes)
    if on_void:
        found.append(
            f"{on_void} pixels of void truth are predicted as a class: ignored, or false positives"
        )
    if as_void:
        found.append(
            f"{as_void} labelled pixels are predicted void or as no class: misses, ignored, or an "
            "error"
        )
    if len(counts.image_ids) > 1:
        found.append(
            f"{len(counts.image_ids)} images: pooled sums and means over images are two numbers"
        )
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
