"""Datasets: one file each, found by folder; ``prepare_dataset`` writes the prepared form."""

from segbench.datasets.registry import dataset_info, dataset_infos, dataset_source
from segbench.datasets.writer import prepare_dataset, verify_prepared

__all__ = [
    "dataset_info",
    "dataset_infos",
    "dataset_source",
    "prepare_dataset",
    "verify_prepared",
]
