"""``segbench submit``: a whole folder is taken over, any other one is refused with its reason."""

import json
import shutil

import pytest

from segbench.formats.manifest import read_manifest
from segbench.workflow.config import load_submission
from segbench.workflow.submissions import folder_state
from tests.commands import command as call

TEXT = "dataset: digit_scenes\ntasks: [semantic, instance, panoptic]\nfolder: {folder}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submit") / "digit_scenes"
    options = ("--option", "train=2", "--option", "val=3")
    assert call("prepare", "digit_scenes", *options, "--out", folder) == 0
    assert call("control", "shifted_labels", "--data", folder, "--out", folder.parent / "made") == 0
    return folder


@pytest.fixture
def case(data, tmp_path):
    """Return a submission file of a private copy of the predictions, and that copy."""
    mine = shutil.copytree(data.parent / "made", tmp_path / "mine")
    file = tmp_path / "my_net.yaml"
    file.write_text(TEXT.format(folder=mine))
    return file, mine


def test_a_whole_folder_is_taken_over(data, case, tmp_path):
    file, mine = case
    (mine / "semantic" / "of_another_split.png").write_bytes(b"")
    (mine / "notes.txt").write_text("not a prediction")
    assert call("submit", file, "--data", data, "--out", tmp_path / "out") == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["kind"] == "submission"
    assert (manifest["experiment"], manifest["split"]) == ("my_net", "val")
    original = read_manifest(data.parent / "made")
    assert manifest["files"] == original["files"]
    assert manifest["digest"] == original["digest"]


def _no_folder(mine):
    shutil.rmtree(mine)


def _no_image(mine):
    sorted((mine / "semantic").iterdir())[0].unlink()


def _no_instances(mine):
    (mine / "instances.json").unlink()


def _panoptic_of(change):
    def edit(mine):
        path = mine / "panoptic.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_folder, "does not exist"),
        (_no_image, "no prediction for 1 of 3 images"),
        (_no_instances, "expected instances.json for the instance task"),
        (
            _panoptic_of(lambda c: {**c, "annotations": c["annotations"][1:]}),
            "panoptic.json: no prediction for 1 of 3 images",
        ),
        (_panoptic_of(lambda c: c["annotations"]), "expected COCO panoptic results"),
    ],
)
@pytest.mark.fault(18)
def test_anything_less_is_refused(data, case, tmp_path, capfd, damage, words):
    file, mine = case
    damage(mine)
    assert call("submit", file, "--data", data, "--out", tmp_path / "out") == 1
    printed = capfd.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_wrong_name_is_a_configuration_mistake(data, case, tmp_path, capfd):
    file, _ = case
    file.write_text(file.read_text().replace("digit_scenes", "digit_scene"))
    assert call("submit", file, "--data", data, "--out", tmp_path / "out") == 2
    assert "Did you mean 'digit_scenes'?" in capfd.readouterr().err


def test_out_never_deletes_the_submission(data, case, tmp_path, capfd):
    file, mine = case
    assert call("submit", file, "--data", data, "--out", mine) == 2
    assert "is the input folder of the submission" in capfd.readouterr().err
    assert (mine / "instances.json").exists()


def test_state_follows_the_needed_files_only(case):
    file, mine = case
    submission = load_submission(file)
    before = folder_state(submission)
    (mine / "notes.txt").write_text("not a prediction")
    assert folder_state(submission) == before
    with (mine / "instances.json").open("a") as stream:
        stream.write("\n")
    assert folder_state(submission) != before
