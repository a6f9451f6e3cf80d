"""Instance and semantic predictions merged into a panoptic one, under panopticapi's names.

The rule of Kirillov et al., Panoptic Segmentation, CVPR 2019, section 7: instances by falling
score, each on the pixels that are still free, left out where too much of it is taken already;
then stuff on what remains, left out where little remains.

    python -m segbench.panopticapi.combine_semantic_and_instance_predictions --help
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import BoolArray, IntArray
from segbench.panopticapi._support import (
    Categories,
    PanopticKeyError,
    PathLike,
    by_id,
    folder_beside,
    in_parallel,
    read_category_list,
    required,
    run_command,
    say,
    write_rgb,
)
from segbench.panopticapi.utils import IdGenerator, get_traceback, id2rgb, save_json

Entry = dict[str, Any]
ByImage = Mapping[Any, Sequence[Entry]]


@get_traceback
def combine_to_panoptic_single_core(
    proc_id: int,
    img_ids: Sequence[Any],
    img_id2img: Mapping[Any, Entry],
    inst_by_image: ByImage,
    sem_by_image: ByImage,
    segmentations_folder: PathLike,
    overlap_thr: float,
    stuff_area_limit: float,
    categories: Categories,
    *,
    strict_compat: bool = False,
) -> list[Entry]:
    """Merge some images, write their PNGs and return their annotations.

    Args:
        proc_id: Number of the process; not used.
        img_ids: Images to merge.
        img_id2img: ``width``, ``height``, ``file_name`` of each image.
        inst_by_image: Instances of each image with RLE masks, best score first.
        sem_by_image: Stuff of each image with RLE masks.
        segmentations_folder: Where the PNGs go.
        overlap_thr: An instance is left out when more than this share of it is taken.
        stuff_area_limit: Stuff is left out when it has fewer free pixels.
        categories: Category id -> ``isthing`` and ``color``.
        strict_compat: One generator of ids for all images; segments without pixels stay.
    """
    shared = IdGenerator(categories, strict_compat=True)
    annotations = []
    for img_id in img_ids:
        image = img_id2img[img_id]
        canvas = _Canvas(
            np.zeros((image["height"], image["width"]), dtype=np.uint32),
            shared if strict_compat else IdGenerator(categories),
            keep_empty=strict_compat,
        )
        for instance in inst_by_image.get(img_id, ()):
            canvas.add_instance(instance, overlap_thr)
        for stuff in sem_by_image.get(img_id, ()):
            canvas.add_stuff(stuff, stuff_area_limit)
        file_name = image["file_name"].replace(".jpg", ".png")
        write_rgb(Path(segmentations_folder) / file_name, id2rgb(canvas.ids))
        annotations.append(
            {
                "image_id": _as_int(img_id),
                "file_name": file_name,
                "segments_info": canvas.segments,
            }
        )
    return annotations


def _as_int(image_id: Any) -> Any:
    with suppress(TypeError, ValueError):
        return int(image_id)
    return image_id


class _Canvas:
    """The panoptic map of one image as it is painted."""

    def __init__(self, ids: IntArray, generator: IdGenerator, *, keep_empty: bool) -> None:
        self.ids = ids
        self.segments: list[Entry] = []
        self._taken = np.zeros(ids.shape, dtype=bool)
        self._generator = generator
        self._keep_empty = keep_empty

    def add_instance(self, instance: Entry, overlap_thr: float) -> None:
        mask = self._mask(instance)
        area = np.count_nonzero(mask)
        if area and np.count_nonzero(mask & self._taken) / area <= overlap_thr:
            self._paint(mask & ~self._taken, instance["category_id"])

    def add_stuff(self, stuff: Entry, stuff_area_limit: float) -> None:
        free = self._mask(stuff) & ~self._taken
        if np.count_nonzero(free) >= stuff_area_limit:
            self._paint(free, stuff["category_id"])

    def _mask(self, entry: Entry) -> BoolArray:
        mask: BoolArray = coco_mask.decode(entry["segmentation"]) == 1
        if mask.shape != self.ids.shape:
            raise DataError(
                f"image {entry['image_id']}: expected masks of {self.ids.shape} (height, width), "
                f"found {mask.shape}"
            )
        return mask

    def _paint(self, free: BoolArray, category_id: int) -> None:
        if not (self._keep_empty or free.any()):
            return
        segment_id = self._generator.get_id(category_id)
        self.ids[free] = segment_id
        self._taken |= free
        self.segments.append({"id": segment_id, "category_id": category_id})


def combine_to_panoptic_multi_core(
    img_id2img: Mapping[Any, Entry],
    inst_by_image: ByImage,
    sem_by_image: ByImage,
    segmentations_folder: PathLike,
    overlap_thr: float,
    stuff_area_limit: float,
    categories: Categories,
    *,
    strict_compat: bool = False,
) -> list[Entry]:
    """Merge all images, by several processes where there are many."""
    found = in_parallel(
        combine_to_panoptic_single_core,
        list(img_id2img),
        img_id2img,
        inst_by_image,
        sem_by_image,
        segmentations_folder,
        overlap_thr,
        stuff_area_limit,
        categories,
        strict_compat=strict_compat,
    )
    return [annotation for part in found for annotation in part]


def combine_predictions(
    semseg_json_file: PathLike,
    instseg_json_file: PathLike,
    images_json_file: PathLike,
    categories_json_file: PathLike | None,
    segmentations_folder: PathLike | None,
    panoptic_json_file: PathLike,
    confidence_thr: float,
    overlap_thr: float,
    stuff_area_limit: float,
    *,
    strict_compat: bool = False,
) -> None:
    """Merge COCO results of both kinds and write a COCO panoptic prediction.

    Args:
        semseg_json_file: COCO results of semantic segmentation; thing categories are ignored.
        instseg_json_file: COCO results of instance segmentation.
        images_json_file: COCO JSON with the images to merge.
        categories_json_file: JSON list of categories; None takes those of the images' JSON.
        segmentations_folder: Where the PNGs go; None takes X for X.json.
        panoptic_json_file: Where the JSON goes.
        confidence_thr: Instances that score less are left out.
        overlap_thr: See ``combine_to_panoptic_single_core``.
        stuff_area_limit: See ``combine_to_panoptic_single_core``.
        strict_compat: See the package.
    """
    start = time.monotonic()
    content = read_json(Path(images_json_file))
    category_list = read_category_list(categories_json_file, content, source=images_json_file)
    categories = by_id(category_list)
    folder = folder_beside(panoptic_json_file, segmentations_folder, make=True)
    say(f"Merging {semseg_json_file} and {instseg_json_file}")
    annotations = combine_to_panoptic_multi_core(
        {image["id"]: image for image in content["images"]},
        _instances(read_json(Path(instseg_json_file)), confidence_thr),
        _stuff(read_json(Path(semseg_json_file)), categories),
        folder,
        overlap_thr,
        stuff_area_limit,
        categories,
        strict_compat=strict_compat,
    )
    result = {**content, "annotations": annotations, "categories": category_list}
    save_json(result, panoptic_json_file, strict_compat=strict_compat)
    say(f"Wrote {panoptic_json_file} and PNGs in {folder}")
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")


def _instances(entries: Sequence[Entry], confidence_thr: float) -> ByImage:
    """Return the instances that score enough by image, best first."""
    found: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry["score"] >= confidence_thr:
            found[entry["image_id"]].append(entry)
    return {
        image_id: sorted(group, key=lambda entry: -entry["score"])
        for image_id, group in found.items()
    }


def _stuff(entries: Sequence[Entry], categories: Categories) -> ByImage:
    found: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry["category_id"] not in categories:
            raise PanopticKeyError(
                f"unknown category_id {entry['category_id']} in the semantic results"
            )
        if categories[entry["category_id"]]["isthing"] != 1:
            found[entry["image_id"]].append(entry)
    return dict(found)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Merge semantic and instance predictions.")
    required(parser, semseg_json_file="COCO results of semantic segmentation")
    required(parser, instseg_json_file="COCO results of instance segmentation")
    required(parser, images_json_file="COCO JSON with the images")
    parser.add_argument("--categories_json_file", help="JSON list; default: in the images' JSON")
    required(parser, panoptic_json_file="COCO panoptic JSON to write")
    parser.add_argument("--segmentations_folder", help="folder of PNGs to write; X for X.json")
    parser.add_argument("--confidence_thr", type=float, default=0.5, help="least score")
    parser.add_argument("--overlap_thr", type=float, default=0.5, help="largest taken share")
    parser.add_argument("--stuff_area_limit", type=float, default=64 * 64, help="least pixels")
    run_command(parser, combine_predictions)


if __name__ == "__main__":
    main()
