"""Why a row has no scores: the stage that stands still decides, and its last attempt."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segbench.core.lease import Lease
from segbench.workflow import slurm as cluster
from segbench.workflow.digest_cache import DigestCache
from segbench.workflow.failures import Failure, explain, last_words
from segbench.workflow.plan import Plan, load_plan
from segbench.workflow.result_checks import ResultChecks
from segbench.workflow.results import _cell, collect

CONFIG = """\
results: {results}
runs:
  - dataset: digit_scenes
    controls: [oracle]
    experiments: [fcn_tiny, panoptic_fpn_tiny]
    oracles: {{panoptic_fpn_tiny: [masks]}}
"""
RESULTS = {
    "download": "raw/digit_scenes.json",
    "prepare": "data/digit_scenes/dataset.json",
    "train": "digit_scenes/{0}/seed0/weights.safetensors",
    "predict": "digit_scenes/{0}/seed0/predictions/val/manifest.json",
    "evaluate": "digit_scenes/{0}/seed0/evaluation/val/records.json",
}
DAY = 24 * 3600
STAGES = [*RESULTS]


@pytest.fixture(autouse=True)
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask no cluster, wherever the tests run."""
    monkeypatch.setattr(cluster, "state_of_job", lambda number: "")


class Board:
    """A results folder in which some stages of a row are done; hours count from then."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.root = plan, plan.results
        self.begin = time.time() - 30 * DAY

    def put(self, path: str, text: str = "", *, hour: float) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (self.begin + 3600 * hour,) * 2)
        return file

    def done(self, *stages: str, experiment: str = "fcn_tiny", hour: float = 0) -> None:
        for stage in stages:
            file = self.put(RESULTS[stage].format(experiment), hour=hour)
            if stage == "train":
                for name in ("recipe.json", "train_log.jsonl"):
                    self.put(str(file.relative_to(self.root).with_name(name)), hour=hour)

    def log(self, stage: str, text: str, *, hour: float, experiment: str = "fcn_tiny") -> Path:
        if stage in ("download", "prepare"):
            return self.put(f"logs/{stage}/digit_scenes.log", text, hour=hour)
        split = "" if stage in ("train", "profile") else "val/"
        name = f"logs/{stage}/{split}digit_scenes/{experiment}/seed0.log"
        return self.put(name, text, hour=hour)

    def slurm(self, rule: str, names: str, text: str, *, hour: float, job: int = 12) -> Path:
        return self.put(f"logs/slurm/rule_{rule}/{names}/{job}.log", text, hour=hour)

    def why(self, experiment: str = "fcn_tiny") -> Failure:
        return explain(self.plan, self.plan.by_key["digit_scenes", experiment, 0])


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (tmp_path / "config.yaml").write_text(CONFIG.format(results=tmp_path / "results"))
    return Board(load_plan(tmp_path / "config.yaml"))


def test_nothing_has_started(board: Board) -> None:
    assert board.why() == Failure("not_run", "download: no job of it has started yet")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.fault(23)
def test_the_stage_that_stands_still_is_asked(board: Board, stage: str) -> None:
    """Whatever other logs say, those that come later in the order of the work too."""
    before = STAGES[: STAGES.index(stage)]
    board.done(*before)
    for other in (*STAGES, "profile"):
        board.log(other, f"error: an old fault of {other}\n", hour=-7 * 24)
    mine = board.log(stage, "error: today's fault\n  -> mend it\n", hour=1)
    board.log("profile", "memory  rise of the resident set\n", hour=2)
    assert board.why() == Failure("failed", f"{stage}: today's fault", mine)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.fault(23)
def test_killed_without_a_word(board: Board, stage: str) -> None:
    board.done(*STAGES[: STAGES.index(stage)])
    board.log("profile", "memory  rise of the resident set\n", hour=2)
    mine = board.log(stage, "", hour=1)
    assert board.why() == Failure("failed", f"{stage}: killed, no message", mine)


def test_killed_at_work(board: Board) -> None:
    board.done("download", "prepare")
    board.log("train", "train fcn on digits: 8/60 (13 %)\n\n", hour=1)
    assert board.why().reason == (
        "train: killed, no message; the last line of its log: train fcn on digits: 8/60 (13 %)"
    )


def test_an_attempt_at_older_inputs_is_no_reason(board: Board) -> None:
    board.done("download", "prepare")
    board.log("predict", "error: an old fault\n", hour=1)
    board.done("train", hour=2)
    found = board.why()
    assert (found.status, found.reason) == (
        "not_run", "predict: not started since what it reads was made",
    )  # fmt: skip


def test_a_copied_folder_has_times_in_any_order(board: Board) -> None:
    board.log("train", "error: diverged\n", hour=1)
    board.done("download", "prepare", hour=1 + 0.5 / 3600)
    assert board.why().reason == "train: diverged"


def test_rows_that_wait_for_another_name_it(board: Board) -> None:
    board.done("download", "prepare")
    board.log("train", "error: diverged\n", hour=1, experiment="panoptic_fpn_tiny")
    row = board.why("panoptic_fpn_tiny@oracle-masks")
    assert row.reason == "train of digit_scenes/panoptic_fpn_tiny: diverged"
    assert board.why("panoptic_fpn_tiny").reason == "train: diverged"


def test_control(board: Board) -> None:
    board.done("download", "prepare")
    board.log("control", "error: no such mask\n", hour=1, experiment="oracle")
    assert board.why("oracle").reason == "control: no such mask"


def test_the_table_links_the_log_that_tells(board: Board) -> None:
    board.done("download")
    board.log("prepare", "error: 3 files are broken\n", hour=1)
    board.log("profile", "fine\n", hour=2)
    cell = next(c for c in collect(board.plan)["cells"] if c["experiment"] == "fcn_tiny")
    assert cell["status"] == "failed" and cell["reason"] == "prepare: 3 files are broken"
    assert cell["logs"][-1] == "logs/prepare/digit_scenes.log"


def test_records_without_the_task(board: Board) -> None:
    board.done(*STAGES)
    assert board.why().reason == "evaluate: its records lack the scores of this task"


def test_a_profile_that_failed_alone_costs_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.done(*STAGES)
    record = {"task": "semantic", "scores": {"miou": 0.5}, "per_class": [], "protocol": "p"}
    monkeypatch.setattr(ResultChecks, "record", lambda *_: record)
    board.log("profile", "error: out of memory\n", hour=3)
    checks = ResultChecks(board.root, DigestCache(board.root))
    row = board.plan.by_key["digit_scenes", "fcn_tiny", 0]
    cell = _cell(board.plan, checks, row, "semantic")
    assert (cell["status"], cell["reason"]) == ("ok", "")


SLURM_LOG = "resources: mem_mb=4000, mem_mib=3815, runtime=120\n{}\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("slurmstepd: error: Step 12.0 exceeded memory limit (523 > 409), being killed\n"
         "slurmstepd: error: *** STEP 12.0 ON n0 CANCELLED AT 2026-11-30T12:00:00 ***",
         "out of memory in Slurm job 12 (asked 4000 MB)"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks "
         "have been OOM Killed.", "out of memory in Slurm job 12 (asked 4000 MB)"),
        ("slurmstepd-n0: error: Detected 2 oom-kill event(s) in StepId=12.batch cgroup.",
         "out of memory in Slurm job 12 (asked 4000 MB)"),
        ("srun: error: n0: task 0: Out Of Memory", "out of memory in Slurm job 12 (asked 4000 MB)"),
        ("slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT 2026-11-30T12:00:00 DUE TO TIME LIMIT"
         " ***", "time limit of 120 min reached in Slurm job 12"),
        ("slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT 2026-11-30T12:00:00 DUE TO NODE "
         "FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***", "the node of Slurm job 12 was lost"),
        ("slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT 2026-11-30T12:00:00 DUE TO PREEMPTION"
         " ***", "Slurm job 12 was preempted"),
        ("slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT 2026-11-30T12:00:00 ***",
         "Slurm job 12 was cancelled"),
        ("srun: error: n0: task 0: Exited with exit code 1", "killed in Slurm job 12, no message"),
        ("train: my model says: slurmstepd: oom_kill", "killed in Slurm job 12, no message"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_log", [True, False], ids=["with log", "without"])
@pytest.mark.fault(20)
def test_reasons_that_slurm_knows(board: Board, said: str, reason: str, with_log: bool) -> None:
    board.done("download", "prepare")
    if with_log:
        board.log("train", "", hour=1)
    board.slurm("train", "digit_scenes_fcn_tiny_0", SLURM_LOG.format(said), hour=2)
    found = board.why()
    assert (found.status, found.reason) == ("failed", f"train: {reason}")
    assert found.log and found.log.exists()


def test_the_newest_job_tells(board: Board) -> None:
    board.done("download", "prepare")
    over = SLURM_LOG.format("slurmstepd: error: Step 9.0 exceeded memory limit (5 > 4)")
    late = SLURM_LOG.format("slurmstepd: error: *** JOB 10 ON n0 CANCELLED AT x DUE TO TIME LIMIT")
    board.slurm("train", "digit_scenes_fcn_tiny_0", late, hour=2, job=10)
    board.slurm("train", "digit_scenes_fcn_tiny_0", over, hour=1, job=9)
    assert "time limit" in board.why().reason


def test_an_error_after_slurm_was_left(board: Board) -> None:
    """The last attempt ran on this machine, the one before on the cluster."""
    board.done("download", "prepare")
    over = SLURM_LOG.format("slurmstepd: error: Step 9.0 exceeded memory limit (5 > 4)")
    board.slurm("train", "digit_scenes_fcn_tiny_0", over, hour=1)
    board.log("train", "error: diverged\n", hour=2)
    assert board.why().reason == "train: diverged"


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("RUNNING", "running", "running: Slurm job 12"),
        ("PENDING", "running", "pending: Slurm job 12"),
        ("TIMEOUT", "failed", "time limit of 120 min reached in Slurm job 12"),
        ("OUT_OF_MEMORY", "failed", "out of memory in Slurm job 12 (asked 4000 MB)"),
        ("NODE_FAIL", "failed", "the node of Slurm job 12 was lost"),
        ("FAILED", "failed", "killed in Slurm job 12, no message"),
        ("", "failed", "killed in Slurm job 12, no message"),
    ],
)
def test_states_that_slurm_remembers(
    board: Board, monkeypatch: pytest.MonkeyPatch, state: str, status: str, reason: str
) -> None:
    board.done("download", "prepare", "train")
    board.slurm("predict", "digit_scenes_fcn_tiny_0_val", SLURM_LOG.format(""), hour=2)
    monkeypatch.setattr(cluster, "state_of_job", {"12": state}.get)
    found = board.why()
    assert (found.status, found.reason) == (status, f"predict: {reason}")


def test_a_training_that_is_alive(board: Board) -> None:
    board.done("download", "prepare")
    board.log("train", "fcn_tiny, 12,345 parameters\n", hour=1)
    state = board.root / "state/digit_scenes/fcn_tiny/seed0/4711"
    with Lease(state):
        found = board.why()
        assert found.status == "running"
        assert found.reason.startswith(f"train: running: process {os.getpid()} on ")
    assert board.why().status == "failed"


def test_a_step_that_writes_its_log(board: Board) -> None:
    board.done("download", "prepare", "train")
    log = board.log("predict", "", hour=1)
    with log.open("r"):
        assert board.why().status == "failed"
    with (
        log.open("a") as stream,
        subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=stream
        ) as child,
    ):
        stream.close()
        assert board.why().reason == f"predict: running: process {child.pid}"
        child.kill()
    assert board.why().reason == "predict: killed, no message"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", None),
        ("train fcn: 8/60\n", None),
        ("error: first\nerror: second\n  -> mend it\n", "second"),
        ("Error: No such option: --ouch\n", "No such option: --ouch"),
        ("\x1b[31merror: coloured\x1b[0m\n", "coloured"),
        ("train fcn: 8/60, 1.0/s, error: diverged at 9\n", "diverged at 9"),
        ("train: 10 %\rtrain: 20 %\rerror: full disk\n", "full disk"),
        ("[rank1]: error: diverged\n", "diverged"),
        ("Traceback (most recent call last):\n  File \"x\", line 1\n    f()\nValueError: bad\n",
         "ValueError: bad"),
        ("Traceback (most recent call last):\n  File \"x\", line 1\ntrain fcn: 8/60\n    f()\n"
         "zlib.error: Error -3\nresource_tracker: leaked\n", "zlib.error: Error -3"),
        ("Traceback (most recent call last):\n  File \"x\", line 1\nKeyError: 'a'\n\nDuring "
         "handling, another exception occurred:\n\nTraceback (most recent call last):\n"
         "  File \"x\", line 2\nMemoryError\n", "MemoryError"),
        ("error: heartbeat failed\nTraceback (most recent call last):\n  File \"x\"\nOSError: gone"
         "\n", "OSError: gone"),
        ("Fatal Python error: Segmentation fault\n\nThread 0x1\n",
         "Fatal Python error: Segmentation fault"),
        ("/usr/bin/python: No module named segbench\n",
         "/usr/bin/python: No module named segbench"),
        ("SIGTERM: saved at iteration 9, exit 75\n", "SIGTERM: saved at iteration 9, exit 75"),
    ],
)  # fmt: skip
def test_last_words(log: str, words: str | None) -> None:
    assert last_words(log) == words


def test_a_reason_is_short(board: Board) -> None:
    board.done("download", "prepare")
    board.log("train", f"error: {'x' * 5000}\n", hour=1)
    assert len(board.why().reason) == 500
