"""What has been done in a raw folder: one manifest an archive, written last.

    <raw>/archives/<archive>                   as its publisher offers it
    <raw>/.segbench/<archive>.json             its manifest: digests and sizes of what it holds
    <raw>/.segbench/<archive>.lease/           who works on it now
    <raw>/.unpack-<archive>/                   being unpacked, or left by a killed attempt

An archive without a manifest is not there; a folder with an ``.unpack-`` is not whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.files import read_json, write_json
from segbench.core.provenance import json_digest
from segbench.core.types import Archive
from segbench.datasets.download.digests import Expected
from segbench.datasets.download.unpack import UnpackedFile

SCHEMA = 1


@dataclass(frozen=True)
class Places:
    """Where the files of one archive lie in a raw folder."""

    raw: Path
    archive: Archive

    @property
    def packed(self) -> Path:
        return self.raw / "archives" / self.archive.name

    @property
    def manifest(self) -> Path:
        return self.raw / ".segbench" / f"{self.archive.name}.json"

    @property
    def lease(self) -> Path:
        return self.raw / ".segbench" / f"{self.archive.name}.lease"

    @property
    def work(self) -> Path:
        return self.raw / f".unpack-{self.archive.name}"

    @property
    def target(self) -> Path:
        return self.raw / self.archive.unpack_to

    def supplied(self) -> Path | None:
        """Return the archive where the user may have put it: in archives/ or the folder itself."""
        found = (self.packed, self.raw / self.archive.name)
        return next((path for path in found if path.is_file()), None)


def read_manifest(places: Places, expected: Expected) -> dict[str, Any] | None:
    """Return the manifest of an archive that is unpacked and all there, else None.

    Raises:
        DataError: The archive is there, but not the expected one.
    """
    manifest = recorded_manifest(places)
    if manifest is None:
        return None
    known = (f"sha256:{manifest['sha256']}", manifest["verified"])
    if expected.digest and expected.digest.lower() not in known:
        raise DataError(
            f"{places.raw} holds another version of {places.archive.name}: {known[0]}, "
            f"expected {expected.digest}",
            fix="choose another --raw folder, or delete this one to fetch the data anew",
        )
    files = manifest["listing"].items()
    whole = all(_has_size(places.target / name, size) for name, (size, _) in files)
    return manifest if whole else None


def recorded_manifest(places: Places) -> dict[str, Any] | None:
    """Return the manifest of an unpacked archive without looking at its files, else None."""
    if not places.manifest.is_file() or places.work.exists():
        return None
    manifest: dict[str, Any] = read_json(places.manifest)
    return manifest if manifest.get("schema") == SCHEMA else None


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def write_manifest(places: Places, files: Sequence[UnpackedFile], **facts: Any) -> dict[str, Any]:
    """Write what an archive has become; ``facts`` say where it came from."""
    listing = {file.path: [file.num_bytes, file.sha256] for file in files}
    manifest = {
        "schema": SCHEMA,
        "archive": places.archive.name,
        **facts,
        "files": len(files),
        "bytes": sum(file.num_bytes for file in files),
        "digest": json_digest(listing),
        "listing": listing,
    }
    write_json(places.manifest, manifest, indent=None)
    return manifest
