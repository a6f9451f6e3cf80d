"""A mistake that needs no data to be seen stops the plan, with file and line, exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from segbench.core.errors import ConfigError
from segbench.models.options import builder_options
from segbench.models.registry import model_infos
from segbench.training.recipe import Recipe, load_recipe
from segbench.workflow.plan import load_plan

CHECKOUT = Path(__file__).parents[2]
RECIPE = """\
model: fcn_tiny
dataset: digit_scenes
task: semantic
iterations: 100
warmup_iterations: 10
batch_size: 8
base_lr: 0.003
"""
CONFIG = """\
experiments_folder: EXPERIMENTS
datasets:
  digit_scenes:
    options: {train: 8, val: 4}
runs:
  - dataset: digit_scenes
    experiments: [one]
"""
WEIGHTS = ", ".join(["1.0"] * 14)

NONSENSE = [
    # numbers that are none
    *[
        (f"{key}: {value}", key, "finite number")
        for key in ("weight_decay", "poly_power", "elastic", "crf_spatial_std", "clip_grad_norm")
        for value in (".inf", ".nan", "1e999")
    ],
    *[
        (f"{key}: {value}", key, "finite number")
        for key, value in [
            ("mean", "[.nan, 0, 0]"), ("std", "[.inf, 1, 1]"), ("scale_range", "[1, .inf]"),
            ("class_weights", f"[{WEIGHTS.replace('1.0', '.inf', 1)}]"), ("multi_scale", "[.nan]"),
            ("aux_weights", "[.inf]"), ("loss_gamma", ".inf"), ("border_weight", ".nan"),
        ]
    ],
    # lengths of zero and below
    *[
        (f"{key}: {value}", key, "greater than 0")
        for key, value in [
            ("crop_size", "[0, 64]"), ("crop_size", "[64, -1]"), ("resize_short", "[0]"),
            ("resize_long_max", "0"), ("predict_short", "-5"), ("predict_long_max", "0"),
            ("window", "[0, 64]"), ("window_stride", "[0, 1]"), ("profile_size", "[0, 0]"),
            ("std", "[0, 1, 1]"), ("std", "[1, -1, 1]"), ("scale_range", "[0, 1]"),
            ("scale_range", "[-1, 1]"), ("multi_scale", "[0.5, 0]"), ("step_at", "[0]"),
            ("step_interval", "0"), ("checkpoint_interval", "0"), ("poly_power", "0"),
            ("crf_bilateral_rgb_std", "0"), ("clip_grad_norm", "0"), ("border_sigma", "0"),
        ]
    ],
    *[
        (f"{key}: {value}", key, "greater than or equal to")
        for key, value in [
            ("weight_decay", "-1"), ("momentum", "-0.1"), ("warmup_iterations", "-1"),
            ("workers", "-1"), ("threads", "0"), ("gpus", "-1"), ("class_weights", "[-1, 1]"),
            ("aux_weights", "[-1]"), ("elastic", "-1"), ("shift", "-1"), ("rotation", "-1"),
            ("masks_per_class", "0"), ("border_background", "-1"), ("final_lr", "-1"),
        ]
    ],
    *[
        (f"{key}: {value}", key, "less than or equal to")
        for key, value in [
            ("momentum", "1.5"), ("crop_size", "[1000000, 64]"), ("workers", "100000"),
            ("threads", "100000"), ("gpus", "100000"), ("multi_scale", "[1000.0]"),
            ("crop_max_share", "2"), ("rotation", "400"), ("blur", "3"), ("step_factor", "2"),
        ]
    ],
    # lists of a wrong length
    ("mean: [0.5, 0.5]", "mean", "expected 3 values, found 2"),
    ("std: []", "std", "expected 3 values, found 0"),
    ("std: [1, 1, 1, 1]", "std", "at most 3"),
    ("crop_size: [64]", "crop_size", "expected 2 values, found 1"),
    ("scale_range: [1.0]", "scale_range", "expected 2 values, found 1"),
    ("window: []", "window", "expected 2 values, found 0"),
    ("profile_size: [1]", "profile_size", "expected 2 values, found 1"),
    ("multi_scale: []", "multi_scale", "at least 1"),
    ("mean: 0.5", "mean", "valid tuple"),
    ("class_weights: [1, 1]", "class_weights", "expected 14 numbers, one a class"),
    ("class_weights: []", "class_weights", "one weight at least must be above 0"),
    (f"class_weights: [{WEIGHTS.replace('1.0', '0.0')}]", "class_weights", "at least"),
    # settings that do not fit each other
    ("scale_range: [2.0, 0.5]", "scale_range", "the smaller factor comes first"),
    ("window_stride: [8, 8]", "window_stride", "needs a window"),
    ("window: [8, 8]\nwindow_stride: [8, 9]", "window_stride", "at most window"),
    ("gpus: 3", "batch_size", "cannot be shared by gpus: 3"),
    ("border_weight: 1\nborder_background: 14", "border_background", "a train id below 14"),
    # what a model does not take, and files that are not there
    ("model_options: {widht: 8}", "model_options", "Did you mean 'width'?"),
    ("model_options:\n  width: wide", "width", "expected an integer, found 'wide'"),
    ("model_options: {width: true}", "model_options", "expected an integer, found True"),
    ("model_options: [1]", "model_options", "valid dictionary"),
    ("backbone_weights: absent.safetensors", "backbone_weights", "absent.safetensors does not"),
    ("backbone_weights: imagenet", "backbone_weights", "has no backbone that weights could fill"),
    ("backbone_weights: ''", "backbone_weights", "at least 1 character"),
    ("init_from: absent.safetensors", "init_from", "does not exist"),
    ("init_from: nothing_of_that_name", "init_from", "does not exist"),
    ("loss: hinge", "loss", "'hinge'"),
    ("optimizer: magic", "optimizer", "'magic'"),
    ("precision: fp8", "precision", "'fp8'"),
    ("train_split: trian", "", "has no split 'trian'"),
]  # fmt: skip


def board(folder: Path, recipe: str, config: str = CONFIG, name: str = "one") -> Path:
    experiments = folder / "exp" / "digit_scenes"
    experiments.mkdir(parents=True, exist_ok=True)
    (experiments / f"{name}.yaml").write_text(recipe)
    path = folder / "board.yaml"
    path.write_text(config.replace("EXPERIMENTS", str(folder / "exp")))
    return path


def with_line(recipe: str, line: str) -> str:
    """Return a recipe with one key in place of its own or behind the others."""
    key = line.split(":")[0]
    kept = [each for each in recipe.splitlines() if not each.startswith(f"{key}:")]
    return "\n".join([*kept, line]) + "\n"


@pytest.mark.parametrize(("line", "key", "words"), NONSENSE)
def test_nonsense_in_a_recipe_stops_the_plan(tmp_path, line, key, words):
    config = board(tmp_path, with_line(RECIPE, line))
    with pytest.raises(ConfigError) as caught:
        load_plan(config)
    text = str(caught.value)
    assert "exp/digit_scenes/one.yaml" in text
    assert words in text
    assert key in text
    if key and "init_from" not in key:
        lines = with_line(RECIPE, line).splitlines()
        number = next(i for i, each in enumerate(lines, 1) if each.strip().startswith(f"{key}:"))
        assert f"one.yaml:{number}: " in text


def test_the_same_settings_right_are_no_nonsense(tmp_path):
    (tmp_path / "first.safetensors").touch()
    right = [
        "mean: [0.5, 0.5, 0.5]", "std: [0.2, 0.2, 0.2]", f"class_weights: [{WEIGHTS}]",
        "scale_range: [0.5, 0.5]", "window: [64, 64]", "window_stride: [64, 32]",
        "multi_scale: [0.5, 1.0]", "crop_size: [64, 64]", "model_options: {width: 8}",
        "border_weight: 1", "border_background: 13", "gpus: 4", "momentum: 0.9",
        f"init_from: {tmp_path}/first.safetensors",
    ]  # fmt: skip
    recipe = RECIPE
    for line in right:
        recipe = with_line(recipe, line)
    assert len(load_plan(board(tmp_path, recipe)).cells) == 1


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("{train: 8, val: 4}", "{train: -3}", 4, "option 'train': expected 0 to"),
        ("{train: 8, val: 4}", "{trian: 8}", 4, "has no option 'trian'. Did you mean 'train'?"),
        ("{train: 8, val: 4}", "{train: eight}", 4, "expected int, found 'eight'"),
        ("{train: 8, val: 4}", "{train: 8.5}", 4, "expected int, found 8.5"),
        ("{train: 8, val: 4}", "{train: true}", 4, "expected int, found True"),
        ("{train: 8, val: 4}", "{train: null}", 4, "expected int, found None"),
        ("{train: 8, val: 4}", "{train: [8]}", 4, "expected int, found [8]"),
        ("{train: 8, val: 4}", "{rotation: .inf}", 4, "option 'rotation': expected 0 to 180"),
        ("{train: 8, val: 4}", "{rotation: .nan}", 4, "option 'rotation': expected 0 to 180"),
        ("{train: 8, val: 4}", "{size: 0}", 4, "option 'size': expected 16 to 2048"),
        ("{train: 8, val: 4}", "{min_digits: 9}", 4, "option 'min_digits'"),
        ("{train: 8, val: 4}", "{train: 0}", 4, "option 'train': one needs images"),
        ("{train: 8, val: 4}", "{val: 0}", 4, "option 'val': one needs images"),
        ("experiments: [one]", "experiments: [one]\n    seeds: [-1]", 8, "greater than or equal"),
        ("experiments: [one]", "experiments: [one]\n    seeds: []", 8, "at least 1 item"),
        ("experiments: [one]", "experiments: [one]\n    seeds: [4294967296]", 8, "less than"),
        ("experiments: [one]", "experiments: [one]\n    iterations: 0", 8, "greater than 0"),
        ("experiments: [one]", "experiments: []", 6, "this has none"),
        ("experiments: [one]", "controls: [oracle]\n    split: vall", 0, "Did you mean 'val'?"),
        ("experiments: [one]", "experiments: [one]\nreport: {gallery_images: -1}", 8, "greater"),
    ],
)  # fmt: skip
def test_nonsense_in_a_configuration_stops_the_plan(tmp_path, old, new, line, words):
    path = board(tmp_path, RECIPE, CONFIG.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    assert words in str(caught.value)
    assert (f"{path}:{line}: " if line else f"{path}: ") in str(caught.value)


def test_all_mistakes_of_all_files_are_said_at_once(tmp_path):
    board(
        tmp_path, with_line(with_line(RECIPE, "class_weights: [1]"), "model_options: {a: 1, b: 2}")
    )
    board(tmp_path, RECIPE.replace("fcn_tiny", "fcn_tinny"), name="two")
    config = CONFIG.replace("[one]", "[one, two, three]").replace("train: 8", "train: -1, x: 2")
    path = board(tmp_path, with_line(RECIPE, "std: [0, 0, 1]\nmomentum: 2"), config, name="three")
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    text = str(caught.value)
    for words in (
        "one.yaml:8: class_weights",
        "one.yaml:9: model_options: model 'fcn_tiny' has no option 'a'",
        "no option 'b'", "two.yaml: unknown model 'fcn_tinny'", "three.yaml:8: std.0", "std.1",
        "three.yaml:9: momentum", "has no option 'x'",
    ):  # fmt: skip
        assert words in text
    assert "Traceback" not in text


def test_dry_run_and_command_line_stop_with_2(tmp_path):
    path = board(tmp_path, with_line(RECIPE, "std: [0, 1, 1]"))
    for command in (
        ["segbench", "run", "-n", "--config", str(path)],
        ["snakemake", "-n", "--configfile", str(path), "--directory", str(CHECKOUT)],
    ):
        arguments = [sys.executable, "-m", *command]
        done = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "one.yaml:8: std.0: Input should be greater than 0 (found 0)" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("info", model_infos().values(), ids=lambda info: info.id)
def test_options_of_every_builder_are_known_from_its_text(info):
    source = Path(info.source)
    known = builder_options(source, source.stat().st_mtime_ns, info.id)
    assert known.complete
    assert not {"num_classes", "num_things", "num_stuff", "self"} & known.annotations.keys()


def test_defaults_of_a_recipe_obey_its_own_rules(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(RECIPE)
    recipe = load_recipe(path)
    assert Recipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere", "experiments_folder: nowhere does not exist"),
        ("config.yaml", "experiments_folder: config.yaml is no folder"),
        ("3", "config.yaml:1: experiments_folder: expected a path"),
        ("[a]", "config.yaml:1: experiments_folder: expected a path"),
        ("$NOPE_OF_A_TEST/x", "the environment variable NOPE_OF_A_TEST is not set"),
    ],
)
def test_a_folder_of_recipes_that_is_none_is_named(tmp_path, monkeypatch, value, words):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG.replace("EXPERIMENTS", value))
    with pytest.raises(ConfigError) as error:
        load_plan(Path("config.yaml"))
    assert words in error.value.what
