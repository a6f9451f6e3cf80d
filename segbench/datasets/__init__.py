"""Datasets: one file each, found by folder; ``prepare_dataset`` writes the prepared form.

Asking what a dataset is imports no codec and no data package; preparing one does.
"""

from typing import TYPE_CHECKING, Any

from segbench.datasets.registry import dataset_info, dataset_infos, dataset_source

if TYPE_CHECKING:
    from segbench.datasets.prepare.writer import prepare_dataset, verify_prepared

__all__ = [
    "dataset_info",
    "dataset_infos",
    "dataset_source",
    "prepare_dataset",
    "verify_prepared",
]


def __getattr__(name: str) -> Any:
    if name in ("prepare_dataset", "verify_prepared"):
        from segbench.datasets.prepare import writer

        return getattr(writer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
