"""Cityscapes instance-id PNGs to COCO panoptic ground truth.

python -m segbench.panopticapi.cityscapes_gt_converter.cityscapes_panoptic_converter --help
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import BoolArray, Category, IntArray
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.formats.label_maps import read_label_map
from segbench.panopticapi._support import PathLike, by_id, required, run_command, say, write_rgb
from segbench.panopticapi.utils import IdGenerator, id2rgb, save_json

_SUFFIX = "_gtFine_instanceIds.png"
_INSTANCES_FROM = 1000
"""Numbers from here on are label id * 1000 + instance; smaller ones are label ids."""
Entry = dict[str, Any]


def panoptic_converter(
    original_format_folder: PathLike,
    out_folder: PathLike,
    out_file: PathLike,
    *,
    strict_compat: bool = False,
) -> None:
    """Convert the instance-id PNGs of all cities of a split.

    Regions of things without instance numbers become crowds; stuff is never crowd.

    Args:
        original_format_folder: ``gtFine/<split>``, with a folder a city.
        out_folder: Where the PNGs go.
        out_file: COCO panoptic JSON to write; image ids are file stems.
        strict_compat: Colour segments and name PNGs as panopticapi does; otherwise ids are the
            instance numbers and names end in _panoptic.png, as cityscapesScripts has them.

    Raises:
        DataError: There is no file to convert.
    """
    files = sorted(Path(original_format_folder).glob(f"*/*{_SUFFIX}"))
    if not files:
        raise DataError(
            f"{original_format_folder} holds no */*{_SUFFIX}",
            fix="name the folder of a split, as gtFine/val",
        )
    images, annotations = [], []
    for file in files:
        image, annotation = _convert(file, Path(out_folder), strict_compat)
        images.append(image)
        annotations.append(annotation)
    content = {"images": images, "annotations": annotations, "categories": _categories()}
    save_json(content, out_file)
    say(f"Wrote {len(files)} images to {out_file}")


def _categories() -> list[Entry]:
    return [
        {
            "id": category.id,
            "name": category.name,
            "color": list(category.color),
            "supercategory": category.supercategory,
            "isthing": int(category.isthing),
        }
        for category in CLASSES
    ]


def _convert(file: Path, out_folder: Path, strict_compat: bool) -> tuple[Entry, Entry]:
    numbers = read_label_map(file)
    stem = file.name.removesuffix(_SUFFIX)
    name = file.name if strict_compat else f"{stem}_gtFine_panoptic.png"
    generator = IdGenerator(by_id(_categories()), strict_compat=strict_compat)
    ids = np.zeros(numbers.shape, dtype=np.int64)
    segments = []
    for number in np.unique(numbers).tolist():
        category = _evaluated(number)
        if category is not None:
            segment_id = generator.get_id(category.id) if strict_compat else number
            mask = numbers == number
            ids[mask] = segment_id
            segments.append(_segment(segment_id, category, number, mask))
    write_rgb(out_folder / name, id2rgb(ids))
    height, width = numbers.shape
    image = {"id": stem, "width": width, "height": height, "file_name": f"{stem}_leftImg8bit.png"}
    return image, {"image_id": stem, "file_name": name, "segments_info": segments}


def _evaluated(number: int) -> Category | None:
    """Return the evaluated class of an instance number, if it has one."""
    label_id = number if number < _INSTANCES_FROM else number // _INSTANCES_FROM
    return next((category for category in CLASSES if category.id == label_id), None)


def _segment(segment_id: int, category: Category, number: int, mask: BoolArray) -> Entry:
    return {
        "id": segment_id,
        "category_id": category.id,
        "area": int(np.count_nonzero(mask)),
        "bbox": _box(mask),
        "iscrowd": int(category.isthing and number < _INSTANCES_FROM),
    }


def _box(mask: BoolArray) -> list[int]:
    """Return x, y, width, height of the pixels of a mask."""
    rows: IntArray = np.flatnonzero(mask.any(axis=1))
    columns: IntArray = np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Cityscapes ground truth to COCO panoptic.")
    required(parser, original_format_folder="gtFine/<split>, with a folder a city")
    required(parser, out_folder="folder of PNGs to write")
    required(parser, out_file="COCO panoptic JSON to write")
    run_command(parser, panoptic_converter)


if __name__ == "__main__":
    main()
