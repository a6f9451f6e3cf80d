"""Every Python example of the documentation is one file that runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.datasets import dataset_info, prepare_dataset
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from segbench.models.registry import create_model, model_infos

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]
MODELS = [one for one in EXAMPLES if "@register_model(" in one.values[0]]
DATASETS = [one for one in EXAMPLES if "\nINFO = " in one.values[0]]


def test_every_example_is_a_model_or_a_dataset():
    """A block of another kind needs a test of its own here."""
    assert MODELS and DATASETS
    assert {one.id for one in EXAMPLES} == {one.id for one in (*MODELS, *DATASETS)}


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_imports_from_one_module_of_segbench(block):
    modules = set(re.findall(r"^(?:from|import) (segbench\S*)", block, re.MULTILINE))
    assert modules in ({"segbench.models"}, {"segbench.datasets.source"})


@pytest.mark.parametrize("block", MODELS)
def test_a_model_runs_word_for_word(tmp_path, monkeypatch, block):
    (tmp_path / "example.py").write_text(block)
    before = set(model_infos())
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    infos = model_infos()
    names = set(infos) - before
    assert names
    for name in names:
        assert infos[name].task == "semantic"
        network = create_model(name, 4).eval()
        with torch.no_grad():
            outputs = network(torch.zeros(2, 3, 33, 47))
        assert outputs["logits"].shape == (2, 4, 33, 47)
        predictions = network.predict(outputs, [(33, 47), (20, 30)])
        assert [p.semantic.shape for p in predictions] == [(33, 47), (20, 30)]


@pytest.mark.parametrize("block", DATASETS)
def test_a_dataset_runs_word_for_word(tmp_path, monkeypatch, block):
    name = re.search(r"^# (\w+)\.py\n", block).group(1)
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / f"{name}.py").write_text(block)
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(folder))
    info = dataset_info(name)
    for split in info.splits:
        write_pairs(tmp_path / "raw" / split, classes=len(info.categories))
    prepare_dataset(name, tmp_path / "prepared", raw=tmp_path / "raw")
    prepared = PreparedDataset.open(tmp_path / "prepared")
    for split in info.splits:
        (record,) = prepared.images(split)
        assert np.array_equal(np.unique(read_label_map(record.semantic)), [0, 1, 255])


def write_pairs(folder: Path, *, classes: int) -> None:
    """Write one photograph and its mask of class numbers from 1, 0 for no class."""
    labels = np.repeat(np.arange(classes + 1, dtype=np.uint8), 16)[:, None] + np.zeros(
        (1, 40), np.uint8
    )
    photo = np.random.default_rng(len(folder.name)).integers(
        0, 255, (*labels.shape, 3), dtype=np.uint8
    )
    for kind, pixels, suffix in (("images", photo, "jpg"), ("masks", labels, "png")):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / kind / f"{folder.name}.{suffix}")
