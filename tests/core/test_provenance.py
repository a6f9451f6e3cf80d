"""Code fingerprints follow meaning and imports, not text."""

import os
import subprocess
import sys

import pytest

from segbench import provenance
from segbench.errors import ConfigError
from segbench.registry import create_model, model_infos

BASE = '"""Doc."""\nfrom segbench.formats import rgb2id\n\n\ndef f(x):\n    return x + 1\n'


def fingerprint(tmp_path, text: str) -> str:
    path = tmp_path / "m.py"
    path.write_text(text)
    provenance._meaning.cache_clear()
    provenance._imports.cache_clear()
    return provenance.code_fingerprint([path])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (BASE.replace("return x", "return  x") + "# a comment\n", True),
        (BASE.replace("Doc.", "Other."), True),
        (BASE.replace("def f(x):\n", 'def f(x):\n    """Say."""\n'), True),
        (BASE.replace("x + 1", "x + 2"), False),
        (BASE.replace("formats import rgb2id", "formats import id2rgb"), False),
        (BASE.replace("from segbench.formats import rgb2id\n", ""), False),
        (BASE.replace("f(x)", "f(x, y=1)"), False),
    ],
)
def test_meaning_decides(tmp_path, text, same):
    assert (fingerprint(tmp_path, text) == fingerprint(tmp_path, BASE)) == same


def test_messages_do_not_count(tmp_path):
    with_errors = BASE + "from segbench.errors import DataError\n"
    path = tmp_path / "m.py"
    path.write_text(with_errors)
    names = {p.stem for p in provenance._closure((path,))}
    assert {"m", "formats", "types"} <= names
    assert "errors" not in names


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


def test_fingerprint_is_the_same_in_every_process():
    program = (
        "from segbench import provenance\n"
        "print(provenance.code_fingerprint([provenance.module_file('results')]))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, timeout=60,
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(found) == 1
