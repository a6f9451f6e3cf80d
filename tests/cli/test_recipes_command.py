"""`segbench recipes`: the list, the keys in which a family's recipes differ, and wrong names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.cli.recipes import recipes
from segbench.core.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "workflow" / "experiments"


def call(*arguments: str) -> str:
    """Return what the command prints."""
    words = ["--folder", str(FOLDER), *arguments]
    return CliRunner().invoke(recipes, words, catch_exceptions=False).output


def test_list_has_every_recipe_with_its_schedule():
    rows = json.loads(call("--json"))
    assert len(rows) == len(list(FOLDER.glob("*/*.yaml")))
    row = next(row for row in rows if row["recipe"] == "digit_scenes/lpsnet_tiny_gap")
    assert (row["model"], row["dataset"], row["family"]) == (
        "lpsnet_tiny",
        "digit_scenes",
        "lpsnet",
    )
    assert (row["iterations"], row["batch_size"], row["schedule"]) == (1200, 8, "cosine")
    assert (row["ablation_of"], row["ablation_keys"]) == ("lpsnet_tiny", ["model_options.top"])
    assert "1,200 x 8, adamw 0.003, cosine" in call("lpsnet")


def test_differences_show_the_changed_keys_alone():
    printed = call("lpsnet", "--differences", "--dataset", "digit_scenes")
    assert "lpsnet on digit_scenes: 6 recipes" in printed
    assert "closest_borderness" in printed
    assert "base_lr" not in printed
    keys = json.loads(call("lpsnet", "--differences", "--dataset", "digit_scenes", "--json"))
    names = ("top", "quality", "overlap")
    assert list(keys["lpsnet"]) == [f"model_options.{name}" for name in names]
    assert keys["lpsnet"]["model_options.top"]["digit_scenes/lpsnet_tiny_no_pooling"] == "none"


def test_differences_of_every_family():
    keys = json.loads(call("--differences", "--json"))
    assert keys["fcos"]["dataset"] == {
        "coco2017/fcos_resnet50_fpn": "coco2017",
        "digit_scenes/fcos_tiny": "digit_scenes",
    }
    assert "crf_rnn: one recipe" in call("crf_rnn", "--differences", "--dataset", "voc2012")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lpsnt",), "Did you mean 'lpsnet'?"),
        (("--dataset", "digit_scene"), "Did you mean 'digit_scenes'?"),
        (("--folder", "nowhere"), "nowhere holds no recipe"),
    ],
)
def test_a_wrong_name_gets_one_message(words, message):
    with pytest.raises(ConfigError) as error:
        call(*words)
    assert message in str(error.value)


def test_command_never_imports_torch():
    program = (
        "import sys\n"
        "from segbench.cli.recipes import recipes\n"
        "words = ['lpsnet', '--differences', '--folder', sys.argv[1]]\n"
        "recipes(words, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(FOLDER)], check=True, timeout=60)
