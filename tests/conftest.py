"""Fixtures of tests of several folders."""

import sys

import pytest

from segbench import speed


@pytest.fixture(scope="session")
def compiled_loops():
    module = speed.load()
    assert module is not None
    sys.modules.pop(module.__name__)
    return module


@pytest.fixture(params=["stock", "compiled"])
def loops(request, monkeypatch):
    """Run a test without and with the compiled loops."""
    monkeypatch.delitem(sys.modules, speed.KERNELS, raising=False)
    if request.param == "compiled":
        loaded = request.getfixturevalue("compiled_loops")
        monkeypatch.setitem(sys.modules, speed.KERNELS, loaded)
    return request.param
