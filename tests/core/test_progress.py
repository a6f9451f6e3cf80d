"""Progress in a log: one line at most every half minute, and one at the end."""

import re

import pytest

from segbench.core import progress


@pytest.fixture
def clock(monkeypatch):
    """Time passes only when the work says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, sizes, seconds):
    for size in sizes:
        clock[0] += seconds
        yield size


def test_bytes_speed_and_time_left(clock, capsys):
    sizes = work(clock, [10_000_000] * 8, seconds=20)
    assert (
        len(list(progress.track_bytes(sizes, 100_000_000, "download a.zip", start=20_000_000))) == 8
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "download a.zip: 40.0 of 100.0 MB (40 %), 0.5 MB/s, 120 s left"
    assert len(lines) == 5
    assert lines[-1] == "download a.zip: 100.0 MB done in 160.0 s, 0.5 MB/s"


def test_bytes_of_unknown_total(clock, capsys):
    list(progress.track_bytes(work(clock, [5_000_000] * 2, seconds=40), None, "unpack"))
    first, second, last = capsys.readouterr().err.splitlines()
    assert (first, second) == ("unpack: 5.0 MB, 0.1 MB/s", "unpack: 10.0 MB, 0.1 MB/s")
    assert last.startswith("unpack: 10.0 MB done")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert sum(progress.track_bytes([1000, 2000], 3000, "download a.zip")) == 3000
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "download a.zip" in shown


def test_items(clock, capsys):
    assert list(progress.track(work(clock, "abc", seconds=31), 3, "prepare")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "prepare: 1/3 (33 %), 0.03/s, 62 s left"
    assert lines[-1] == "prepare: 3/3 done in 93.0 s"
