"""Fixtures of tests of several folders."""

import random
import signal

import pytest

from segbench.formats import kernel_loading as speed


def pytest_configure():
    """Let the tests of Ctrl-C work where a shell started the run in the background.

    Such a shell makes its children ignore the interrupt, and theirs inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--random-files", type=int, metavar="SEED", help="Run the files in a random order."
    )


def pytest_collection_modifyitems(config, items):
    """Shuffle the files, each as a whole: a test may lean on no file that ran before it."""
    seed = config.getoption("--random-files")
    if seed is not None:
        files = sorted({item.path for item in items})
        random.Random(seed).shuffle(files)
        items.sort(key=lambda item: files.index(item.path))


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


@pytest.fixture
def run(capfd):
    """Run the command line in this process; return its exit code, output and errors."""
    from tests.commands import command

    def call(*arguments):
        return command(*arguments), *capfd.readouterr()

    return call
