"""`segbench check-data`: every fault of files and truths gets its name, all at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.cli import cli
from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json, read_jsonl, write_json
from segbench.datasets import prepare_dataset
from segbench.formats.label_maps import write_panoptic_ids
from segbench.formats.prepared import PreparedDataset
from tests.datasets.miniatures import build_raw, camvid
from tests.datasets.miniatures.scenes import save


def check(*arguments):
    """Return the exit code of the command and what it prints as JSON."""
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, ["check-data", *map(str, arguments), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def kinds(report, level="error"):
    return [finding["kind"] for finding in report["findings"] if finding["level"] == level]


@pytest.fixture
def raw(tmp_path):
    camvid.build_raw(tmp_path / "raw")
    return tmp_path / "raw"


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def deep(path):
    save(path, np.asarray(Image.open(path)).astype(np.uint16) * 257)


def coloured(path):
    save(path, np.zeros((30, 40, 3)))


def outside(path):
    labels = np.asarray(Image.open(path)).copy()
    labels[3, 4] = 12
    save(path, labels)


def palette_of_others(path):
    picture = Image.new("P", (40, 30), 200)
    picture.putpalette([7] * 768)
    picture.save(path)


def smaller(path):
    save(path, np.zeros((10, 10)))


LABELS, IMAGE = "trainannot/0001TP_train_001.png", "train/0001TP_train_001.png"
RAW_FAULTS = [
    (IMAGE, cut, "truncated-file", "truncated after"),
    (LABELS, cut, "truncated-file", "truncated after"),
    (IMAGE, empty, "empty-file", "0 bytes"),
    (LABELS, empty, "empty-file", "0 bytes"),
    (IMAGE, flip, "broken-checksum", "checksum (CRC) of chunk IDAT"),
    (LABELS, flip, "broken-checksum", "checksum (CRC) of chunk IDAT"),
    (IMAGE, Path.unlink, "unpaired-file", "does not exist, but 0001TP_train_001.png does"),
    (LABELS, Path.unlink, "unpaired-file", "does not exist, but 0001TP_train_001.png does"),
    (LABELS, smaller, "size-mismatch", "is 10x10, the image 0001TP_train_001.png is 40x30"),
    (LABELS, deep, "label-outside", "16-bit grey"),
    (LABELS, coloured, "wrong-encoding", "expected a one-channel PNG of class ids, found mode RGB"),
    (LABELS, outside, "label-outside", "[12]"),
    (LABELS, palette_of_others, "label-outside", "8-bit palette"),
]


@pytest.mark.parametrize(("name", "spoil", "kind", "text"), RAW_FAULTS)
@pytest.mark.fault(14, 15)
def test_each_fault_of_a_raw_folder_has_its_name(raw, name, spoil, kind, text):
    spoil(raw / name)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    code, report = check("camvid", "--raw", raw)
    assert code == 1 and report["errors"] == 1
    (finding,) = [f for f in report["findings"] if f["level"] == "error"]
    assert finding["kind"] == kind
    assert text in finding["what"]
    assert "0001TP_train_001" in finding["where"]
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


@pytest.mark.fault(14, 15)
def test_all_faults_of_a_raw_folder_are_listed_at_once(raw):
    flip(raw / "train" / "0001TP_train_000.png")
    cut(raw / "trainannot" / "0001TP_train_000.png")
    empty(raw / "trainannot" / "0001TP_train_001.png")
    outside(raw / "valannot" / "0001TP_val_000.png")
    coloured(raw / "testannot" / "0001TP_test_000.png")
    shutil.copy(raw / "train" / "0001TP_train_002.png", raw / "test" / "0001TP_test_001.png")
    code, report = check("camvid", "--raw", raw)
    assert code == 1
    assert sorted(kinds(report)) == sorted(
        ["broken-checksum", "truncated-file", "empty-file", "label-outside", "wrong-encoding",
         "split-overlap"]
    )  # fmt: skip


def test_a_clean_raw_folder_passes_and_partial_splits_are_a_warning(raw):
    code, report = check("camvid", "--raw", raw)
    assert code == 0 and report["errors"] == 0
    assert kinds(report, "warning") == ["partial-split"] * 3
    assert report["images"] == {"train": 3, "val": 2, "test": 2}


def test_many_images_are_checked_in_processes_with_the_same_result(raw):
    for number in range(80):
        for folder in ("train", "trainannot"):
            source = raw / folder / "0001TP_train_000.png"
            shutil.copy(source, raw / folder / f"more_{number:03d}.png")
    empty(raw / "train" / "more_050.png")
    one = check("camvid", "--raw", raw, "--workers", 1)
    assert one[0] == 1 and kinds(one[1]) == ["empty-file"]
    assert check("camvid", "--raw", raw, "--workers", 2) == one


def test_labels_read_in_a_wrong_encoding_show_in_the_histogram(raw, tmp_path):
    for path in (raw / "trainannot").iterdir():
        save(path, np.where(np.asarray(Image.open(path)) > 5, 11, 0))
    for path in (raw / "valannot").iterdir():
        save(path, np.full((30, 40), 11))
    code, report = check("camvid", "--raw", raw)
    assert code == 1 and kinds(report) == ["one-class"]
    warnings = kinds(report, "warning")
    assert {"void-share", "void-image", "absent-class"} <= set(warnings)
    with pytest.raises(DataError, match=r"one-class\] train: every labelled pixel.*'Sky'"):
        prepare_dataset("camvid", tmp_path / "out", raw=raw)
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.fault(15)
def test_the_same_image_in_two_splits_is_refused_by_prepare_too(raw, tmp_path):
    shutil.copy(raw / "train" / "0001TP_train_002.png", raw / "test" / "0001TP_test_001.png")
    with pytest.raises(DataError, match=r"split-overlap\] train, test: 1 images are in both"):
        prepare_dataset("camvid", tmp_path / "out", raw=raw)


@pytest.fixture
def prepared(tmp_path):
    raw = build_raw("pennfudan", tmp_path)
    return prepare_dataset("pennfudan", tmp_path / "prepared", raw=raw)


def first_row(dataset):
    return read_jsonl(dataset.root / "train.jsonl")[0]


def spoil_segments(dataset):
    path = dataset.panoptic_file("train")
    document = read_json(path)
    document["annotations"][0]["segments_info"][0]["area"] += 3
    write_json(path, document)


def lose_segment(dataset):
    path = dataset.panoptic_file("train")
    document = read_json(path)
    document["annotations"][0]["segments_info"].pop()
    write_json(path, document)


def other_size(dataset):
    path = dataset.instances_file("train")
    document = read_json(path)
    document["annotations"][0]["segmentation"]["size"] = [41, 50]
    write_json(path, document)


def no_thing(dataset):
    path = dataset.instances_file("train")
    document = read_json(path)
    document["annotations"][0]["category_id"] = 2
    write_json(path, document)


def same_ids(dataset):
    path = dataset.instances_file("train")
    document = read_json(path)
    for annotation in document["annotations"]:
        annotation["id"] = 1
    write_json(path, document)


def unknown_image(dataset):
    path = dataset.panoptic_file("train")
    document = read_json(path)
    document["annotations"][0]["image_id"] = 999
    write_json(path, document)


def shorter_list(dataset):
    path = dataset.root / "val.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def other_ids(dataset):
    row = first_row(dataset)
    ids = np.ones((row["height"], row["width"]), dtype=np.int32)
    write_panoptic_ids(dataset.root / row["panoptic"], ids)


def on(key, spoil):
    return lambda dataset: spoil(dataset.root / first_row(dataset)[key])


PREPARED_FAULTS = [
    (on("image", cut), ["truncated-file"]),
    (on("image", empty), ["empty-file"]),
    (on("semantic", flip), ["broken-checksum"]),
    (on("semantic", Path.unlink), ["unpaired-file"]),
    (on("semantic", smaller), ["changed-file", "size-mismatch"]),
    (on("semantic", outside), ["changed-file"]),
    (other_ids, ["changed-file"]),
    (spoil_segments, ["panoptic-mismatch"]),
    (lose_segment, ["panoptic-mismatch"]),
    (unknown_image, ["panoptic-mismatch", "panoptic-mismatch"]),
    (other_size, ["instance-mismatch"]),
    (no_thing, ["instance-mismatch"]),
    (same_ids, ["instance-mismatch"]),
    (shorter_list, ["changed-file", "instance-mismatch", "panoptic-mismatch"]),
]


@pytest.mark.parametrize(("spoil", "expected"), PREPARED_FAULTS)
@pytest.mark.fault(14, 15)
def test_each_fault_of_a_prepared_folder_has_its_name(prepared, spoil, expected):
    spoil(prepared)
    code, report = check(prepared.root)
    assert code == 1
    assert kinds(report) == expected


def redo_digest(dataset, key):
    """Make a changed file pass for what was written: only its content can tell."""
    path = dataset.root / "train.jsonl"
    rows = read_jsonl(path)
    import hashlib

    data = (dataset.root / rows[0][key]).read_bytes()
    rows[0]["sha256"][key] = hashlib.sha256(data).hexdigest()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("spoil", "key", "kind"),
    [
        (on("semantic", outside), "semantic", "label-outside"),
        (on("semantic", smaller), "semantic", "size-mismatch"),
        (on("semantic", lambda p: save(p, np.zeros((40, 50, 3)))), "semantic", "wrong-encoding"),
        (on("semantic", lambda p: save(p, np.zeros((40, 50)))), "semantic", "panoptic-mismatch"),
        (other_ids, "panoptic", "panoptic-mismatch"),
    ],
)
def test_content_is_compared_even_where_digests_agree(prepared, spoil, key, kind):
    spoil(prepared)
    redo_digest(prepared, key)
    code, report = check(prepared.root)
    assert code == 1 and kind in kinds(report)


def test_files_that_no_list_names_are_a_warning(prepared):
    save(prepared.root / "images" / "train" / "stranger.png", np.zeros((4, 4, 3)))
    code, report = check(prepared.root)
    assert code == 0
    assert [f["where"] for f in report["findings"]] == ["images/train/stranger.png"]


def test_the_table_of_a_person_ends_with_the_counts(prepared, capsys):
    on("image", empty)(prepared)
    assert cli.main(["check-data", str(prepared.root)], standalone_mode=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error [empty-file] images/train/FudanPed")
    assert lines[-1].endswith("1 errors, 0 warnings")


@pytest.mark.fault(14)
def test_training_refuses_files_that_changed_and_data_that_was_not_checked(prepared):
    prepared.refuse_unchecked("train")
    row = first_row(prepared)
    with (prepared.root / row["image"]).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(
        Exception, match="1 files of split 'train' are missing or changed"
    ) as caught:
        prepared.refuse_unchecked("train")
    assert row["image"] in str(caught.value)
    prepared.refuse_unchecked("val")
    description = read_json(prepared.description_file)
    del description["checked"]
    write_json(prepared.description_file, description)
    with pytest.raises(DataError, match="without being checked"):
        PreparedDataset.open(prepared.root).refuse_unchecked("val")


@pytest.mark.fault(14)
def test_bad_images_are_left_out_only_when_asked_and_then_named(raw, tmp_path, capsys):
    flip(raw / "trainannot" / "0001TP_train_001.png")
    with pytest.raises(DataError, match="1 of 7 images cannot be used"):
        prepare_dataset("camvid", tmp_path / "out", raw=raw)
    kept = prepare_dataset("camvid", tmp_path / "out", raw=raw, bad_images="skip")
    assert kept.description["splits"] == {"train": 2, "val": 2, "test": 2}
    (skipped,) = kept.description["skipped"]
    assert (skipped["split"], skipped["stem"]) == ("train", "0001TP_train_001")
    assert "CRC" in skipped["what"]
    assert "1 bad images are left out" in capsys.readouterr().err
    assert [r.image_id for r in kept.images("train")] == [1, 3]
    assert check(kept.root)[0] == 0
    with pytest.raises(DataError, match="1 of 7 images cannot be used"):
        prepare_dataset("camvid", tmp_path / "out", raw=raw)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_what_is_no_dataset_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown dataset 'camvdi'. Did you mean 'camvid'"):
        cli.main(["check-data", "camvdi"], standalone_mode=False)
    with pytest.raises(DataError, match="is not a prepared dataset"):
        cli.main(["check-data", str(tmp_path)], standalone_mode=False)
