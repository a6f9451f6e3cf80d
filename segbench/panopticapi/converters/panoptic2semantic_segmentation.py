"""COCO panoptic to semantic segmentation: all segments of a category become one.

python -m segbench.panopticapi.converters.panoptic2semantic_segmentation --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json
from segbench.core.types import BoolArray, IntArray
from segbench.formats.label_maps import write_label_map
from segbench.panopticapi._support import (
    Categories,
    PathLike,
    by_id,
    folder_beside,
    in_parallel,
    read_category_list,
    required,
    run_command,
    say,
)
from segbench.panopticapi.converters.panoptic2detection_coco_format import (
    numbered,
    read_png,
    rle,
    without_panoptic_fields,
)
from segbench.panopticapi.utils import get_traceback, save_json

OTHER_CLASS_ID = 183
"""Category id of "other", which all things become with ``things_other``."""
Entry = dict[str, Any]


@get_traceback
def extract_semantic_single_core(
    proc_id: int,
    annotations_set: Sequence[Entry],
    segmentations_folder: PathLike,
    output_json_file: PathLike | None,
    semantic_seg_folder: PathLike | None,
    categories: Categories,
    save_as_png: bool,
    things_other: bool,
) -> list[Entry]:
    """Return one annotation an image and category, or write PNGs and return nothing.

    Raises:
        KeyError: A PNG is missing.
    """
    found: list[Entry] = []
    for annotation in annotations_set:
        name = annotation["file_name"]
        ids = read_png(Path(segmentations_folder) / name, annotation["image_id"])
        masks = _masks(ids, annotation["segments_info"], categories, things_other)
        if save_as_png and semantic_seg_folder is not None:
            write_label_map(Path(semantic_seg_folder) / name, _label_map(ids.shape, masks))
        else:
            found += [_record(annotation["image_id"], c, mask) for c, mask in masks.items()]
    return found


def _masks(
    ids: IntArray, segments: Sequence[Entry], categories: Categories, things_other: bool
) -> dict[int, BoolArray]:
    """Return the pixels of each category in the order the segments name them."""
    masks: dict[int, BoolArray] = {}
    for segment in segments:
        category_id = segment["category_id"]
        if things_other and categories[category_id]["isthing"] == 1:
            category_id = OTHER_CLASS_ID
        mask = ids == segment["id"]
        masks[category_id] = masks[category_id] | mask if category_id in masks else mask
    return masks


def _label_map(shape: tuple[int, ...], masks: Mapping[int, BoolArray]) -> IntArray:
    if any(category_id > 255 for category_id in masks):
        raise DataError(f"an 8-bit label map holds category ids to 255, found {max(masks)}")
    labels = np.zeros(shape, dtype=np.uint8)
    for category_id, mask in masks.items():
        labels[mask] = category_id
    return labels


def _record(image_id: Any, category_id: int, mask: BoolArray) -> Entry:
    encoded = rle(mask)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": encoded,
        "area": int(coco_mask.area(encoded)),
        "bbox": coco_mask.toBbox(encoded).tolist(),
        "iscrowd": 0,
    }


def extract_semantic(
    input_json_file: PathLike,
    segmentations_folder: PathLike | None,
    output_json_file: PathLike | None,
    semantic_seg_folder: PathLike | None,
    categories_json_file: PathLike | None,
    things_other: bool,
    *,
    strict_compat: bool = False,
) -> None:
    """Convert a COCO panoptic JSON with its PNGs.

    Args:
        input_json_file: COCO panoptic JSON.
        segmentations_folder: Folder of its PNGs; None takes X for X.json.
        output_json_file: COCO detection JSON to write, or None.
        semantic_seg_folder: Folder of label maps to write, or None; 0 is no category.
        categories_json_file: JSON list of categories; None takes those of the input.
        things_other: All things become one category, "other".
        strict_compat: Number annotations from 0, not from 1.

    Raises:
        ConfigError: Not exactly one kind of output is asked for.
    """
    start = time.monotonic()
    if (output_json_file is None) == (semantic_seg_folder is None):
        raise ConfigError("give either --output_json_file or --semantic_seg_folder, and one only")
    content = read_json(Path(input_json_file))
    category_list = read_category_list(categories_json_file, content, source=input_json_file)
    parts = in_parallel(
        extract_semantic_single_core,
        content["annotations"],
        folder_beside(input_json_file, segmentations_folder),
        output_json_file,
        semantic_seg_folder,
        by_id(category_list),
        output_json_file is None,
        things_other,
    )
    if output_json_file is not None:
        annotations = [annotation for part in parts for annotation in part]
        content["annotations"] = numbered(annotations, strict_compat=strict_compat)
        content["categories"] = _categories(category_list, things_other)
        save_json(content, output_json_file, strict_compat=strict_compat)
    say(f"Wrote {semantic_seg_folder or output_json_file}")
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")


def _categories(category_list: Sequence[Entry], things_other: bool) -> list[Entry]:
    kept = [c for c in category_list if not (things_other and c["isthing"] == 1)]
    other = {"id": OTHER_CLASS_ID, "name": "other", "supercategory": "other"}
    return [without_panoptic_fields(c) for c in kept] + ([other] if things_other else [])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="COCO panoptic to semantic segmentation.")
    required(parser, input_json_file="COCO panoptic JSON")
    parser.add_argument("--segmentations_folder", help="folder of its PNGs; X for X.json")
    parser.add_argument("--output_json_file", help="COCO detection JSON to write")
    parser.add_argument("--semantic_seg_folder", help="folder of label maps to write")
    parser.add_argument("--categories_json_file", help="JSON list; default: in the input")
    parser.add_argument(
        "--things_other", action="store_true", help=f"things become category {OTHER_CLASS_ID}"
    )
    run_command(parser, extract_semantic)


if __name__ == "__main__":
    main()
