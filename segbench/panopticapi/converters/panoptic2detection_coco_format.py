"""COCO panoptic to COCO detection: one RLE annotation a segment.

python -m segbench.panopticapi.converters.panoptic2detection_coco_format --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.files import read_json
from segbench.core.types import BoolArray, IntArray
from segbench.formats.label_maps import read_panoptic_ids
from segbench.panopticapi._support import (
    Categories,
    PanopticKeyError,
    PathLike,
    by_id,
    folder_beside,
    in_parallel,
    png_name,
    read_category_list,
    required,
    run_command,
    say,
)
from segbench.panopticapi.utils import get_traceback, save_json

Entry = dict[str, Any]


@get_traceback
def convert_panoptic_to_detection_coco_format_single_core(
    proc_id: int,
    annotations_set: Sequence[Entry],
    categories: Categories,
    segmentations_folder: PathLike,
    things_only: bool,
    *,
    strict_compat: bool = False,
) -> list[Entry]:
    """Return the annotations of some images, without ids.

    Raises:
        KeyError: A PNG is missing.
    """
    found = []
    for annotation in annotations_set:
        name = png_name(annotation["file_name"], strict_compat=strict_compat)
        ids = read_png(Path(segmentations_folder) / name, annotation["image_id"])
        for segment in annotation["segments_info"]:
            if things_only and categories[segment["category_id"]]["isthing"] != 1:
                continue
            facts = {key: value for key, value in segment.items() if key != "id"}
            place = {"image_id": annotation["image_id"], "segmentation": rle(ids == segment["id"])}
            found.append({**facts, **place})
    return found


def read_png(path: Path, image_id: Any) -> IntArray:
    """Read segment ids; ``KeyError`` where the file is not there."""
    if not path.is_file():
        raise PanopticKeyError(f"no prediction png file for id: {image_id} ({path})")
    return read_panoptic_ids(path)


def rle(mask: BoolArray) -> Entry:
    """Return a mask as compressed COCO run lengths with text counts."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}


def convert_panoptic_to_detection_coco_format(
    input_json_file: PathLike,
    segmentations_folder: PathLike | None,
    output_json_file: PathLike,
    categories_json_file: PathLike | None,
    things_only: bool,
    *,
    strict_compat: bool = False,
) -> None:
    """Convert a COCO panoptic JSON with its PNGs.

    Args:
        input_json_file: COCO panoptic JSON.
        segmentations_folder: Folder of its PNGs; None takes X for X.json.
        output_json_file: COCO detection JSON to write.
        categories_json_file: JSON list of categories; None takes those of the input.
        things_only: Leave stuff out.
        strict_compat: Number annotations from 0, which COCO tools then never match, not 1.
    """
    start = time.monotonic()
    content = read_json(Path(input_json_file))
    categories = by_id(read_category_list(categories_json_file, content, source=input_json_file))
    parts = in_parallel(
        convert_panoptic_to_detection_coco_format_single_core,
        content["annotations"],
        categories,
        folder_beside(input_json_file, segmentations_folder),
        things_only,
        strict_compat=strict_compat,
    )
    annotations = [annotation for part in parts for annotation in part]
    content["annotations"] = numbered(annotations, strict_compat=strict_compat)
    kept = [c for c in content["categories"] if not (things_only and c["isthing"] != 1)]
    content["categories"] = [without_panoptic_fields(category) for category in kept]
    save_json(content, output_json_file, strict_compat=strict_compat)
    say(f"Wrote {len(annotations)} annotations to {output_json_file}")
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")


def numbered(annotations: Sequence[Entry], *, strict_compat: bool) -> list[Entry]:
    """Return annotations with ids from 1, or from 0 as panopticapi gives."""
    first = 0 if strict_compat else 1
    return [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=first)]


def without_panoptic_fields(category: Entry) -> Entry:
    """Return a category without ``isthing`` and ``color``."""
    return {key: value for key, value in category.items() if key not in ("isthing", "color")}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="COCO panoptic to COCO detection format.")
    required(parser, input_json_file="COCO panoptic JSON")
    parser.add_argument("--segmentations_folder", help="folder of its PNGs; X for X.json")
    required(parser, output_json_file="COCO detection JSON to write")
    parser.add_argument("--categories_json_file", help="JSON list; default: in the input")
    parser.add_argument("--things_only", action="store_true", help="leave stuff out")
    run_command(parser, convert_panoptic_to_detection_coco_format)


if __name__ == "__main__":
    main()
