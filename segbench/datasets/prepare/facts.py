"""What the images of a split say together, and what is suspicious about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from segbench.core.types import CategoryTable

VOID_BOUND = 0.5
"""Share of ignored pixels of a split above which something is probably read wrongly."""
SHOWN_NAMES = 5

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (``error``) or looks wrong (``warning``) with a dataset."""

    level: Level
    kind: str
    """A short name that stays the same, as ``truncated-file``."""
    where: str
    """The file, image or split."""
    what: str

    def __str__(self) -> str:
        return f"{self.level} [{self.kind}] {self.where}: {self.what}"

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass
class SplitFacts:
    """What is collected of a split, image by image."""

    images: int = 0
    pixels: list[int] = field(default_factory=list)
    """Pixels of each train id, ignored ones last."""
    stems: dict[str, str] = field(default_factory=dict)
    """Digest of an image's content -> name of the first image with it."""
    void: list[str] = field(default_factory=list)
    """Names of the images without a single labelled pixel."""

    def add(self, stem: str, digest: str, pixels: Sequence[int]) -> None:
        """Count an image: its name, the digest of its file, its pixels of each class."""
        self.images += 1
        old = self.pixels or [0] * len(pixels)
        self.pixels = [a + b for a, b in zip(old, pixels, strict=True)]
        self.stems.setdefault(digest[:16], stem)
        if not any(pixels[:-1]):
            self.void.append(stem)

    def add_entry(self, entry: Mapping[str, Any]) -> None:
        """Count an image as ``ImageWriter`` describes it."""
        row = entry["row"]
        self.add(Path(row["image"]).stem, row["sha256"]["image"], entry["pixels"])

    @property
    def histogram(self) -> dict[str, Any]:
        return {"pixels": self.pixels[:-1], "ignored": self.pixels[-1]}


def split_findings(
    facts: Mapping[str, SplitFacts],
    *,
    table: CategoryTable,
    tasks: Sequence[str],
    official: Mapping[str, int | None],
) -> list[Finding]:
    """Return what is wrong with splits whose images are each sound.

    Args:
        facts: The splits that have images.
        table: Classes of the dataset.
        tasks: Its tasks; shares of pixels mean something where ``semantic`` is among them.
        official: Official number of images of each split, None where there is none.
    """
    found = [*_overlaps(facts, official), *_partial(facts, official)]
    if "semantic" in tasks:
        for split, one in facts.items():
            found += _encoding(split, one, table)
    return found + list(_absent_classes(facts, table))


def _overlaps(
    facts: Mapping[str, SplitFacts], official: Mapping[str, int | None]
) -> Iterator[Finding]:
    """An image in two splits; nested splits as train and trainaug share theirs."""
    for (one, a), (other, b) in combinations(facts.items(), 2):
        shared = sorted(a.stems[digest] for digest in a.stems.keys() & b.stems.keys())
        if not shared or one in other or other in one:
            continue
        published = all(facts[split].images == official.get(split) for split in (one, other))
        yield Finding(
            "warning" if published else "error",
            "split-overlap",
            f"{one}, {other}",
            f"{len(shared)} images are in both splits: {_names(shared)}"
            + (" (in the official splits)" if published else ""),
        )


def _partial(
    facts: Mapping[str, SplitFacts], official: Mapping[str, int | None]
) -> Iterator[Finding]:
    for split, expected in official.items():
        found = facts[split].images if split in facts else 0
        if expected is not None and found != expected:
            yield Finding(
                "warning", "partial-split", split,
                f"{found} images, the official split has {expected}; scores on it do not compare "
                "with published ones",
            )  # fmt: skip


def _encoding(split: str, facts: SplitFacts, table: CategoryTable) -> Iterator[Finding]:
    """Signs of labels that are read in a wrong encoding."""
    labelled, ignored = sum(facts.pixels[:-1]), facts.pixels[-1]
    shown = [name for name, count in zip(table.names, facts.pixels, strict=False) if count]
    if len(shown) == 1 < len(table) and facts.images > 1:
        yield Finding(
            "error", "one-class", split,
            f"every labelled pixel of its {facts.images} images is '{shown[0]}', one of "
            f"{len(table)} classes: are the labels read in the right encoding?",
        )  # fmt: skip
    if ignored > VOID_BOUND * (labelled + ignored):
        share = 100 * ignored / (labelled + ignored)
        yield Finding(
            "warning", "void-share", split,
            f"{share:.1f} % of its pixels are ignored; above {100 * VOID_BOUND:.0f} % is unusual",
        )  # fmt: skip
    if facts.void:
        yield Finding(
            "warning", "void-image", split,
            f"{len(facts.void)} images have no labelled pixel: {_names(facts.void)}",
        )  # fmt: skip


def _absent_classes(facts: Mapping[str, SplitFacts], table: CategoryTable) -> Iterator[Finding]:
    for split, one in facts.items():
        if not split.startswith("train"):
            continue
        absent = [name for name, n in zip(table.names, one.pixels, strict=False) if not n]
        if absent:
            yield Finding(
                "warning", "absent-class", split,
                f"{len(absent)} of {len(table)} classes never occur: {_names(absent)}",
            )  # fmt: skip


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
