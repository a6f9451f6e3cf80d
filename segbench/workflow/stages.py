"""The stages of the workflow and the code behind each: read by the plan and by the rules.

A stage is a rule and a command. Its fingerprint covers its entry modules, everything that they
import, and the files of the cell that it works on, as the model's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segbench.core.fingerprint import code_fingerprint, module_file

STAGES: dict[str, tuple[str, ...]] = {
    "prepare": ("datasets.prepare.writer",),
    "train": ("training.loop",),
    "predict": ("inference.predict", "formats.manifest"),
    "control": ("workflow.controls", "formats.manifest"),
    "submit": ("workflow.submissions", "formats.manifest"),
    "evaluate": ("workflow.record",),
    "profile": ("models.profiling.costs",),
    "overlays": ("report.pictures.overlays",),
    "collect": ("workflow.results",),
    "report": ("report.render",),
}
"""Stage -> the modules of ``segbench`` that do its work."""


def stage_fingerprint(stage: str, *files: Path, texts: Iterable[Path] = ()) -> str:
    """Return 16 hex digits over the meaning of all code that a stage runs.

    Args:
        stage: A key of ``STAGES``.
        files: Further sources: the file of the model, of the dataset.
        texts: Files that count as they are, as templates.
    """
    entries = [module_file(name) for name in STAGES[stage]]
    return code_fingerprint([*entries, *files], texts=texts)
