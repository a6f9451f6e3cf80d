"""Versions that decide numbers, and models that are one file."""

import re

import pytest

from segbench.core import provenance
from segbench.core.errors import ConfigError
from segbench.models.registry import create_model, model_infos


def test_versions_name_what_decides_numbers():
    found = provenance.versions()
    assert {"segbench", "python", "numpy", "torch", "torchvision", "pycocotools"} <= set(found)


TOY = """
from segbench.models import register_model

@register_model("toy", task="semantic", paper="None", year=2026, display_name="Toy")
def toy(num_classes, *, width=1):
    return ("toy", num_classes, width)
"""


def test_a_model_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "toy_family.py").write_text(TOY)
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    info = model_infos()["toy"]
    assert (info.family, info.task, info.size) == ("toy_family", "semantic", "full")
    assert create_model("toy", 5, width=2) == ("toy", 5, 2)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'wdith'"):
        create_model("toy", 5, wdith=2)


def test_an_id_is_registered_once(tmp_path, monkeypatch):
    (tmp_path / "toy_family.py").write_text(TOY + TOY.replace("def toy", "def toy2"))
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"registered in .*toy_family\.py"):
        model_infos()


BROKEN = {
    "literal": (TOY.replace("2026", "int('3')"), r"toy_family\.py:4: @register_model needs"),
    "missing": (TOY.replace('paper="None", ', ""), r"toy_family\.py:4: .*paper"),
    "year": (TOY.replace("2026", "'x'"), r"toy_family\.py:4: .*year is 'x'"),
    "task": (TOY.replace("semantic", "semantics"), r"toy_family\.py:4: .*task is 'semantics'"),
    "id": (TOY.replace('"toy", task', "[1], task"), r"toy_family\.py:4: .*id is \[1\]"),
    "syntax": ("import (\n", r"toy_family\.py:1: invalid syntax"),
    "nested": ("(" * 500 + TOY, r"toy_family\.py:1: "),
    "text": (b"\xff\xfe\x00", r"toy_family\.py: UnicodeDecodeError"),
    "null": ("x = 1\0\n", r"toy_family\.py"),
    "folder": (None, r"toy_family\.py: Is a directory"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_costs_no_other_model(tmp_path, monkeypatch, capfd, kind):
    text, message = BROKEN[kind]
    file = tmp_path / "toy_family.py"
    if text is None:
        file.mkdir()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "whole.py").write_text(TOY.replace('"toy"', '"whole"'))
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", f"{tmp_path}:{tmp_path}/nowhere")
    found = model_infos()
    err = capfd.readouterr().err
    assert "toy" not in found and {"fcn_8s", "whole"} <= set(found)
    assert re.search(message, err)
    assert f"SEGBENCH_MODELS_PATH: the folder {tmp_path}/nowhere does not exist" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package\n" + TOY, r":1: ModuleNotFoundError: No module named 'no_such"),
        (TOY + "\nraise SystemExit(3)\n", r":8: SystemExit: 3"),
        (TOY.replace("from segbench.models import register_model",
                     "def register_model(*a, **k): return lambda f: f"), "registers no model"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_imported_is_named_when_it_is_built(
    tmp_path, monkeypatch, text, message
):
    (tmp_path / "toy_broken.py").write_text(text)
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"toy_broken\.py.*" + message):
        create_model("toy", 5)


def test_unknown_model_suggests():
    with pytest.raises(ConfigError, match="Did you mean 'fcn_8s'"):
        create_model("fcn_8", 21)
