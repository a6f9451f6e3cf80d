"""The list of datasets: found by folder, cheap to read, clear when a file is wrong."""

import re
import subprocess
import sys

import pytest

from segbench.core.errors import ConfigError
from segbench.datasets import dataset_info, dataset_infos, dataset_source, prepare_dataset

STRIPES = '''
"""Two stripes, one class each."""

import numpy as np

from segbench.datasets.source import Category, DatasetInfo, RawImage, SourceImage

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
        dataset_info("other")


def test_a_name_cannot_be_taken_twice(own_folder):
    (own_folder / "camvid.py").write_text(STRIPES.replace("stripes", "camvid"))
    with pytest.raises(ConfigError, match="'camvid' is defined twice"):
        dataset_infos()


BROKEN = {
    "syntax": ("import (\nINFO = 1\n", r"own\.py:1: "),
    "import": ("x = 1\nINFO = 1 / 0\n", r"own\.py:2: ZeroDivisionError: division by zero"),
    "file": ("x = 1\nINFO = open('nowhere')\n", r"own\.py:2: FileNotFoundError: .*nowhere"),
    "exit": ("import sys\nINFO = sys.exit(3)\n", r"own\.py:2: SystemExit: 3"),
    "package": ("import no_such_package\nINFO = 1\n", r"own\.py:1: ModuleNotFoundError"),
    "type": ("INFO = 1\n", r"own\.py: INFO is of type int, expected DatasetInfo"),
    "text": (b"\xff\xfe\x00INFO", r"own\.py: UnicodeDecodeError"),
    "null": ("INFO = 1\0\n", r"own\.py"),
    "name": (STRIPES, r"own\.py: INFO\.name is 'stripes', expected 'own'"),
    "yaml": ("folder: [\n", r"own\.yaml"),
    "folder": (None, r"own\.py: Is a directory"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_costs_no_other_dataset(own_folder, capfd, kind):
    text, message = BROKEN[kind]
    file = own_folder / ("own.yaml" if kind == "yaml" else "own.py")
    if text is None:
        file.mkdir()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = dataset_infos()
    err = capfd.readouterr().err
    assert "own" not in found and "camvid" in found
    assert re.search(message, err) and err.count("warning:") == 1
    with pytest.raises(ConfigError, match=message):
        dataset_info("own")


def test_a_folder_that_is_not_there_is_said(monkeypatch, capfd, tmp_path):
    (tmp_path / "file").touch()
    folders = f"{tmp_path}/nowhere:{tmp_path}/file"
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", folders)
    assert "camvid" in dataset_infos()
    err = capfd.readouterr().err
    assert f"SEGBENCH_DATASETS_PATH: the folder {tmp_path}/nowhere does not exist" in err
    assert f"{tmp_path}/file is no folder" in err


def test_the_list_imports_no_data_package():
    code = (
        "import sys, segbench.datasets as d; d.dataset_infos();"
        "heavy = {'torch', 'skimage', 'sklearn', 'scipy', 'pycocotools', 'pandas'};"
        "sys.exit(', '.join(heavy & {m.partition('.')[0] for m in sys.modules}) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
