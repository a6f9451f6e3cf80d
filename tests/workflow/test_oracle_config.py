"""Oracles in a run configuration: the rows they add and the mistakes they name."""

from pathlib import Path

import pytest

from segbench.core.errors import ConfigError
from segbench.report.rows import slug
from segbench.workflow.plan import load_plan

ROOT = Path(__file__).parents[2]
CONFIG = """\
experiments_folder: {experiments}
runs:
  - dataset: digit_scenes
    controls: [oracle]
    experiments: [fcn_tiny, panoptic_fpn_tiny]
    oracles:
      panoptic_fpn_tiny: [semantic, masks+boxes]
    seeds: [0, 1]
"""


def plan(folder: Path, old: str = "", new: str = ""):
    path = folder / "config.yaml"
    text = CONFIG.format(experiments=ROOT / "workflow/experiments")
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text)
    return load_plan(path)


def test_each_oracle_is_a_row_of_every_seed(tmp_path):
    made = plan(tmp_path)
    cells = [cell for cell in made.cells if cell.oracles]
    assert [(cell.experiment, cell.seed) for cell in cells] == [
        ("panoptic_fpn_tiny@oracle-semantic", 0), ("panoptic_fpn_tiny@oracle-semantic", 1),
        ("panoptic_fpn_tiny@oracle-boxes-masks", 0), ("panoptic_fpn_tiny@oracle-boxes-masks", 1),
    ]  # fmt: skip
    assert {cell.kind for cell in cells} == {"oracle"}
    assert not any(cell.is_trained or cell.is_control for cell in cells)
    last = cells[-1]
    assert last.oracles == ("boxes", "masks")
    assert last.display_name == "Panoptic FPN (tiny), oracle:boxes+masks"
    assert last.tasks == ("panoptic", "instance", "semantic")
    assert last.trained_folder == Path("digit_scenes/panoptic_fpn_tiny/seed1")
    assert last.folder == Path("digit_scenes/panoptic_fpn_tiny@oracle-boxes-masks/seed1")
    assert not {cell.experiment for cell in made.trained} & {cell.experiment for cell in cells}
    network = made.by_key["digit_scenes", "panoptic_fpn_tiny", 1]
    assert made.predict_fingerprint(last) == made.predict_fingerprint(network)
    assert network.trained_folder == network.folder


def test_names_are_file_names(tmp_path):
    for cell in plan(tmp_path).cells:
        assert not set(cell.experiment) & set("/\\ <>:\"|?*#%&'+$")
        assert not set(slug(cell.experiment)) & set("@+")


def test_a_renamed_experiment_keeps_its_name(tmp_path):
    (tmp_path / "digit_scenes").mkdir()
    recipe = (ROOT / "workflow/experiments/digit_scenes/panoptic_fpn_tiny.yaml").read_text()
    (tmp_path / "digit_scenes/mine.yaml").write_text(recipe)
    (tmp_path / "config.yaml").write_text(
        f"experiments_folder: {tmp_path}\n"
        "runs: [{dataset: digit_scenes, experiments: [mine], oracles: {mine: [boxes]}}]\n"
    )
    names = [cell.display_name for cell in load_plan(tmp_path / "config.yaml").cells]
    assert names == ["Panoptic FPN (tiny) [mine]", "Panoptic FPN (tiny) [mine], oracle:boxes"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[semantic,", "[semantics,", ["runs.0.oracles.panoptic_fpn_tiny.0", "'semantics'",
                                       "Did you mean 'semantic'?", "joined by +"]),
        ("masks+boxes", "masks+box", ["tiny.1", "Did you mean 'boxes'?", "config.yaml:7"]),
        ("masks+boxes", "masks+masks", ["named twice"]),
        ("masks+boxes", "[masks, boxes]", ["expected semantic, boxes, masks"]),
        ("masks+boxes", "semantic", ["panoptic_fpn_tiny@oracle-semantic/0 is listed twice"]),
        ("      panoptic_fpn_tiny:", "      panoptic_fpn:",
         ["oracles: 'panoptic_fpn' is no experiment of this run",
          "Did you mean 'panoptic_fpn_tiny'?"]),
        ("      panoptic_fpn_tiny:", "      fcn_tiny:",
         ["'fcn_tiny' is a semantic experiment", "remove 'fcn_tiny' from oracles"]),
        ("    oracles:", "    oracle:", ["Did you mean 'oracles'?"]),
        ("      panoptic_fpn_tiny: [semantic, masks+boxes]", "      - semantic",
         ["runs.0.oracles"]),
    ],
)  # fmt: skip
@pytest.mark.fault(24)
def test_mistakes(tmp_path, old, new, words):
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, old, new)
    for word in ("config.yaml", *words):
        assert word in str(caught.value)


def test_an_experiment_cannot_be_named_like_an_oracle(tmp_path):
    with pytest.raises(ConfigError, match="experiments"):
        plan(tmp_path, "[fcn_tiny,", "['fcn_tiny@oracle-boxes',")
