"""Three hundred wrong command lines end in one message each, and in no traceback.

Other cases: SEGBENCH_MISUSES=3000 SEGBENCH_MISUSE_SEED=7 pytest tests/cli/test_misuse.py
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from segbench.cli import COMMANDS, main
from tests.cli.misuses import Case, Misuses

NUMBER = int(os.environ.get("SEGBENCH_MISUSES", "300"))
SEED = int(os.environ.get("SEGBENCH_MISUSE_SEED", "0"))
RECIPE = """
    model: fcn_tiny
    dataset: digit_scenes
    task: semantic
    paper_recipe: none
    iterations: 2
    batch_size: 2
    base_lr: 0.01
    gpus: 0
    profile_size: [32, 32]
"""
BOARD = """
    results: {base}/results
    experiments_folder: {base}/experiments
    submissions_folder: {base}/submissions
    datasets: {{digit_scenes: {{options: {{train: 4, val: 10, seed: 0}}}}}}
    runs: [{{dataset: digit_scenes, controls: [oracle], experiments: [fcn_tiny]}}]
    report: {{title: misuse, gallery_images: 2}}
"""
SUBMISSION = """
    dataset: digit_scenes
    tasks: [semantic]
    folder: {base}/predictions
"""
SILENT = ("doctor", "check-data", "run", "redo")
"""Commands that fail without an error too: by what they find, or what Snakemake says."""
RIGHT = {
    "run": ["--config", "{base}/config.yaml", "--cores", "1", "--dry-run", "--quiet", "all"],
    "redo": ["digit_scenes/fcn_tiny/seed0", "--config", "{base}/config.yaml", "--yes"],
    "doctor": ["--results", "{base}/results"],
    "models": ["--task", "semantic"],
    "recipes": ["--folder", "{base}/experiments", "--differences"],
    "datasets": ["--root", "{base}/results", "--raw-root", "{base}/raw"],
    "protocols": ["coco-panoptic"],
    "score": [
        "--task", "semantic", "--gt", "{base}/data/semantic/val", "--pred",
        "{base}/predictions/semantic", "--num-classes", "14", "--out", "{new}/out",
    ],
    "compare": ["{base}/evaluation/semantic", "{base}/evaluation/semantic", "--resamples", "100"],
    "explain": [
        "--task", "semantic", "--gt", "{base}/data/semantic/val",
        "--pred", "{base}/predictions/semantic", "--protocol", "semantic-pooled",
        "--num-classes", "14",
    ],
    "download": ["digit_scenes", "--raw", "{base}/raw", "--out", "{new}/record.json"],
    "prepare": [
        "digit_scenes", "--out", "{new}/data", "--option", "train=2", "--option", "val=10",
        "--workers", "1",
    ],
    "check-data": ["{base}/data", "--workers", "1"],
    "train": [
        "{base}/fcn_tiny.yaml", "--data", "{base}/data", "--out", "{new}/out",
        "--state", "{new}/state", "--device", "cpu",
    ],
    "predict": [
        "{base}/fcn_tiny.yaml", "--run", "{base}/run", "--data", "{base}/data",
        "--out", "{new}/out", "--device", "cpu",
    ],
    "control": ["shifted_labels", "--data", "{base}/data", "--out", "{new}/out"],
    "submit": ["{base}/submissions/mine.yaml", "--data", "{base}/data", "--out", "{new}/out"],
    "evaluate": [
        "--data", "{base}/data", "--predictions", "{base}/predictions", "--out", "{new}/out",
    ],
    "profile": ["{base}/fcn_tiny.yaml", "--num-classes", "5", "--device", "cpu"],
    "overlays": [
        "--data", "{base}/data", "--predictions", "{base}/predictions",
        "--evaluation", "{base}/evaluation", "--out", "{new}/out", "--images", "2",
    ],
    "collect": ["--config", "{base}/config.yaml", "--out", "{new}/table.json"],
    "report": ["{base}/table.json", "--out", "{new}/site"],
}  # fmt: skip
"""A right command line of each command."""


def call(arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run the command line in this process; return its exit code and all it printed."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["segbench", *arguments], io.StringIO()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main()
    except SystemExit as stopped:
        code = stopped.code
    finally:
        sys.argv, sys.stdin = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed.flush()
    return int(code or 0), printed.buffer.getvalue().decode()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A finished board of two images, and every file that its commands read and wrote."""
    base = tmp_path_factory.mktemp("right")
    texts = {
        "fcn_tiny.yaml": RECIPE, "experiments/digit_scenes/fcn_tiny.yaml": RECIPE,
        "config.yaml": BOARD, "submissions/mine.yaml": SUBMISSION,
    }  # fmt: skip
    for name, text in texts.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        filled = text if text is RECIPE else text.format(base=base)
        (base / name).write_text(textwrap.dedent(filled))
    for folder in ("raw", "results"):
        (base / folder).mkdir()
    places = {"train": "run", "predict": "predictions", "evaluate": "evaluation",
              "collect": "table.json", "prepare": "data"}  # fmt: skip
    for command in ("prepare", "train", "predict", "evaluate", "collect"):
        words = [word.replace("{base}", str(base)) for word in RIGHT[command]]
        words[words.index("--out") + 1] = str(base / places[command])
        words = [word.replace("{new}", str(base / "new")) for word in words]
        code, text = call((command, *words))
        assert code == 0, text
    shutil.rmtree(base / "new")
    return base


def complaint(case: Case, code: int, text: str) -> str:
    """Say what is wrong with how a case ended; empty where nothing is."""
    lines = [line for line in text.splitlines() if line.lower().startswith(("error:", "usage:"))]
    if "Traceback" in text or code in (70, 120, 134, -6, -11):
        return "a traceback or a defect"
    if code != 0 and not lines and case.arguments[0] not in SILENT:
        return "no message"
    aborted = code == 130 and case.arguments[0] == "redo"  # its question has no answer
    return "a wrong exit code" if code not in (0, 1, 2, 3) and not aborted else ""


def test_every_right_command_line_is_right(base, tmp_path):
    """Or the mistakes below would not be what ends them."""
    assert set(RIGHT) == set(COMMANDS)
    for command in COMMANDS:
        if command in ("run", "doctor"):  # Snakemake, and a machine without Slurm
            continue
        words = [w.replace("{base}", str(base)).replace("{new}", str(tmp_path / command))
                 for w in RIGHT[command]]  # fmt: skip
        code, text = call((command, *words))
        assert code == 0, (command, text)


def test_random_misuses_end_in_one_message(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.run", _no_process(subprocess.run))
    bad, failed = [], 0
    for case in Misuses(base, RIGHT, tmp_path, seed=SEED).cases(NUMBER):
        code, text = call(case.arguments)
        failed += code != 0
        wrong = complaint(case, code, text)
        if wrong:
            bad.append(f"{wrong}, exit {code}: {case}\n{text[-1500:]}")
    assert not bad, f"{len(bad)} of {NUMBER}\n" + "\n\n".join(bad)
    assert failed > 0.6 * NUMBER


def _no_process(run):
    """Let no case start Snakemake."""

    def call(command, *arguments, **options):
        if "snakemake" in command:
            return subprocess.CompletedProcess(command, 1, "", "")
        return run(command, *arguments, **options)

    return call


PIPES = [
    ("models > /dev/full", 1, "No space left on device"),
    ("models --json > /dev/full", 1, "free disk space"),
    ("--help > /dev/full", 1, "No space left on device"),
    ("datasets --json > /dev/full", 1, "No space left on device"),
    ("report no.json --out x > /dev/full", 1, "no.json does not exist"),
    ("report no.json --out x > /dev/full 2>&1", 1, ""),
    ("models >&-", 0, ""),
    ("models <&- >&- 2>&-", 0, ""),
    ("report no.json --out x 2>&-", 1, ""),
    ("report no.json --out x >&-", 1, "no.json does not exist"),
    ("trian > /dev/full", 2, "Did you mean 'train'"),
    ("models --json | head -c 1", None, ""),
    ("protocols | true", None, ""),
]
MODULES = [
    "segbench.panopticapi.evaluation --gt_json_file {0} --pred_json_file {0}",
    "segbench.panopticapi.converters.panoptic2detection_coco_format --input_json_file {0} "
    "--output_json_file {0}/out.json",
    "segbench.workflow.watchdog {0}",
]


@pytest.mark.parametrize(("words", "code", "message"), PIPES, ids=lambda v: str(v)[:60])
def test_full_and_closed_streams(tmp_path, words, code, message):
    done = _shell(f"{sys.executable} -m segbench {words}", tmp_path)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert message in done.stderr
    assert done.returncode in ((0, 1, 141) if code is None else (code,))  # 1: rich's own
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", MODULES)
@pytest.mark.parametrize("file", ["/dev/null", "/nowhere/x.json", "/proc/self/mem"])
def test_other_programs_of_the_package(tmp_path, words, file):
    done = _shell(f"{sys.executable} -m {words.format(file)}", tmp_path)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stdout + done.stderr
    assert "error: " in done.stderr


def test_a_defect_names_its_places_and_the_whole_traceback_on_request(monkeypatch):
    def broken():
        raise KeyError("nobody expects this")

    monkeypatch.setattr("segbench.models.registry.model_infos", broken)
    code, text = call(("models",))
    assert code == 70
    assert "KeyError: 'nobody expects this'" in text and "test_misuse.py" in text
    assert "Traceback" not in text and "SEGBENCH_TRACEBACK=1" in text
    monkeypatch.setenv("SEGBENCH_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in call(("models",))[1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (MemoryError("std::bad_alloc"), "out of memory: std::bad_alloc"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
        (OSError(12, "Cannot allocate memory"), "out of memory"),
        (ImportError("no lib", name="torch"), "cannot import torch: no lib"),
        (OSError(30, "Read-only file system", "/data/x"), "/data/x: Read-only file system"),
        (PermissionError(13, "Permission denied", b"/data/x"), "/data/x: Permission denied"),
        (OSError(28, "No space left on device", "a", None, "b"), "a -> b: No space left"),
        (OSError("bad thing"), "error: bad thing"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "no UTF-8 text"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ValueError("embedded null byte"), "null character"),
    ],
    ids=repr,
)
def test_faults_of_the_machine_and_of_inputs_are_one_message(monkeypatch, error, message):
    def broken():
        raise error

    monkeypatch.setattr("segbench.models.registry.model_infos", broken)
    code, text = call(("models",))
    assert code == 1
    assert message in text and "unexpected" not in text
    assert text.startswith("error: ") and len(text.splitlines()) <= 2


def _shell(command, folder):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
