"""``segbench score``: the official score of anybody's prediction files; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.evaluation.counts import Counts

GENERIC = {
    "semantic": "semantic-pooled",
    "instance": "coco-instances",
    "panoptic": "coco-panoptic",
}
PATH = click.Path(path_type=Path)


@click.command()
@click.option("--task", type=click.Choice(tuple(GENERIC)), required=True)
@click.option("--gt", type=PATH, required=True, help="Folder of label maps, or COCO JSON.")
@click.option("--pred", type=PATH, required=True, help="Folder of label maps, or JSON.")
@click.option("--gt-folder", type=PATH, help="Panoptic PNGs; default: --gt without .json.")
@click.option("--pred-folder", type=PATH, help="Panoptic PNGs; default: --pred without .json.")
@click.option("--num-classes", type=click.IntRange(1, 255), help="Semantic: number of train ids.")
@click.option("--protocol", help="Protocol id; default: the generic one of the task.")
@click.option("--out", type=PATH, help="Folder for scores.json and counts.npz.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(
    task: str, gt: Path, pred: Path, gt_folder: Path | None, pred_folder: Path | None,
    num_classes: int | None, protocol: str | None, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Score prediction files of any framework under a named protocol.

    Semantic label maps are PNGs of train ids (255 is void), paired by file name.
    """
    from typing import cast

    from segbench.evaluation.counts import save_counts
    from segbench.evaluation.folder import score_parts
    from segbench.evaluation.protocol import get_protocol
    from segbench.formats import write_json
    from segbench.types import Task

    chosen = get_protocol(protocol or GENERIC[task], task=cast(Task, task))
    if task == "semantic":
        parts = _semantic(gt, pred, num_classes or chosen.num_classes)
    elif task == "instance":
        parts = _instance(gt, pred)
    else:
        parts = _panoptic(gt, pred, gt_folder, pred_folder)
    scores = score_parts(parts, chosen)
    if out is not None:
        save_counts(out / "counts.npz", parts)
        write_json(out / "scores.json", {"protocol": chosen.id, "scores": scores})
    if as_json:
        output.json_out({"protocol": chosen.id, "rule": chosen.rule, "scores": scores})
        return
    click.echo(f"protocol {chosen.id}: {chosen.title}")
    plain = {k: v for k, v in scores.items() if k != "per_class"}
    output.facts({k: None if v is None else _shown(v) for k, v in plain.items()})


def _shown(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def _semantic(gt: Path, pred: Path, num_classes: int | None) -> dict[str, Counts]:
    from segbench.errors import ConfigError
    from segbench.evaluation.semantic import count, merge
    from segbench.formats import read_label_map
    from segbench.progress import track

    if num_classes is None:
        raise ConfigError("--num-classes is missing", fix="say how many train ids there are")
    pairs = _pairs(gt, pred)
    parts = [
        count(read_label_map(t), read_label_map(p), num_classes=num_classes, image_id=t.stem)
        for t, p in track(pairs, len(pairs), "score")
    ]
    return {"semantic": merge(parts)}


def _pairs(gt: Path, pred: Path) -> list[tuple[Path, Path]]:
    """Pair label maps by name; every truth needs its prediction."""
    from segbench.errors import DataError

    for folder in (gt, pred):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder of label maps")
    truths = sorted(gt.glob("*.png"))
    missing = [path.name for path in truths if not (pred / path.name).exists()]
    if not truths:
        raise DataError(f"{gt} holds no PNG files")
    if missing:
        raise DataError(
            f"{pred}: {len(missing)} of {len(truths)} predictions are missing: "
            f"{', '.join(missing[:3])}",
            fix="a partial result is never scored: predict every image",
        )
    return [(path, pred / path.name) for path in truths]


def _instance(gt: Path, pred: Path) -> dict[str, Counts]:
    from segbench.evaluation.instance import match

    return {"segm": match(gt, pred, iou_type="segm"), "bbox": match(gt, pred, iou_type="bbox")}


def _panoptic(
    gt: Path, pred: Path, gt_folder: Path | None, pred_folder: Path | None
) -> dict[str, Counts]:
    from segbench.evaluation.panoptic_files import evaluate_panoptic

    counts = evaluate_panoptic(
        gt, pred,
        truth_folder=gt_folder or gt.with_suffix(""),
        prediction_folder=pred_folder or pred.with_suffix(""),
    )  # fmt: skip
    return {"panoptic": counts}
