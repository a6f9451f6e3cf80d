"""A small board of one training: made offline, killed, with lost times, on a full disk."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soak
from soak_board import STAGES, Board

pytestmark = pytest.mark.slow

OFFLINE = ["unshare", "--user", "--map-root-user", "--net"]
TOOLS = ("bash", "sh", "env", "rm", "cat", "git", "uname", "which")


def can_be_cut_off() -> bool:
    """Say whether this user may start a process without network."""
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([*OFFLINE, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs without Slurm's and without nvidia-smi."""
    folder = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, tools: Path
) -> Iterator[tuple[Board, dict[str, float]]]:
    """An unbroken board, made without network, GPU and Slurm, and its processor times."""
    prefix = [shutil.which("unshare"), *OFFLINE[1:]] if can_be_cut_off() else []
    board = Board(
        tmp_path_factory.mktemp("board"), token=f"test-{os.getpid()}", seeds=(0,),
        prefix=tuple(map(str, prefix)),
        variables={
            "PATH": f"{Path(sys.executable).parent}:{tools}", "CUDA_VISIBLE_DEVICES": "",
        },
    )  # fmt: skip
    yield board, soak.measure(board)


@pytest.mark.fault(31)
def test_made_without_network_gpu_and_slurm(made: tuple[Board, dict[str, float]]) -> None:
    board, cpu_s = made
    if not board.prefix:
        pytest.skip("this user may not start a process without network")
    table = json.loads((board.results / "table.json").read_text())
    assert [cell["status"] for cell in table["cells"]] == ["ok"] * 4
    assert (board.results / "report" / "index.html").is_file()
    assert cpu_s.keys() == set(STAGES)


@pytest.mark.fault(26)
def test_lost_file_times_run_nothing_again(made: tuple[Board, dict[str, float]]) -> None:
    """As after a copy: times are in no order, of other years, and in the future."""
    board, _ = made
    rng = random.Random(0)
    for path in sorted(board.results.rglob("*")):
        os.utime(path, times=(rng.randrange(10**9, 2 * 10**9),) * 2)
    again = board.launch()
    assert again.wait() == 0, board.log.read_text()
    assert "Nothing to be done" in board.log.read_text()


@pytest.mark.fault(1, 7, 13, 29, 32)
def test_killed_in_six_stages_it_is_the_unbroken_board(
    made: tuple[Board, dict[str, float]], tmp_path: Path
) -> None:
    stages = ["prepare", "train", "predict", "evaluate", "overlays", "report"]
    result = soak.kill_boards(
        *made, kills=len(stages), seed=random.randrange(10**6), boards=1, stages=stages,
        work=tmp_path,
    )  # fmt: skip
    assert result["problems"] == [], result
    assert result["facts"]["kills"] == len(stages)
    assert sum(row["kills"] for row in result["stages"].values()) == len(stages)


COMMANDS = {
    "control": "control oracle --data results/data/digit_scenes",
    "predict": (
        "predict experiments/digit_scenes/fcn_tiny.yaml --run results/digit_scenes/fcn_tiny/seed0"
        " --data results/data/digit_scenes"
    ),
    "evaluate": (
        "evaluate --data results/data/digit_scenes --task semantic"
        " --predictions results/digit_scenes/fcn_tiny/seed0/predictions/val"
    ),
    "overlays": (
        "overlays --data results/data/digit_scenes"
        " --predictions results/digit_scenes/fcn_tiny/seed0/predictions/val"
        " --evaluation results/digit_scenes/fcn_tiny/seed0/evaluation/val"
    ),
    "report": "report results/table.json",
}


@pytest.mark.fault(21)
@pytest.mark.parametrize("stage", COMMANDS)
def test_a_full_disk_is_one_error_and_the_next_run_finishes(
    made: tuple[Board, dict[str, float]], tmp_path: Path, stage: str
) -> None:
    """No file may be longer than the limit, as where little space is left."""
    board, out = made[0], tmp_path / "out"

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "segbench", *COMMANDS[stage].split(), "--out", str(out)]
        return subprocess.run(
            words, cwd=board.folder, env=board.environment(), capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip

    full = run(700)
    assert full.returncode == 1, full.stderr
    assert "cannot write" in full.stderr and "free disk space" in full.stderr
    assert "Traceback" not in full.stderr
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert not left & {"manifest.json", "records.json", "overlays.json", "index.html"}
    assert not [name for name in left if name.endswith(".tmp")]
    again = run(resource.RLIM_INFINITY)
    assert again.returncode == 0, again.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
