"""A dataset described by a YAML file: a folder of images with masks or COCO files, no code.

``<name>.yaml`` in ``workflow/datasets`` or in a folder of ``SEGBENCH_DATASETS_PATH`` is the
dataset ``<name>``; :class:`segbench.datasets.custom.spec.CustomDataset` has every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segbench.core.checked_yaml import key_line, load_yaml
from segbench.core.errors import ConfigError
from segbench.core.types import Category, DatasetInfo, Task
from segbench.datasets.custom.coco import coco_images
from segbench.datasets.custom.listing import assign, in_split, pairs
from segbench.datasets.custom.palette import colors_for
from segbench.datasets.custom.problems import problems_of
from segbench.datasets.custom.spec import NAME, SPLIT, CustomDataset
from segbench.datasets.custom.truth import load_objects, load_semantic, mask_rule, object_rule
from segbench.datasets.source import SourceImage

__all__ = ["CustomModule", "load_custom"]

PROTOCOLS: Mapping[Task, str] = {
    "semantic": "semantic-pooled",
    "instance": "coco-instances",
    "panoptic": "coco-panoptic",
}


@dataclass(frozen=True)
class CustomModule:
    """The two names of a dataset file, made of a YAML file."""

    INFO: DatasetInfo
    spec: CustomDataset
    __file__: str

    def sources(
        self, raw: Path | None, options: Mapping[str, Any]
    ) -> Mapping[str, Sequence[SourceImage]]:
        """Return the images of every split; ``DataError`` when files are not as described."""
        assert raw is not None
        del options
        if self.spec.by_folder:
            return {split: self._images(raw, split) for split in self.spec.split_names}
        images = {item.stem: item for item in self._images(raw, "")}
        members = assign(self.spec, raw, images)
        return {split: [images[name] for name in names] for split, names in members.items()}

    def _images(self, root: Path, split: str) -> list[SourceImage]:
        spec, table = self.spec, self.INFO.table
        if spec.document is not None:
            whole = not spec.by_folder or SPLIT in spec.images
            return coco_images(spec, root, split, table, whole=whole)
        found = pairs(root, in_split(spec.images, split, spec), in_split(_masks(spec), split, spec))
        load = (
            partial(load_objects, rule=object_rule(spec, table))
            if spec.mask_format == "instance_ids"
            else partial(load_semantic, rule=mask_rule(spec))
        )
        return [SourceImage(name, partial(load, *files), files) for name, files in found.items()]


def _masks(spec: CustomDataset) -> str:
    """Return where masks are; ``masks`` beside ``images/{split}`` is split alike."""
    if spec.masks is None and SPLIT in spec.images:
        return spec.mask_pattern + f"/{SPLIT}"
    return spec.mask_pattern


def load_custom(path: Path) -> CustomModule:
    """Read a dataset file.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    if not NAME.fullmatch(path.stem):
        raise ConfigError(
            f"{path}: the file's name is the dataset's: letters, digits, _ . and - only"
        )
    spec = load_yaml(path, CustomDataset)
    _refuse_problems(spec, path)
    return CustomModule(_info(spec, path), spec, str(path))


def _refuse_problems(spec: CustomDataset, path: Path) -> None:
    for problem in problems_of(spec):
        line = key_line(path, *re.findall(r"\w+", problem)[:1])
        raise ConfigError(f"{path}:{line}: {problem}")


def _info(spec: CustomDataset, path: Path) -> DatasetInfo:
    colors = colors_for([entry.color for entry in spec.classes.values()])
    numbers = list(spec.ids.values()) if spec.document else range(1, len(spec.classes) + 1)
    rows = zip(numbers, spec.classes, spec.things, colors, strict=True)
    return DatasetInfo(
        name=path.stem,
        display_name=spec.display_name or path.stem.replace("_", " "),
        description=spec.description or "A folder of images, described by a YAML file.",
        categories=tuple(Category(*row) for row in rows),
        tasks=spec.tasks,
        splits=dict.fromkeys(spec.split_names),
        protocols={task: spec.protocols.get(task, PROTOCOLS[task]) for task in spec.tasks},
        licence=spec.licence,
        citation=spec.citation,
        homepage=spec.homepage,
        layout=_layout(spec, path),
        folder=(path.absolute().parent / spec.folder).resolve(),
    )


def _layout(spec: CustomDataset, path: Path) -> str:
    given = [spec.images, spec.coco_panoptic, spec.coco_instances]
    if spec.coco_instances is None or spec.coco_panoptic is not None:
        given.append(_masks(spec))
    names = ", ".join(name for name in given if name is not None)
    return f"It must hold {names}, as {path} says."
