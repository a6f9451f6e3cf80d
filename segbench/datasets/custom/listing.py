"""Which files a pattern names, by the name of the image, and which split each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from segbench.core.errors import DataError
from segbench.datasets.custom.spec import REST, SPLIT, CustomDataset
from segbench.datasets.source import files_by_stem

IMAGE_KINDS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Files of a folder that are photographs; a pattern takes what it matches."""
MASK_KINDS = (".png", ".bmp", ".gif", ".tif", ".tiff")
SHOWN = 8


def named_files(root: Path, pattern: str, kinds: Sequence[str]) -> dict[str, Path]:
    """Return the files of a folder or pattern by the name of their image, sorted.

    Raises:
        DataError: Two files have the same name.
    """
    last = PurePosixPath(pattern).name
    if "*" not in last:
        return files_by_stem(root / pattern, suffixes=kinds)
    head, tail = last.split("*")
    found: dict[str, Path] = {}
    for path in sorted(root.glob(pattern)):
        if path.is_file() and not path.name.startswith("."):
            name = path.name[len(head) : len(path.name) - len(tail)]
            if name in found:
                raise DataError(
                    f"{root} has two files for '{name}': {found[name].relative_to(root)} and "
                    f"{path.relative_to(root)}",
                    fix="keep one of them, or give them different names",
                )
            found[name] = path
    return found


def expected_file(root: Path, pattern: str, name: str, suffix: str) -> Path:
    """Return where the file of an image should be."""
    if "*" in pattern:
        return root / pattern.replace("**/", "").replace("*", name)
    return root / pattern / f"{name}{suffix}"


def pairs(root: Path, images: str, masks: str) -> dict[str, tuple[Path, Path]]:
    """Return image and mask by name; of an incomplete pair, the path where the rest should be.

    Raises:
        DataError: There is no image, or two files have the same name.
    """
    mask_files = named_files(root, masks, MASK_KINDS)
    taken = set(mask_files.values()) if "*" in masks else set()
    found = named_files(root, images, IMAGE_KINDS)
    image_files = {name: path for name, path in found.items() if path not in taken}
    for pattern, files in ((images, image_files), (masks, mask_files)):
        if not files:
            raise nothing(root, pattern)
    return {
        name: (
            image_files.get(name) or expected_file(root, images, name, ".jpg"),
            mask_files.get(name) or expected_file(root, masks, name, ".png"),
        )
        for name in sorted({*image_files, *mask_files})
    }


def nothing(root: Path, pattern: str) -> DataError:
    """Return the error for a pattern that matches no file, with what is there instead."""
    folder = root
    for part in PurePosixPath(pattern).parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    entries = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    shown = ", ".join(entries[:SHOWN]) + (", ..." if len(entries) > SHOWN else "")
    return DataError(
        f"nothing matches {root / pattern}; {folder} holds {shown or 'nothing'}",
        fix="correct the path in the dataset's YAML file; names are case-sensitive",
    )


def in_split(pattern: str, split: str, spec: CustomDataset) -> str:
    """Return a path with the folder of a split in place of ``{split}``."""
    folder = spec.splits.get(split)
    return pattern.replace(SPLIT, folder if isinstance(folder, str) else split)


def assign(spec: CustomDataset, root: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of each split, by shares or by list files.

    Raises:
        DataError: A list names an unknown image or one of another list, or a split is empty.
    """
    ordered = list(names)
    if spec.shares:
        found: dict[str, list[str]] = {split: [] for split in spec.split_names}
        for name in ordered:
            found[split_of(name, spec.shares)].append(name)
    else:
        lists = {split: root / str(path) for split, path in spec.splits.items()}
        found = {split: _listed(path, ordered) for split, path in lists.items()}
        _refuse_overlap(found, lists)
    empty = [split for split, members in found.items() if not members]
    if empty:
        raise DataError(
            f"split '{empty[0]}' has none of the {len(ordered)} images",
            fix="give it a larger share, or name its images in a list file"
            if spec.shares
            else f"write the names of its images into {lists[empty[0]]}, one a line",
        )
    return found


def split_of(name: str, shares: Mapping[str, float]) -> str:
    """Return the split of an image from its name alone: images that come later move no other."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    others = [(split, share) for split, share in shares.items() if split != REST]
    limit = 0.0
    for split, share in others:
        limit += share
        if number < limit:
            return split
    return REST if sum(shares.values()) < 1 - 1e-9 or REST in shares else others[-1][0]


def _listed(path: Path, names: Sequence[str]) -> list[str]:
    """Return the images a list file names: with or without folder and suffix, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"list of a split: {path} cannot be read: {error}",
            fix="splits: list files are relative to folder, one name a line",
        ) from error
    known = set(names)
    found: dict[str, None] = {}
    unknown = []
    for line in filter(None, map(str.strip, lines)):
        forms = (line, PurePosixPath(line).name, PurePosixPath(line).stem)
        name = next((form for form in forms if form in known), None)
        if name is None:
            unknown.append(line)
        else:
            found[name] = None
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} of its lines name no image: {', '.join(unknown[:SHOWN])}",
            fix=f"images are named as {', '.join(names[:3])}",
        )
    return list(found)


def _refuse_overlap(found: Mapping[str, Sequence[str]], lists: Mapping[str, Path]) -> None:
    first: dict[str, str] = {}
    for split, names in found.items():
        twice = [name for name in names if name in first]
        if twice:
            raise DataError(
                f"{lists[split]} and {lists[first[twice[0]]]}: {len(twice)} images are in both: "
                f"{', '.join(twice[:SHOWN])}",
                fix="an image belongs to one split",
            )
        first |= dict.fromkeys(names, split)
