"""Compiled loops are loaded where they pay, and their absence is no error."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from segbench.core import jit
from segbench.evaluation.counting.images import load_for
from segbench.formats import kernel_loading as speed
from segbench.formats.label_maps import write_label_map

SCORING = (
    "import sys, segbench.cli, segbench.evaluation.count_split, "
    "segbench.evaluation.semantic.folders"
)


def test_importing_the_scoring_starts_no_compiler():
    check = f"{SCORING}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.fixture
def unloaded(monkeypatch):
    monkeypatch.setattr(speed, "loaded", None)


def test_loops_are_loaded_for_many_pixels(unloaded, tmp_path):
    write_label_map(tmp_path / "m.png", np.zeros((100, 200), dtype=np.uint8))
    load_for(speed.WORTH_PIXELS // 20_000 - 1, tmp_path / "m.png")
    assert speed.kernels() is None
    load_for(speed.WORTH_PIXELS // 20_000, tmp_path / "m.png")
    assert speed.kernels() is not None


@pytest.mark.parametrize("content", [None, b"", b"GIF89a and what follows it in a file"])
def test_what_is_no_png_is_nothing_to_load_for(unloaded, tmp_path, content):
    if content is not None:
        (tmp_path / "m.png").write_bytes(content)
    load_for(10**9, tmp_path / "m.png")
    assert speed.kernels() is None


def test_without_numba_or_compiling_there_are_no_loops(unloaded, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert speed.load() is None
    monkeypatch.setitem(sys.modules, "numba", None)
    assert speed.load() is None
    assert speed.kernels() is None


def test_code_that_cannot_be_kept_is_compiled_each_time(monkeypatch):
    asked = []

    def read_only(function, *, cache=False, nogil=False):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(jit, "njit", read_only)
    assert jit.compiled(abs)(-3) == 3
    assert asked == [True, False]
