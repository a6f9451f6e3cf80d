"""Cityscapes' panoptic evaluation: the same numbers, a row a class, a results file."""  # noqa: N999

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.files import read_json, write_text
from segbench.panopticapi._pq_stat import KEYS, averages, print_table
from segbench.panopticapi._support import (
    Categories,
    PathLike,
    by_id,
    folder_beside,
    required,
    run_command,
    say,
)
from segbench.panopticapi.evaluation import match_annotations, pq_compute_multi_core

_WIDTH = 14


def evaluatePanoptic(  # noqa: N802
    gt_json_file: PathLike,
    gt_folder: PathLike | None,
    pred_json_file: PathLike,
    pred_folder: PathLike | None,
    resultsFile: PathLike,  # noqa: N803
    *,
    strict_compat: bool = False,
) -> dict[str, Any]:
    """Score a COCO panoptic prediction, print a row a class and write the results as JSON.

    Args:
        gt_json_file: COCO panoptic JSON of the ground truth.
        gt_folder: Folder of its PNGs; None takes X for X.json.
        pred_json_file: COCO panoptic JSON of the prediction.
        pred_folder: Folder of its PNGs; None takes X for X.json.
        resultsFile: Where the result of ``pq_compute`` goes as JSON.
        strict_compat: See the package.
    """
    truth, prediction = read_json(Path(gt_json_file)), read_json(Path(pred_json_file))
    folders = folder_beside(gt_json_file, gt_folder), folder_beside(pred_json_file, pred_folder)
    for folder, side in zip(folders, ("ground truth", "predicted"), strict=True):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder} with {side} segmentations")
    categories = by_id(truth["categories"])
    matched = match_annotations(truth, prediction, strict_compat=strict_compat)
    stat = pq_compute_multi_core(matched, *folders, categories, strict_compat=strict_compat)
    results = averages(stat, categories, strict_compat=strict_compat)
    write_text(Path(resultsFile), json.dumps(results, sort_keys=True, indent=4))
    print_results(results, categories)
    return results


def print_results(results: Mapping[str, Any], categories: Categories) -> None:
    """Print the scores of each class in percent, then the means."""
    say(f"{'Category':{_WIDTH}s}| {'PQ':>5s}  {'SQ':>5s}  {'RQ':>5s}")
    for label in sorted(results["per_class"]):
        shown = "  ".join(f"{100 * results['per_class'][label][key]:5.1f}" for key in KEYS)
        say(f"{categories[label]['name']:{_WIDTH}s}| {shown}")
    say("-" * 41)
    print_table(results, width=_WIDTH, rule=False)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Panoptic quality as Cityscapes prints it.")
    required(parser, **{"gt-json-file": "COCO panoptic JSON of the truth"})
    parser.add_argument("--gt-folder", help="folder of true PNGs; X if the JSON is X.json")
    required(parser, **{"prediction-json-file": "COCO panoptic JSON of the prediction"})
    parser.add_argument("--prediction-folder", help="folder of predicted PNGs; X for X.json")
    parser.add_argument("--results_file", default="resultPanopticSemanticLabeling.json")
    run_command(parser, _command)


def _command(**options: Any) -> None:
    evaluatePanoptic(
        options["gt_json_file"],
        options["gt_folder"],
        options["prediction_json_file"],
        options["prediction_folder"],
        options["results_file"],
        strict_compat=options["strict_compat"],
    )


if __name__ == "__main__":
    main()
