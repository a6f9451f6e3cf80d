"""Preparing can be killed, repeated, changed and aimed at the wrong folder."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.core.errors import ConfigError, DataError
from segbench.datasets import prepare_dataset
from segbench.formats.prepared import PreparedDataset
from tests.datasets.miniatures import camvid
from tests.datasets.miniatures.scenes import save

OPTIONS = {"train": 30, "val": 5}
CODE = """
import sys
from pathlib import Path
from segbench.datasets import digit_scenes, prepare_dataset
import time
compose = digit_scenes.compose_scene
def slow(*args, **keywords):
    time.sleep(0.02)
    return compose(*args, **keywords)
digit_scenes.compose_scene = slow
prepare_dataset("digit_scenes", Path(sys.argv[1]), options={"train": 30, "val": 5})
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return prepare_dataset("digit_scenes", tmp_path_factory.mktemp("unbroken"), options=OPTIONS)


def snapshot(root):
    """Return every file of the prepared form; the journal lists images as they came."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".prepare.jsonl"]
    return {p.relative_to(root): p.read_bytes() for p in files}


@pytest.mark.parametrize("images", [1, 20])
@pytest.mark.fault(13)
def test_a_killed_prepare_goes_on_to_the_same_bytes(tmp_path, unbroken, images):
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", CODE, str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("images/train/train_*.png"))) < images:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(DataError, match="is not a prepared dataset"):
        PreparedDataset.open(out)
    done = (out / ".prepare.jsonl").read_text().count('"row"')
    kept = sorted(out.glob("images/train/train_*.png"))[:done]
    before = {path: path.stat().st_mtime_ns for path in kept}

    resumed = prepare_dataset("digit_scenes", out, options=OPTIONS)

    assert snapshot(resumed.root) == snapshot(unbroken.root)
    assert {path: path.stat().st_mtime_ns for path in kept} == before


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
from segbench.cli import main
sys.argv = ["segbench", "prepare", "digit_scenes", "--option", "train=30", "--option", "val=5",
            "--out", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("limit", [100, 12_000, 45_000])
@pytest.mark.fault(21)
def test_a_full_disk_is_named_and_the_next_run_finishes(tmp_path, unbroken, limit):
    """No file may be longer than the limit: an image, the journal or a document is too long."""
    out = tmp_path / "full"
    command = [sys.executable, "-c", LIMITED, str(out), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert f"error: cannot write {out}" in done.stderr and "free disk space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "dataset.json").exists() and not list(out.rglob("*.tmp"))
    assert snapshot(prepare_dataset("digit_scenes", out, options=OPTIONS).root) == snapshot(
        unbroken.root
    )


@pytest.mark.fault(22)
def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file"):
        prepare_dataset("digit_scenes", tmp_path / "file" / "out", options=OPTIONS)


@settings(max_examples=8, deadline=None)
@given(cut=st.floats(0, 1), lost=st.integers(0, 34))
@pytest.mark.fault(13)
def test_a_torn_journal_and_a_lost_file_are_repaired(tmp_path_factory, unbroken, cut, lost):
    """The journal of a full run, cut at any byte, with one image gone."""
    out = tmp_path_factory.mktemp("torn")
    journal = journal_of_a_stopped_run(out)
    (out / ".prepare.jsonl").write_bytes(journal[: round(cut * len(journal))] or journal[:1])
    images = sorted(out.glob("images/*/*.png"))
    images[lost % len(images)].unlink()
    resumed = prepare_dataset("digit_scenes", out, options=OPTIONS)
    assert snapshot(resumed.root) == snapshot(unbroken.root)


def journal_of_a_stopped_run(out):
    """Prepare everything except the documents, as if killed just before them."""
    from segbench.datasets.prepare import writer

    def stop(*args, **keywords):
        raise KeyboardInterrupt

    original, writer.write_documents = writer.write_documents, stop
    try:
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset("digit_scenes", out, options=OPTIONS)
    finally:
        writer.write_documents = original
    assert not (out / "dataset.json").exists()
    return (out / ".prepare.jsonl").read_bytes()


def test_a_workflow_may_take_dataset_json_away(tmp_path, unbroken):
    """Images that are whole are kept, one that was changed meanwhile is written anew."""
    out = tmp_path / "out"
    prepare_dataset("digit_scenes", out, options=OPTIONS)
    (out / "dataset.json").unlink()
    kept, changed = sorted(out.glob("images/train/*.png"))[:2]
    before = kept.stat().st_mtime_ns
    changed.write_bytes(kept.read_bytes())
    prepare_dataset("digit_scenes", out, options=OPTIONS)
    assert snapshot(out) == snapshot(unbroken.root)
    assert kept.stat().st_mtime_ns == before


def test_other_options_leave_nothing_of_the_old_form(tmp_path):
    out = tmp_path / "out"
    prepare_dataset("digit_scenes", out, options={"train": 3, "val": 1, "test": 1})
    changed = prepare_dataset("digit_scenes", out, options={"train": 2, "val": 1, "seed": 9})
    fresh = prepare_dataset(
        "digit_scenes", tmp_path / "fresh", options={"train": 2, "val": 1, "seed": 9}
    )
    assert snapshot(changed.root) == snapshot(fresh.root)


@pytest.mark.fault(26)
def test_a_changed_raw_file_prepares_again_and_a_touched_one_does_not(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    camvid.build_raw(raw)
    first = prepare_dataset("camvid", out, raw=raw).digest
    written = (out / "dataset.json").stat().st_mtime_ns
    label_map = next((raw / "trainannot").iterdir())
    os.utime(label_map, (1, 1))
    prepare_dataset("camvid", out, raw=raw)
    assert (out / "dataset.json").stat().st_mtime_ns == written
    save(label_map, np.zeros((30, 40)))
    assert prepare_dataset("camvid", out, raw=raw).digest != first


def test_after_a_repair_the_good_images_are_not_read_again(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    camvid.build_raw(raw)
    broken = raw / "valannot" / "0001TP_val_001.png"
    content = broken.read_bytes()
    broken.write_bytes(b"nothing")
    with pytest.raises(DataError, match="1 of 7 images cannot be used"):
        prepare_dataset("camvid", out, raw=raw)
    assert not (out / "dataset.json").exists()
    broken.write_bytes(content)
    repaired = prepare_dataset("camvid", out, raw=raw)
    fresh = prepare_dataset("camvid", tmp_path / "fresh", raw=raw)
    assert snapshot(repaired.root) == snapshot(fresh.root)


def test_foreign_folders_are_not_cleared(tmp_path):
    raw = tmp_path / "raw"
    camvid.build_raw(raw)
    photo = save(tmp_path / "mine" / "images" / "photo.png", np.zeros((4, 4, 3)))
    with pytest.raises(ConfigError, match=r"already has images/photo\.png from somewhere else"):
        prepare_dataset("camvid", tmp_path / "mine", raw=raw)
    assert photo.exists()
    for out, words in ((raw, "is the input --raw"), (raw / "prepared", "lies inside the input")):
        with pytest.raises(ConfigError, match=words):
            prepare_dataset("camvid", out, raw=raw)
    prepare_dataset("camvid", tmp_path / "camvid", raw=raw)
    with pytest.raises(ConfigError, match="holds the dataset 'camvid', not 'digit_scenes'"):
        prepare_dataset("digit_scenes", tmp_path / "camvid", options=OPTIONS)
    assert PreparedDataset.open(tmp_path / "camvid").name == "camvid"
