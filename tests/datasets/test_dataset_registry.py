"""The list of datasets: found by folder, cheap to read, clear when a file is wrong."""

import subprocess
import sys

import pytest

from segbench.datasets import dataset_info, dataset_infos, dataset_source, prepare_dataset
from segbench.errors import ConfigError

STRIPES = '''
"""Two stripes, one class each."""

import numpy as np

from segbench.datasets.source import RawImage, SourceImage
from segbench.types import Category, DatasetInfo

INFO = DatasetInfo(
    name="stripes", display_name="Stripes", description="Left and right.",
    categories=(Category(1, "left", False, (1, 2, 3)), Category(2, "right", False, (4, 5, 6))),
    tasks=("semantic",), splits={"train": None}, protocols={"semantic": "stripes-2"},
    licence="CC0", citation="none", options={"width": 4},
)


def sources(raw, options):
    def load():
        semantic = (np.arange(options["width"]) % 2 * np.ones((3, 1))).astype(np.uint8)
        image = np.repeat(100 * semantic[..., None], 3, axis=2)
        return RawImage(image, semantic.shape, semantic)

    return {"train": [SourceImage("only", load)]}
'''


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(folder))
    return folder


def test_the_packaged_datasets_are_found():
    assert {"camvid", "digit_scenes", "pennfudan"} <= set(dataset_infos())
    assert dataset_source("camvid").name == "camvid.py"


def test_a_dataset_of_ones_own_is_one_file(own_folder, tmp_path):
    (own_folder / "stripes.py").write_text(STRIPES)
    assert "stripes" in dataset_infos()
    dataset = prepare_dataset("stripes", tmp_path / "out", options={"width": 6})
    histogram = dataset.description["class_histogram"]["train"]
    assert histogram == {"pixels": [9, 9], "ignored": 0}
    assert dataset.description["options"] == {"width": 6}


def test_a_near_miss_is_suggested():
    with pytest.raises(ConfigError, match=r"unknown dataset 'camvdi'. Did you mean 'camvid'\?"):
        dataset_info("camvdi")


def test_the_name_must_be_that_of_the_file(own_folder):
    (own_folder / "other.py").write_text(STRIPES)
    with pytest.raises(ConfigError, match=r"other\.py: INFO\.name is 'stripes', expected 'other'"):
        dataset_infos()


def test_a_name_cannot_be_taken_twice(own_folder):
    (own_folder / "camvid.py").write_text(STRIPES.replace("stripes", "camvid"))
    with pytest.raises(ConfigError, match="'camvid' is defined twice"):
        dataset_infos()


def test_a_file_that_cannot_be_imported_is_named(own_folder):
    (own_folder / "broken.py").write_text("INFO = 1 / 0\n")
    with pytest.raises(ConfigError, match=r"broken\.py: ZeroDivisionError"):
        dataset_infos()


def test_the_list_imports_no_data_package():
    code = (
        "import sys, segbench.datasets as d; d.dataset_infos();"
        "heavy = {'torch', 'skimage', 'sklearn', 'scipy', 'pycocotools', 'pandas'};"
        "sys.exit(', '.join(heavy & {m.partition('.')[0] for m in sys.modules}) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
