"""The command line as a user meets it: help, suggestions, exit codes, no tracebacks."""

import json
import subprocess
import sys

import pytest

from segbench.cli import COMMANDS


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: segbench" in out


def test_help_and_lists_never_import_torch():
    program = (
        "import sys, contextlib, io\n"
        "from segbench.cli import main\n"
        "for args in (['--help'], ['score', '--help'], ['models', '--json'], ['datasets']):\n"
        "    sys.argv = ['segbench', *args]\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        try: main()\n"
        "        except SystemExit as e: assert e.code == 0, (args, e.code)\n"
        "assert 'torch' not in sys.modules and 'snakemake' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


WRONG = [
    (["trian"], 2, "Did you mean 'train'?"),
    (["models", "--jsno"], 2, "--json"),
    (["models", "show", "fcn8s"], 2, "Did you mean 'fcn_8s'?"),
    (["datasets", "show", "digit_scene"], 2, "Did you mean 'digit_scenes'?"),
    (["prepare", "camvid"], 1, "camvid"),
    (["prepare", "digit_scenes", "--option", "trian=3"], 2, "Did you mean 'train'?"),
    (["prepare", "digit_scenes", "--option", "train"], 2, "KEY=VALUE"),
    (["prepare", "camvid", "--raw", "nowhere"], 1, "nowhere"),
    (["download", "camvid", "--out", "x.json"], 1, "--raw"),
    (["train", "no.yaml", "--data", "d", "--out", "o", "--state", "s"], 2, "no.yaml"),
    (["predict", "no.yaml", "--run", "r", "--data", "d", "--out", "o"], 2, "no.yaml"),
    (["control", "orcale", "--data", "d", "--out", "o"], 2, "Did you mean 'oracle'?"),
    (["control", "oracle", "--data", "nowhere", "--out", "o"], 1, "not a prepared dataset"),
    (["evaluate", "--data", "d", "--predictions", "p", "--out", "o"], 1, "dataset.json"),
    (["profile", "fcn_8s", "--num-classes", "x"], 2, "'x' is neither"),
    (["profile", "fcn_8s", "--num-classes", "21", "--input-size", "512"], 2, "HEIGHTxWIDTH"),
    (["profile", "fcn_8s"], 2, "--num-classes"),
    (["profile", "fcn_8s", "--num-classes", "8+3"], 2, "one number"),
    (["profile", "panoptic_fpn_resnet50", "--num-classes", "133"], 2, "THINGS+STUFF"),
    (["collect", "--config", "confg.yaml"], 2, "confg.yaml"),
    (["report", "no.json", "--out", "o"], 1, "no.json"),
    (["run", "--config", "confg.yaml"], 2, "confg.yaml"),
    (["run", "--cores", "0"], 2, "--cores"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=lambda v: str(v)[:60])
def test_mistakes_end_in_one_clear_message(run, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*arguments)
    assert found == code, err
    assert words in err
    assert "Traceback" not in out + err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_models_json_has_the_promised_fields(run):
    code, out, _ = run("models", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"name", "task", "paper", "year", "backbone", "classes"} <= set(rows[0])
    ids = {row["name"] for row in rows}
    assert {"fcn_32s", "fcn_16s", "fcn_8s", "unet", "mask_rcnn_resnet50_fpn"} <= ids


def test_datasets_show(run):
    code, out, _ = run("datasets", "show", "camvid")
    assert code == 0
    assert "camvid-11-void-ignored" in out
    assert "Pedestrian" in out
