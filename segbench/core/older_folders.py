"""Folders and files of segbench without a marker: earlier versions wrote them.

They are recognised by an index that only segbench writes and by every single name in them;
anything else in a folder makes it somebody's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TASK = "(?:semantic|instance|panoptic)"
_NAMES = {
    "predictions": rf"manifest\.json|instances\.json|panoptic\.json|{_TASK}/[^/]+\.png",
    "overlays": rf"overlays\.json|{_TASK}/[^/]+\.webp",
    "report": (
        r"index\.html|table\.(?:json|csv)|assets/[a-z]+\.(?:js|css|svg|png)"
        r"|(?:compare|datasets|gallery|runs)/[^/]+\.html|runs/[^/]+\.json|charts/[^/]+\.svg"
        r"|logs/[^/]+/[^/]+\.log\.txt|media/[^/]+/[^/]+/.+\.webp"
    ),
}


def json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def unknown_files(folder: Path, kind: str, files: set[str]) -> set[str]:
    """Return what no earlier version has written into an unmarked folder of this kind.

    Args:
        folder: The folder.
        kind: As ``predictions``.
        files: All that lies in it, relative to it; all of it is returned where the folder has
            no index of segbench.
    """
    names = re.compile(_NAMES[kind])
    strangers = {name for name in files if not names.fullmatch(name)}
    if kind == "predictions":
        listed = json_object(folder / "manifest.json").get("files")
        if isinstance(listed, dict):
            return files - {"manifest.json", *listed}
    if kind == "overlays":
        drawn = _drawn(json_object(folder / "overlays.json"))
        if drawn:
            return files - drawn
    if kind == "report":
        known = is_table(json_object(folder / "table.json")) and "assets/vega.js" in files
        return strangers if known else files
    return strangers if _is_in_results(folder, kind) else files


def _drawn(index: Mapping[str, Any]) -> set[str]:
    """Return the files of a folder of overlays; none where the object is no index of one."""
    drawn = index.get("drawn")
    if index.get("schema") != 1 or not isinstance(drawn, dict):
        return set()
    pictures = {
        f"{task}/{stem}{end}.webp"
        for task, stems in drawn.items()
        for stem in stems
        for end in ("", "-error")
    }
    return {"overlays.json", *pictures}


def _is_in_results(folder: Path, kind: str) -> bool:
    """Say whether a folder lies where the workflow puts it in its results.

    Snakemake takes the index away before it makes it again; the place is what is left then.
    """
    parts = folder.parts
    if len(parts) < 6 or parts[-2] != kind or not re.fullmatch(r"seed\d+", parts[-3]):
        return False
    data = json_object(folder.parents[4] / "data" / parts[-5] / "dataset.json")
    return data.get("name") == parts[-5] and "request" in data


def is_table(found: Mapping[str, Any]) -> bool:
    """Say whether a JSON object is a table of ``segbench collect``."""
    return {"schema", "title", "datasets", "models", "cells"} <= found.keys()


def is_profile(found: Mapping[str, Any]) -> bool:
    """Say whether a JSON object is a profile of ``segbench profile``."""
    return {"params", "gmacs", "input_size", "latency_ms"} <= found.keys()


def is_raw_record(found: Mapping[str, Any]) -> bool:
    """Say whether a JSON object is a record of ``segbench download``."""
    return {"schema", "dataset", "raw", "archives", "listing"} <= found.keys()


def is_record(found: Mapping[str, Any]) -> bool:
    """Say whether a JSON object is the record of one task of ``segbench evaluate``."""
    return {"schema", "task", "protocol", "scores", "digests"} <= found.keys()
