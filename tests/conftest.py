"""Fixtures of tests of several folders."""

import pytest

from segbench import speed


@pytest.fixture(scope="session")
def compiled_loops():
    before, module = speed.loaded, speed.load()
    assert module is not None
    speed.loaded = before
    return module


@pytest.fixture(params=["stock", "compiled"])
def loops(request, monkeypatch):
    """Run a test without and with the compiled loops."""
    compiled = request.param == "compiled"
    wanted = request.getfixturevalue("compiled_loops") if compiled else None
    monkeypatch.setattr(speed, "loaded", wanted)
    return request.param
