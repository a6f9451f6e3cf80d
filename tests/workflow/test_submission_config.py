"""Submissions in a configuration: what is right makes cells, what is wrong is named."""

from pathlib import Path

import pytest

from segbench.core.errors import ConfigError
from segbench.workflow.plan import load_plan

SUBMISSION = """\
dataset: digit_scenes
tasks: [semantic, panoptic]
folder: mine
display_name: My net
paper: Me, 2026
reported: {miou: 77.3}
"""


def plan_of(folder: Path, submission: str, *, name: str = "my_net", run: str = "digit_scenes"):
    (folder / f"{name}.yaml").write_text(submission)
    config = folder / "config.yaml"
    config.write_text(
        f"submissions_folder: {folder}\n"
        f"runs:\n  - dataset: {run}\n    controls: [oracle]\n    submissions: [{name}]\n"
    )
    return load_plan(config)


def test_a_submission_is_a_cell(tmp_path):
    control, cell = plan_of(tmp_path, SUBMISSION).cells
    assert (control.kind, cell.kind) == ("control", "submission")
    assert not cell.is_control
    assert not cell.is_trained
    assert cell.key == ("digit_scenes", "my_net", 0)
    assert cell.tasks == ("semantic", "panoptic")
    assert (cell.split, cell.display_name) == ("val", "My net")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dataset: digit_scenes", "dataset: digit_scene", "Did you mean 'digit_scenes'?"),
        ("tasks: [semantic", "split: vla\ntasks: [semantic", "Did you mean 'val'?"),
        ("semantic, ", "semantics, ", "my_net.yaml:2: tasks.0"),
        ("[semantic, panoptic]", "[]", "my_net.yaml:2: tasks"),
        ("semantic, ", "panoptic, ", "a task is listed twice"),
        ("folder: mine", "folders: mine", "Did you mean 'folder'?"),
        ("miou: 77.3", "miuo: 77.3", "Did you mean 'miou'?"),
        ("miou: 77.3", "miou: 773", "reported.miou"),
        ("folder: mine", "folder: mine\nprotocol: voc2012", "give one task"),
        ("[semantic, panoptic]", "[semantic]\nprotocol: voc2021", "Did you mean 'voc2012'?"),
        ("[semantic, panoptic]", "[panoptic]\nprotocol: voc2012", "not panoptic"),
    ],
)
@pytest.mark.fault(24)
def test_submission_mistakes_name_file_and_key(tmp_path, old, new, words):
    assert old in SUBMISSION
    with pytest.raises(ConfigError) as error:
        plan_of(tmp_path, SUBMISSION.replace(old, new))
    assert words in str(error.value)
    assert "my_net.yaml" in str(error.value)
    assert error.value.exit_code == 2


def test_a_task_the_dataset_lacks(tmp_path):
    text = "dataset: camvid\ntasks: [panoptic]\nfolder: mine\n"
    with pytest.raises(ConfigError, match="tasks: expected one of semantic, found 'panoptic'"):
        plan_of(tmp_path, text, run="camvid")


def test_another_dataset_than_the_runs(tmp_path):
    text = "dataset: camvid\ntasks: [semantic]\nfolder: mine\n"
    with pytest.raises(ConfigError, match="expected 'digit_scenes', found 'camvid'"):
        plan_of(tmp_path, text)


@pytest.mark.parametrize("name", ["oracle", "fcn_tiny"])
@pytest.mark.fault(24)
def test_a_name_that_is_taken(tmp_path, monkeypatch, name):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(ConfigError, match=f"'{name}' is also a control or an experiment"):
        plan_of(tmp_path, SUBMISSION, name=name)


def test_an_unknown_submission(tmp_path):
    (tmp_path / "my_net.yaml").write_text(SUBMISSION)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"submissions_folder: {tmp_path}\n"
        "runs: [{dataset: digit_scenes, submissions: [my_ent]}]\n"
    )
    with pytest.raises(ConfigError, match="Did you mean 'my_net'"):
        load_plan(config)
