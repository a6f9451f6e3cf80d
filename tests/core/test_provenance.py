"""Versions that decide numbers, and models that are one file."""

import pytest

from segbench import provenance
from segbench.errors import ConfigError
from segbench.registry import create_model, model_infos


def test_versions_name_what_decides_numbers():
    found = provenance.versions()
    assert {"segbench", "python", "numpy", "torch", "torchvision", "pycocotools"} <= set(found)


TOY = """
from segbench.registry import register_model

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TOY + TOY.replace("def toy", "def toy2"), "registered in"),
        (TOY.replace("2026", "int('3')"), "literal"),
        (TOY.replace('paper="None", ', ""), "paper"),
    ],
)
def test_a_wrong_decorator_is_named(tmp_path, monkeypatch, text, message):
    (tmp_path / "toy_family.py").write_text(text)
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=message) as caught:
        model_infos()
    assert "toy_family.py" in str(caught.value)


def test_unknown_model_suggests():
    with pytest.raises(ConfigError, match="Did you mean 'fcn_8s'"):
        create_model("fcn_8", 21)
