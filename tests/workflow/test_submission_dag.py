"""A prediction folder made elsewhere becomes a row of the board: no training, no PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

CONFIG = """\
datasets:
  digit_scenes:
    options: {train: 2, val: 2}
runs:
  - {dataset: digit_scenes, controls: [shifted_labels], submissions: [perfect, missing]}
report: {gallery_images: 0}
"""
SUBMISSION = """\
dataset: digit_scenes
tasks: [semantic]
folder: perfect
display_name: Perfect net
paper: Nobody, Nowhere
year: 2026
reported: {miou: 97.5}
"""
NO_TORCH = 'raise ImportError("a submission must not need torch")\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a checkout with a copy of the truth as one submission, and one without files."""
    made = tmp_path_factory.mktemp("submission")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("segbench", "workflow", "envs", "report"):
        shutil.copytree(ROOT / name, made / name, ignore=ignore)
    shutil.copy(ROOT / "Snakefile", made)
    (made / "torch.py").write_text(NO_TORCH)
    (made / "config.yaml").write_text(CONFIG)
    submissions = made / "workflow/submissions"
    submissions.mkdir(exist_ok=True)
    (submissions / "perfect.yaml").write_text(SUBMISSION)
    text = SUBMISSION.replace("folder: perfect", "folder: nowhere").replace("Perfect", "Missing")
    (submissions / "missing.yaml").write_text(text)
    truth = made / "truth"
    run(made, "segbench", "prepare", "digit_scenes", "--option=train=2", "--option=val=2",
        "--out", str(truth))  # fmt: skip
    shutil.copytree(truth / "semantic/val", made / "perfect/semantic")
    return made


def run(folder: Path, module: str, *arguments: str, check: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == check, done.stdout[-6000:]
    return done.stdout


def snakemake(folder: Path, *options: str, check: int = 0) -> str:
    return run(folder, "snakemake", "--cores", "2", "--keep-going", *options, check=check)


def test_folder_to_ranked_row(folder):
    snakemake(folder, check=1)
    table = json.loads((folder / "results/partial/table.json").read_text())
    cells = {cell["experiment"]: cell for cell in table["cells"] if cell["task"] == "semantic"}
    perfect, missing = cells["perfect"], cells["missing"]
    assert (perfect["kind"], perfect["status"], perfect["profile"]) == ("submission", "ok", None)
    assert perfect["record"]["scores"]["miou"] == 1.0
    assert perfect["record"]["kind"] == "submission"
    assert perfect["submission"] == {
        "paper": "Nobody, Nowhere", "year": 2026, "reported": {"miou": 97.5},
    }  # fmt: skip
    assert missing["status"] == "failed"
    assert "nowhere: the folder of predictions does not exist" in missing["reason"]
    page = (folder / "results/report/index.html").read_text()
    row = page[page.index('data-name="Perfect net"') :]
    row = row[: row.index("</tr>")]
    assert 'class="rank" data-v="1"' in row
    assert "submitted: reported mIoU 97.5, here +2.5" in row
    assert "Nobody, Nowhere (2026)" in row


@pytest.mark.fault(25)
def test_only_a_changed_folder_is_taken_over_again(folder):
    target = "results/digit_scenes/perfect/seed0/evaluation/val/records.json"
    assert "Nothing to be done" in snakemake(folder, "--dry-run", target)
    file = folder / "workflow/submissions/perfect.yaml"
    file.write_text(file.read_text().replace("97.5", "98.5"))
    assert "Nothing to be done" in snakemake(folder, "--dry-run", target)
    image = sorted((folder / "perfect/semantic").iterdir())[0]
    os.utime(image, (1, 1))
    printed = snakemake(folder, "--dry-run", target)
    assert "rule submit:" in printed
    assert "rule evaluate:" in printed
    assert "rule control:" not in printed


@pytest.mark.fault(24)
def test_a_mistake_in_a_submission_stops_before_the_dag(folder):
    file = folder / "workflow/submissions/perfect.yaml"
    before = file.read_text()
    file.write_text(before.replace("dataset: digit_scenes", "dataset: digit_scene"))
    printed = snakemake(folder, "--dry-run", check=2)
    file.write_text(before)
    assert "perfect.yaml: " in printed
    assert "Did you mean 'digit_scenes'?" in printed
    assert "Traceback" not in printed
