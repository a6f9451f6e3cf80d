"""Images counted by several processes: the same bits, the same messages, no hang."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from segbench.core import pool
from segbench.core.errors import DataError
from segbench.core.files import read_json, write_json
from segbench.evaluation.counting.images import count_in_parts
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic.folders import count_folder
from segbench.evaluation.semantic.scores import scores as semantic_scores
from segbench.formats.label_maps import write_label_map, write_panoptic_ids

IMAGES = 70
CATEGORIES = [{"id": k, "name": f"class {k}", "isthing": k % 2} for k in (3, 8, 11)]


def write_side(folder, side, maps, areas):
    annotations = []
    for i, ids in enumerate(maps):
        write_panoptic_ids(folder / side / f"{i}.png", ids)
        found, pixels = np.unique(ids[ids > 0], return_counts=True)
        segments = [
            {"id": n, "category_id": (3, 8, 11)[n % 3], "iscrowd": 0, "area": area + areas}
            for n, area in zip(found.tolist(), pixels.tolist(), strict=True)
        ]
        file = {"image_id": i, "file_name": f"{i}.png", "segments_info": segments}
        annotations.append(file)
    write_json(folder / f"{side}.json", {"annotations": annotations, "categories": CATEGORIES})


@pytest.fixture(scope="module")
def panoptic_files(tmp_path_factory):
    """Truth and prediction of small images; every area of the truth's JSON is one too large."""
    folder = tmp_path_factory.mktemp("panoptic")
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 6, (3, 4)).repeat(3, 0).repeat(3, 1) for _ in range(IMAGES)]
    guess = [np.where(rng.random(t.shape) < 0.2, rng.integers(0, 6, t.shape), t) for t in truth]
    write_side(folder, "truth", truth, 1)
    write_side(folder, "prediction", guess, 0)
    return folder


def count_panoptic(folder, workers, warnings=None):
    return evaluate_panoptic(
        folder / "truth.json", folder / "prediction.json",
        truth_folder=folder / "truth", prediction_folder=folder / "prediction",
        workers=workers, warnings=warnings,
    )  # fmt: skip


def bits(counts):
    return {key: np.asarray(value).tobytes() for key, value in counts.to_arrays().items()}


def test_panoptic_counts_are_the_same_for_any_number_of_workers(panoptic_files):
    warnings = {workers: [] for workers in (1, 2, 3)}
    counts = {n: count_panoptic(panoptic_files, n, found) for n, found in warnings.items()}
    assert len(counts[1].matches) > IMAGES
    assert bits(counts[1]) == bits(counts[2]) == bits(counts[3])
    assert warnings[1] == warnings[2] == warnings[3]
    assert "another area than their PNG" in warnings[1][0]
    protocol = get_protocol("coco-panoptic")
    assert panoptic.scores(counts[1], protocol) == panoptic.scores(counts[3], protocol)


def test_panoptic_counts_do_not_depend_on_the_order_of_predictions(panoptic_files, tmp_path):
    content = read_json(panoptic_files / "prediction.json")
    np.random.default_rng(1).shuffle(content["annotations"])
    write_json(tmp_path / "prediction.json", content)
    shuffled = evaluate_panoptic(
        panoptic_files / "truth.json", tmp_path / "prediction.json",
        truth_folder=panoptic_files / "truth", prediction_folder=panoptic_files / "prediction",
        workers=2,
    )  # fmt: skip
    assert bits(shuffled) == bits(count_panoptic(panoptic_files, 1))


def test_new_processes_count_as_copies_of_this_one_do(panoptic_files, monkeypatch):
    monkeypatch.setattr(pool, "_may_fork", lambda: False)
    assert bits(count_panoptic(panoptic_files, 2)) == bits(count_panoptic(panoptic_files, 1))


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(2)
    for i in range(IMAGES):
        for side in ("truth", "prediction"):
            write_label_map(folder / side / f"{i}.png", rng.integers(0, 5, (6, 7)))
    return folder


def count_labels(folder, workers):
    protocol = get_protocol("semantic-pooled")
    sides = (folder / "truth", folder / "prediction")
    return count_folder(*sides, protocol=protocol, num_classes=5, workers=workers).counts


def test_label_counts_are_the_same_for_any_number_of_workers(label_maps):
    alone = count_labels(label_maps, 1)
    assert bits(alone) == bits(count_labels(label_maps, 2)) == bits(count_labels(label_maps, 3))
    protocol = get_protocol("semantic-pooled")
    assert semantic_scores(alone, protocol) == semantic_scores(
        count_labels(label_maps, 2), protocol
    )


def test_faults_are_told_alike(label_maps, tmp_path):
    for side in ("truth", "prediction"):
        (tmp_path / side).mkdir()
        for path in (label_maps / side).iterdir():
            (tmp_path / side / path.name).write_bytes(path.read_bytes())
    write_label_map(tmp_path / "truth" / "69.png", np.full((6, 7), 9))
    for name in ("2.png", "5.png", "41.png", "66.png"):
        write_label_map(tmp_path / "prediction" / name, np.zeros((3, 3)))
    messages = []
    for workers in (1, 3):
        with pytest.raises(DataError) as caught:
            count_labels(tmp_path, workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "4 predictions have another size" in messages[0]
    assert "first 2.png 3x3 for 6x7, 41.png" in messages[0]


def lose_a_process(part):
    if 30 in part:
        os.kill(os.getpid(), signal.SIGKILL)
    return part


@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.fault(20)
def test_a_killed_worker_is_one_clear_error(monkeypatch, fork):
    monkeypatch.setattr(pool, "_may_fork", lambda: fork)
    with pytest.raises(DataError, match=r"worker process ended.*\n.*fewer --workers"):
        list(count_in_parts(lose_a_process, 100, label="x", workers=2))


def refuse(part):
    raise DataError(f"image {part[0]}", fix="none")


def test_the_first_error_in_order_wins_and_keeps_its_advice():
    with pytest.raises(DataError, match=r"^image 0\n  -> none$"):
        list(count_in_parts(refuse, 100, label="x", workers=2))


def wait_and_name(part):
    time.sleep(0.02 if part[0] % 2 else 0)
    return list(part), os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_come_in_order_and_few_images_start_no_process(workers):
    done = list(count_in_parts(wait_and_name, 100, label="x", workers=workers))
    assert [i for part, _ in done for i in part] == list(range(100))
    here = {pid for _, pid in done} == {os.getpid()}
    assert here == (workers == 1)
    few = list(count_in_parts(wait_and_name, pool.SMALLEST - 1, label="x", workers=2))
    assert {pid for _, pid in few} == {os.getpid()}


def test_progress_counts_images_not_parts(capsys):
    list(count_in_parts(partial(len), 100, label="count", workers=1))
    assert "count: 100/100 done" in capsys.readouterr().err


def test_the_command_line_writes_the_same_files(panoptic_files, tmp_path):
    for workers in ("1", "2"):
        command = [sys.executable, "-m", "segbench", "score", "--task", "panoptic"]
        command += ["--gt", panoptic_files / "truth.json", "--pred"]
        command += [panoptic_files / "prediction.json", "--out", tmp_path / workers]
        done = subprocess.run(
            [*command, "--workers", workers], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for name in ("scores.json", "counts.npz"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
