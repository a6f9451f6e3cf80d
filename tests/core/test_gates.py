"""The gates that hold processes for other tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.core import files
from tests.gates import Gate, environment, wait_until

PROGRAM = """
from segbench.core import files
for number in range(4):
    files.write_json(__import__("pathlib").Path(sys.argv[1]) / f"{number}.json", {})
"""


def start(folder: Path, *gates: Gate, word: str = "", before: str = "") -> subprocess.Popen[bytes]:
    folder.mkdir()
    command = [sys.executable, "-c", f"import sys\n{before}{PROGRAM}", str(folder), word]
    return subprocess.Popen(command, env=environment(*gates))


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_process_is_held_after_its_calls_and_goes_on(tmp_path: Path) -> None:
    first = Gate(tmp_path / "first", "segbench.core.files:write_json", calls=1)
    second = Gate(tmp_path / "second", "segbench.core.files:write_json", calls=3)
    with start(tmp_path / "out", first, second) as process:
        assert first.arrival(process) == process.pid
        assert written(tmp_path / "out") == ["0.json"]
        first.open()
        assert second.arrival(process) == process.pid
        assert written(tmp_path / "out") == ["0.json", "1.json", "2.json"]
        second.open()
        assert process.wait() == 0
    assert len(written(tmp_path / "out")) == 4


def test_held_process_can_be_killed_and_the_next_is_held_too(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json", calls=2)
    for name in ("one", "two"):
        with start(tmp_path / name, gate) as process:
            os.kill(gate.arrival(process), signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert written(tmp_path / name) == ["0.json", "1.json"]


def test_only_the_named_processes_are_held(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json", words=["hold-me"])
    assert start(tmp_path / "free", gate).wait() == 0
    with start(tmp_path / "held", gate, word="hold-me") as process:
        assert gate.arrival(process) == process.pid
        assert written(tmp_path / "held") == []
        gate.open()
        assert process.wait() == 0


def test_handled_signal_is_seen_and_lets_the_process_go_on(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json", calls=2)
    handler = "import signal\nsignal.signal(15, lambda *_: sys.exit(7))\n"
    with start(tmp_path / "out", gate, before=handler) as process:
        gate.arrival(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 7
    assert written(tmp_path / "out") == ["0.json", "1.json"]
    noted = "import signal\nsignal.signal(15, lambda *_: print('noted'))\n"
    with start(tmp_path / "more", gate, before=noted) as process:
        gate.arrival(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert len(written(tmp_path / "more")) == 4


def test_process_that_never_arrives_ends_the_wait(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json", calls=4)
    with start(tmp_path / "out", gate) as process, pytest.raises(AssertionError, match="it ended"):
        gate.arrival(process)


def test_test_that_is_gone_holds_nobody(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    gate.facts["owner"] = gone.pid
    assert start(tmp_path / "out", gate).wait() == 0


def test_wait_ends_with_the_condition(tmp_path: Path) -> None:
    with subprocess.Popen(["touch", str(tmp_path / "there")]) as process:
        wait_until((tmp_path / "there").exists, "the file", process)


def test_child_holds_itself(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", "segbench.core.files:write_json", calls=1)
    child = multiprocessing.get_context("spawn").Process(target=write_held, args=(gate, tmp_path))
    child.start()
    assert gate.arrival(child) == child.pid
    assert (tmp_path / "0.json").exists() and not (tmp_path / "1.json").exists()
    gate.open()
    child.join()
    assert child.exitcode == 0 and (tmp_path / "1.json").exists()


def write_held(gate: Gate, folder: Path) -> None:
    gate.hold_here()
    for number in range(2):
        files.write_json(folder / f"{number}.json", {})
