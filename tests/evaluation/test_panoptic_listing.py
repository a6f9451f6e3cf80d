"""Segments read where their image is counted: counts and messages of reading all at once."""

import copy
import json
import random
import shutil

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.evaluation.panoptic import files as panoptic_files
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.panoptic.listing import UnusualError, read_listing
from tests.evaluation.test_random_damage import damaged
from tests.evaluation.test_workers import bits, write_side

ROUNDS = 250


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listing")
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 4, (2, 3)).repeat(2, 0) for _ in range(3)]
    write_side(folder, "truth", truth, 0)
    write_side(folder, "prediction", [np.maximum(each, 1) for each in truth], 0)
    return folder


def outcome(folder, **options):
    try:
        return bits(
            evaluate_panoptic(
                folder / "truth.json", folder / "prediction.json",
                truth_folder=folder / "truth", prediction_folder=folder / "prediction", **options,
            )
        )  # fmt: skip
    except DataError as error:
        return str(error)


def refuse(*_):
    raise UnusualError


@pytest.fixture
def carefully(monkeypatch):
    """Evaluate with every entry looked at first."""

    def evaluate(folder):
        with monkeypatch.context() as patch:
            patch.setattr(panoptic_files, "read_listing", refuse)
            return outcome(folder)

    return evaluate


def test_right_files_are_read_once(files, carefully, monkeypatch):
    expected = carefully(files)
    assert isinstance(expected, dict)
    monkeypatch.setattr(panoptic_files, "read_json", refuse)
    assert outcome(files) == expected
    with pytest.raises(UnusualError):
        outcome(files, strict_compat=True)


def test_one_changed_value_has_the_outcome_of_a_careful_reading(files, tmp_path, carefully):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    refused = scored = 0
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        side = rng.choice(["truth", "prediction"])
        content = json.loads((files / f"{side}.json").read_text())
        changed = damaged(copy.deepcopy(content), rng)
        (tmp_path / f"{side}.json").write_text(json.dumps(changed))
        found = outcome(tmp_path)
        assert found == carefully(tmp_path), f"seed {seed}"
        refused, scored = refused + isinstance(found, str), scored + isinstance(found, dict)
        shutil.copy(files / f"{side}.json", tmp_path)
    assert refused > ROUNDS // 3
    assert scored > ROUNDS // 10


def test_one_changed_byte_has_the_outcome_of_a_careful_reading(files, tmp_path, carefully):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    original = (files / "prediction.json").read_bytes()
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        data = bytearray(original)
        data[rng.randrange(len(data))] = rng.choice(b'0-.eE"\\{}[],: \n\x00\x1f\x7f\xc3\xff')
        (tmp_path / "prediction.json").write_bytes(data)
        assert outcome(tmp_path) == carefully(tmp_path), f"seed {seed}"


ODDITIES = {
    "a number that is none": ('"image_id": 0', '"score": NaN, "image_id": 0', True),
    "a key given twice": ('"image_id": 0', '"image_id": 5, "image_id": 0', True),
    "half a character": ('"image_id": 0', '"note": "\\ud800", "image_id": 0', True),
    "a number of 25 digits": ('"image_id": 0', f'"note": 1{24 * "0"}, "image_id": 0', True),
    "an id of 25 digits": ('"image_id": 0', f'"image_id": 1{24 * "0"}', False),
    "an id with a point": ('"image_id": 0', '"image_id": 0.0', False),
    "a folder upwards": ('"file_name": "0.png"', '"file_name": "../truth/0.png"', False),
    "deep nesting": ('"image_id": 0', f'"x": {9999 * "["}{9999 * "]"}, "image_id": 0', False),
    "a byte order mark": ("{", "\ufeff{", False),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_oddities_of_json_are_read_alike(name, files, tmp_path, carefully):
    old, new, right = ODDITIES[name]
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    text = (files / "prediction.json").read_text()
    assert old in text
    (tmp_path / "prediction.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    found = outcome(tmp_path)
    assert found == carefully(tmp_path)
    assert isinstance(found, dict) == right


def test_bytes_that_are_no_text_are_seen_where_nothing_is_read(files, tmp_path, carefully):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    data = (files / "prediction.json").read_bytes()
    broken = data.replace(b'"image_id": 0', b'"x": "\xff", "image_id": 0', 1)
    (tmp_path / "prediction.json").write_bytes(broken)
    folders = (tmp_path / "truth", tmp_path / "prediction")
    with pytest.raises(UnusualError):
        read_listing((tmp_path / "truth.json", tmp_path / "prediction.json"), folders)
    assert "not valid JSON" in carefully(tmp_path) == outcome(tmp_path)


def test_a_prediction_of_no_image_and_a_missing_file_are_seen(files, tmp_path, carefully):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    content = json.loads((files / "prediction.json").read_text())
    content["annotations"].append({"image_id": 9, "file_name": "9.png", "segments_info": 3})
    (tmp_path / "prediction.json").write_text(json.dumps(content))
    assert "no list of objects" in carefully(tmp_path) == outcome(tmp_path)
    shutil.copy(files / "prediction.json", tmp_path)
    (tmp_path / "prediction" / "1.png").unlink()
    (tmp_path / "prediction" / "1.png").symlink_to("nowhere.png")
    assert "1 of 3 listed PNGs do not exist, first 1.png" in carefully(tmp_path)
    assert outcome(tmp_path) == carefully(tmp_path)
