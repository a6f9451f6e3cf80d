"""What a dataset's YAML file cannot mean, one sentence each, the one to repair first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from segbench.datasets.custom.spec import NAME, REST, SPLIT, paths_of

if TYPE_CHECKING:
    from segbench.datasets.custom.spec import CustomDataset


def problems_of(spec: CustomDataset) -> Iterator[str]:
    """Yield what contradicts itself, the first one being the one to repair."""
    for key, path in paths_of(spec).items():
        yield from _path_problems(key, path, pattern=key in ("images", "masks"))
    yield from _class_problems(spec)
    yield from _truth_problems(spec)
    yield from _ignore_problems(spec)
    yield from _split_problems(spec)
    unknown = [task for task in spec.protocols if task not in spec.tasks]
    if unknown:
        has = ", ".join(spec.tasks)
        yield f"protocols: there is no {unknown[0]} truth here, only {has}"


def _path_problems(key: str, path: str, *, pattern: bool) -> Iterator[str]:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "~" in parts[0]:
        yield (
            f"{key}: '{path}' must lie inside folder; "
            "name their common parent as folder and the rest here"
        )
    if set("?[]") & set(path) or set("{}") & set(path.replace(SPLIT, "")):
        yield f"{key}: '{path}': only *, ** and {SPLIT} stand for something"
    stars = path.replace("**/", "").count("*")
    if (stars and not pattern) or stars > 1 or (stars and "*" not in parts[-1]):
        yield (
            f"{key}: '{path}': one star stands for the name of an image, in the last part "
            "of the path (**/ before it stands for any folders)"
        )


def _class_problems(spec: CustomDataset) -> Iterator[str]:
    blank = [name for name in spec.classes if not name.strip()]
    if blank:
        yield "classes: a name is empty"
    for values, word in (
        (spec.ids, "id"),
        ({name: c.color for name, c in spec.classes.items() if c.color}, "colour"),
    ):
        seen: dict[Any, str] = {}
        for name, value in values.items():
            if value in seen:
                yield f"classes: '{seen[value]}' and '{name}' have the same {word} {value}"
            seen[value] = name
    if spec.document is not None and min(spec.ids.values()) < 1:
        yield "classes: category ids of COCO files count from 1"


def _truth_problems(spec: CustomDataset) -> Iterator[str]:
    if spec.coco_instances is not None and spec.coco_panoptic is None and spec.masks is not None:
        yield (
            "masks and coco_instances: give one of them; with both, which classes overlap "
            "cannot be told (coco_panoptic holds both truths)"
        )
    if spec.document is not None:
        yield from _coco_problems(spec)
        return
    lacking = [name for name, entry in spec.classes.items() if entry.color is None]
    if spec.mask_format == "colors" and lacking:
        yield f"classes: mask_format: colors needs the colour of '{lacking[0]}'"
    if spec.mask_format != "index":
        numbered = [name for name, entry in spec.classes.items() if entry.id is not None]
        if numbered or spec.first_id is not None:
            yield f"ids of classes mean nothing with mask_format: {spec.mask_format}"
    things = sum(spec.things)
    if spec.mask_format == "instance_ids" and (things != 1 or len(spec.classes) > 2):
        yield (
            "classes: mask_format: instance_ids takes one class of things, whose objects are "
            "numbered 1, 2, ..., and before it the class of pixel 0, if that is one"
        )


def _coco_problems(spec: CustomDataset) -> Iterator[str]:
    if spec.mask_format != "index":
        yield "mask_format: it is of plain masks, not of COCO files"
    for key, path in paths_of(spec).items():
        if key.startswith("coco") and not path.endswith(".json"):
            yield f"{key}: '{path}' is no .json file"
    if "*" in spec.images or "*" in spec.mask_pattern:
        yield "images, masks: COCO files hold the names of images; give the folder, without *"
    if spec.coco_panoptic is None and not all(spec.things):
        yield "classes: a COCO instances file has things only; remove thing: false"
    if spec.coco_panoptic is not None and not any(spec.things):
        yield "classes: say which are things, as in {person: {id: 1, thing: true}}"
    panoptic = spec.coco_panoptic
    if panoptic is not None and SPLIT in panoptic and SPLIT not in spec.images:
        yield f"images: each panoptic file needs a folder of its own: put {SPLIT} in images"


def _ignore_problems(spec: CustomDataset) -> Iterator[str]:
    colors = spec.document is None and spec.mask_format == "colors"
    wrong = [v for v in spec.ignored if isinstance(v, tuple) != colors]
    if wrong:
        expected = "colours, as in [[0, 0, 0]]" if colors else "numbers, as in [255]"
        yield f"ignore: expected {expected}, found {wrong[0]}"
    if spec.coco_panoptic is not None and spec.ignored:
        yield "ignore: void pixels of COCO panoptic files are ignored already"
    named = {c.color for c in spec.classes.values()} if colors else set(spec.ids.values())
    both = [v for v in spec.ignored if v in named]
    if both and spec.mask_format != "instance_ids":
        yield f"ignore: {both[0]} is also a class"


def _split_problems(spec: CustomDataset) -> Iterator[str]:
    names = set(spec.split_names)
    bad = [name for name in names if not NAME.fullmatch(name)]
    if bad:
        yield f"splits: '{bad[0]}' is no name: letters, digits, _ . and - only"
    kinds = {type(value) for value in spec.splits.values()}
    if len(kinds) > 1:
        yield "splits: give shares, or list files, or names of folders, not a mixture"
    if spec.by_folder:
        if float in kinds:
            yield f"splits: shares are of one folder; remove {SPLIT} from the paths or the shares"
        if spec.document is None and SPLIT not in spec.images:
            yield f"images: masks differ by split, so images must: put {SPLIT} in both"
    elif type(None) in kinds:
        yield f"splits: names alone are sub-folders: put {SPLIT} where they stand, as in images: "
    yield from _share_problems(spec.shares)


def _share_problems(shares: Mapping[str, float]) -> Iterator[str]:
    total = sum(shares.values())
    wrong = [name for name, share in shares.items() if not 0 < share <= 1]
    if wrong:
        yield f"splits: the share of '{wrong[0]}' is {shares[wrong[0]]:g}, expected 0 to 1"
    if total > 1 + 1e-9 or (shares and REST not in shares and total > 1 - 1e-9):
        yield f"splits: the shares add up to {total:g} and leave nothing for {REST}"
    if REST in shares and abs(total - 1) > 1e-9:
        yield f"splits: the shares add up to {total:g}, not 1; leave {REST} out: it takes the rest"
