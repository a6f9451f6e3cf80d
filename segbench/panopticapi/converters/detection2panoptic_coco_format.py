"""COCO detection to COCO panoptic, for annotations that do not overlap.

python -m segbench.panopticapi.converters.detection2panoptic_coco_format --help
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.panopticapi._support import (
    Categories,
    PathLike,
    by_id,
    folder_beside,
    in_parallel,
    png_name,
    read_category_list,
    required,
    run_command,
    say,
    write_rgb,
)
from segbench.panopticapi.utils import IdGenerator, get_traceback, save_json

Entry = dict[str, Any]


@get_traceback
def convert_detection_to_panoptic_coco_format_single_core(
    proc_id: int,
    coco_detection: Any,
    img_ids: Sequence[int],
    categories: Categories,
    segmentations_folder: PathLike,
    *,
    strict_compat: bool = False,
) -> list[Entry]:
    """Return the panoptic annotations of some images and write their PNGs.

    Args:
        proc_id: Number of the process; not used.
        coco_detection: The detection annotations as a ``pycocotools.coco.COCO``.
        img_ids: Images to convert.
        categories: Category id -> ``isthing`` and ``color``.
        segmentations_folder: Where the PNGs go.
        strict_compat: One generator of ids for all images.

    Raises:
        DataError: Annotations overlap or have an unknown category.
    """
    shared = IdGenerator(categories, strict_compat=True)
    found = []
    for img_id in img_ids:
        generator = shared if strict_compat else IdGenerator(categories)
        image = coco_detection.loadImgs(int(img_id))[0]
        name = png_name(image["file_name"], strict_compat=strict_compat)
        canvas = np.zeros((image["height"], image["width"], 3), dtype=np.uint8)
        segments = _paint(canvas, coco_detection, int(img_id), categories, generator)
        write_rgb(Path(segmentations_folder) / name, canvas)
        found.append({"image_id": int(img_id), "file_name": name, "segments_info": segments})
    return found


def _paint(
    canvas: Any, coco: Any, image_id: int, categories: Categories, generator: IdGenerator
) -> list[Entry]:
    """Paint all annotations of an image and return its segments."""
    taken = np.zeros(canvas.shape[:2], dtype=bool)
    segments = []
    for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
        if annotation["category_id"] not in categories:
            raise DataError(
                f"image {image_id}: the list of categories lacks {annotation['category_id']}"
            )
        segment_id, color = generator.get_id_and_color(annotation["category_id"])
        mask = coco.annToMask(annotation) == 1
        if (mask & taken).any():
            raise DataError(
                f"image {image_id}: segments overlap, which a panoptic map cannot show",
                fix="remove overlaps first, as combine_semantic_and_instance_predictions does",
            )
        taken |= mask
        canvas[mask] = color
        kept = {k: v for k, v in annotation.items() if k not in ("segmentation", "image_id")}
        segments.append({**kept, "id": segment_id})
    return segments


def convert_detection_to_panoptic_coco_format(
    input_json_file: PathLike,
    segmentations_folder: PathLike | None,
    output_json_file: PathLike,
    categories_json_file: PathLike | None,
    *,
    strict_compat: bool = False,
) -> None:
    """Convert a COCO detection JSON.

    Args:
        input_json_file: COCO detection JSON.
        segmentations_folder: Where the PNGs go; None takes X for X.json.
        output_json_file: COCO panoptic JSON to write.
        categories_json_file: JSON list of categories with ``isthing`` and ``color``, which a
            detection JSON lacks as a rule.
        strict_compat: See the package.
    """
    start = time.monotonic()
    content = read_json(Path(input_json_file))
    category_list = read_category_list(categories_json_file, content, source=input_json_file)
    folder = folder_beside(output_json_file, segmentations_folder, make=True)
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(input_json_file))
    parts = in_parallel(
        _convert, coco.getImgIds(), coco, by_id(category_list), folder, strict_compat
    )
    annotations = [annotation for part in parts for annotation in part]
    result = {**content, "annotations": annotations, "categories": category_list}
    save_json(result, output_json_file, strict_compat=strict_compat)
    say(f"Wrote {len(annotations)} annotations to {output_json_file}, PNGs to {folder}")
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")


def _convert(
    proc_id: int,
    img_ids: Sequence[int],
    coco: Any,
    categories: Categories,
    folder: Path,
    strict_compat: bool,
) -> list[Entry]:
    """Call the function of panopticapi's name, whose images are not the second argument."""
    return convert_detection_to_panoptic_coco_format_single_core(
        proc_id, coco, img_ids, categories, folder, strict_compat=strict_compat
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="COCO detection to COCO panoptic format.")
    required(parser, input_json_file="COCO detection JSON")
    required(parser, output_json_file="COCO panoptic JSON to write")
    parser.add_argument("--segmentations_folder", help="folder of PNGs to write; X for X.json")
    parser.add_argument("--categories_json_file", help="JSON list with isthing and color")
    run_command(parser, convert_detection_to_panoptic_coco_format)


if __name__ == "__main__":
    main()
