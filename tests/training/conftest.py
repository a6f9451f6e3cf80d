from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segbench.formats.prepared import PreparedDataset
from tests.training import training_toys


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_toys.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _toy_models(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(model_folder))
    yield


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return training_toys.write_dataset(tmp_path_factory.mktemp("toys"))
