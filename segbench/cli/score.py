"""``segbench score``: the official score of anybody's prediction files; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import error_split, output
from segbench.cli.output import PATH

if TYPE_CHECKING:
    from segbench.evaluation.kinds import Counts
    from segbench.evaluation.protocol import Protocol

GENERIC = {
    "semantic": "semantic-pooled",
    "instance": "coco-instances",
    "panoptic": "coco-panoptic",
}
SCORES = "scores.json"
BOUNDARY_HELP = "Also score boundaries; takes two to ten times as long."


@click.command()
@click.option("--task", type=click.Choice(tuple(GENERIC)), required=True)
@click.option("--gt", type=PATH, required=True, help="Folder of label maps, or COCO JSON.")
@click.option("--pred", type=PATH, required=True, help="Folder of label maps, or JSON.")
@click.option(
    "--gt-folder", type=PATH,
    help="Panoptic PNGs; default: --gt without .json. Cityscapes instances in COCO form: label "
    "maps of the truth (train ids), whose 255 is void.",
)  # fmt: skip
@click.option("--pred-folder", type=PATH, help="Panoptic PNGs; default: --pred without .json.")
@click.option(
    "--num-classes",
    type=click.IntRange(1, 255),
    help="Semantic: classes, if the protocol leaves it open.",
)
@click.option("--protocol", help="Protocol id; default: the generic one of the task.")
@click.option("--errors", is_flag=True, help="Instance: also say where AP50 is lost (TIDE).")
@click.option("--boundary", is_flag=True, help=BOUNDARY_HELP)
@click.option("--interval", is_flag=True, help="Also give the 95 % interval of the main score.")
@click.option("--out", type=PATH, help="Folder for scores.json and counts.npz.")
@output.workers
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(
    task: str, gt: Path, pred: Path, gt_folder: Path | None, pred_folder: Path | None,
    num_classes: int | None, protocol: str | None, errors: bool, boundary: bool,
    interval: bool, out: Path | None, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Score prediction files of any framework under a named protocol.

    Semantic label maps are one-channel PNGs, paired by file name; `segbench protocols ID` says
    what their numbers mean under a protocol (train ids with 255 for void unless it says else).
    """
    from typing import cast

    from segbench.core.files import write_json
    from segbench.core.output_folder import check_updatable, updating
    from segbench.core.types import Task
    from segbench.evaluation.count_files import Files, count_files
    from segbench.evaluation.counts import save_counts
    from segbench.evaluation.protocol import get_protocol
    from segbench.evaluation.scores import score_parts

    chosen = get_protocol(protocol or GENERIC[task], task=cast(Task, task))
    place = _place(out, {"--gt": gt, "--pred": pred, "--gt-folder": gt_folder,
                         "--pred-folder": pred_folder})  # fmt: skip
    if place is not None:
        check_updatable(**place)
    if errors:
        error_split.check(task, gt)
    files = Files(
        gt, pred, gt_folder, pred_folder,
        num_classes=num_classes, boundary=boundary, workers=workers,
    )  # fmt: skip
    parts = count_files(files, chosen)
    scores = _named(score_parts(parts, chosen), chosen)
    for warning in files.warnings:
        click.echo(f"warning: {warning}", err=True)
    result: dict[str, Any] = {"protocol": chosen.id, "version": chosen.version, "scores": scores}
    result |= {"warnings": files.warnings}
    if interval:
        result["intervals"] = _intervals(parts, chosen)
    if errors:
        from segbench.evaluation.instance.tide import errors_of

        result["errors"] = errors_of(gt, pred)
    if place is not None:
        with updating(**place, last=SCORES) as building:
            save_counts(building / "counts.npz", parts)
            _write_official(parts, building)
            write_json(building / SCORES, result)
    if as_json:
        output.json_out({**result, "rule": chosen.rule})
        return
    click.echo(f"protocol {chosen.id}: {chosen.title}")
    plain = {k: v for k, v in scores.items() if k != "per_class"}
    output.facts({k: None if v is None else _shown(v) for k, v in plain.items()})
    for metric, found in result.get("intervals", {}).items():
        click.echo(_interval_text(metric, found))
    if errors:
        error_split.show(result["errors"])


def _place(out: Path | None, inputs: dict[str, Path | None]) -> dict[str, Any] | None:
    """Return what ``--out`` means to ``segbench.core.output_folder``; None without it."""
    from segbench.core.older_folders import json_object
    from segbench.core.paths import Input
    from segbench.evaluation.cityscapes.official_files import INSTANCE_FILE, PIXEL_FILE

    if out is None:
        return None
    return {
        "out": out,
        "kind": "scores",
        "ours": lambda folder: {"protocol", "scores"} <= json_object(folder / SCORES).keys(),
        "files": (SCORES, "counts.npz", PIXEL_FILE, INSTANCE_FILE),
        "inputs": [Input(path, option) for option, path in inputs.items() if path],
    }


def _intervals(parts: dict[str, Counts], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return the interval of the main score, or why there is none."""
    from segbench.evaluation.resampled import HEADLINE
    from segbench.statistics.bootstrap import MIN_IMAGES
    from segbench.statistics.intervals import headline_intervals

    number = len(next(iter(parts.values())).image_ids)
    reason = f"{number} images are too few, {MIN_IMAGES} are needed"
    none = {HEADLINE[protocol.task]: {"low": None, "high": None, "reason": reason}}
    return headline_intervals(parts, protocol) or none


def _interval_text(metric: str, found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"no interval of {metric}: {found['reason']}"
    ends = f"{100 * found['low']:.2f} to {100 * found['high']:.2f}"
    return f"{100 * found['level']:g} % interval of {metric}: {ends}"


def _named(scores: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """Put the protocol's class names into the rows of a semantic or instance task."""
    names = (*protocol.class_names, *(("void",) if protocol.void_class else ()))
    if protocol.task != "panoptic" and len(names) == len(scores["per_class"]):
        rows = zip(names, scores["per_class"], strict=True)
        scores = {**scores, "per_class": [{"name": name, **row} for name, row in rows]}
    return scores


def _shown(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def _write_official(parts: dict[str, Counts], out: Path) -> None:
    """Write the results file of cityscapesScripts where there are counts of its own."""
    from segbench.evaluation.cityscapes import average_precision as cityscapes_ap
    from segbench.evaluation.cityscapes import official_files as cityscapes_json
    from segbench.evaluation.semantic.instance_weighted import LabelCounts

    for counts in parts.values():
        if isinstance(counts, LabelCounts):
            results = cityscapes_json.pixel_results(counts)
            cityscapes_json.write_results(out / cityscapes_json.PIXEL_FILE, results)
        elif isinstance(counts, cityscapes_ap.OverlapCounts):
            results = cityscapes_ap.results(counts)
            cityscapes_json.write_results(out / cityscapes_json.INSTANCE_FILE, results)
