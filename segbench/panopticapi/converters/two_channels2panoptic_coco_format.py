"""Two-channel PNGs (category id, instance number) to COCO panoptic.

python -m segbench.panopticapi.converters.2channels2panoptic_coco_format --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.files import read_json
from segbench.core.types import IntArray
from segbench.formats.label_maps import read_image
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
    write_rgb,
)
from segbench.panopticapi.utils import IdGenerator, get_traceback, save_json

OFFSET = 1000
"""A segment's key is category id * OFFSET + instance number."""
Entry = dict[str, Any]


@get_traceback
def convert_single_core(
    proc_id: int,
    image_set: Sequence[Entry],
    categories: Categories,
    source_folder: PathLike,
    segmentations_folder: PathLike,
    VOID: int = 0,  # noqa: N803  panopticapi's name
    *,
    strict_compat: bool = False,
) -> list[Entry]:
    """Convert some images, write their PNGs and return their annotations.

    Raises:
        KeyError: A PNG is missing or shows an unknown category.
    """
    found = []
    for image in image_set:
        name = png_name(image["file_name"], strict_compat=strict_compat)
        source = Path(source_folder) / name
        if not source.is_file():
            raise PanopticKeyError(f"no prediction png file for id: {image['id']} ({source})")
        channels = read_image(source).astype(np.int64)
        keys = OFFSET * channels[:, :, 0] + channels[:, :, 1]
        generator = IdGenerator(categories, strict_compat=strict_compat)
        canvas = np.zeros(channels.shape, dtype=np.uint8)
        segments = _paint(canvas, keys, categories, generator, VOID)
        write_rgb(Path(segmentations_folder) / name, canvas)
        found.append({"image_id": image["id"], "file_name": name, "segments_info": segments})
    return found


def _paint(
    canvas: IntArray, keys: IntArray, categories: Categories, generator: IdGenerator, void: int
) -> list[Entry]:
    segments = []
    for key in np.unique(keys).tolist():
        category_id = key // OFFSET
        if category_id == void:
            continue
        if category_id not in categories:
            raise PanopticKeyError(f"unknown semantic label {category_id}")
        segment_id, color = generator.get_id_and_color(category_id)
        canvas[keys == key] = color
        segments.append({"id": segment_id, "category_id": category_id})
    return segments


def converter(
    source_folder: PathLike,
    images_json_file: PathLike,
    categories_json_file: PathLike | None,
    segmentations_folder: PathLike | None,
    predictions_json_file: PathLike,
    VOID: int = 0,  # noqa: N803  panopticapi's name
    *,
    strict_compat: bool = False,
) -> None:
    """Convert the two-channel PNGs of the images a JSON lists.

    Args:
        source_folder: Folder of PNGs; channel 1 category id, channel 2 instance number.
        images_json_file: COCO JSON with the images.
        categories_json_file: JSON list of categories; None takes those of the images' JSON.
        segmentations_folder: Where the PNGs go; None takes X for X.json.
        predictions_json_file: COCO panoptic JSON to write.
        VOID: Category id that means no segment.
        strict_compat: See the package.
    """
    start = time.monotonic()
    content = read_json(Path(images_json_file))
    category_list = read_category_list(categories_json_file, content, source=images_json_file)
    folder = folder_beside(predictions_json_file, segmentations_folder, make=True)
    parts = in_parallel(
        convert_single_core,
        content["images"],
        by_id(category_list),
        source_folder,
        folder,
        VOID,
        strict_compat=strict_compat,
    )
    content["annotations"] = [annotation for part in parts for annotation in part]
    save_json(content, predictions_json_file, strict_compat=strict_compat)
    say(f"Wrote {predictions_json_file} and PNGs in {folder}")
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Two-channel PNGs to COCO panoptic format.")
    required(parser, source_folder="folder of two-channel PNGs")
    required(parser, images_json_file="COCO JSON with the images")
    parser.add_argument("--categories_json_file", help="JSON list; default: in the images' JSON")
    parser.add_argument("--segmentations_folder", help="folder of PNGs to write; X for X.json")
    required(parser, predictions_json_file="COCO panoptic JSON to write")
    parser.add_argument(
        "-v", "--void", dest="VOID", type=int, default=0, help="category id of no segment"
    )
    run_command(parser, converter)


if __name__ == "__main__":
    main()
