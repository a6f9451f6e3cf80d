"""A metric is one function and one row: record, table, page, interval and ties follow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = 'SCORES: Mapping[str, tuple[Metric, ...]] = {\n    "semantic": (\n'
FUNCTION = '''
from segbench.evaluation.ratios import mean_known, divide
from segbench.evaluation.semantic.resampled import of_class_totals


def mean_precision(hits: FloatArray, truth: FloatArray, predicted: FloatArray) -> FloatArray:
    """Return the mean over classes of the share of predicted pixels that are right."""
    return mean_known(divide(hits, predicted))


'''
ROW = (
    '        Metric("mean_precision", "Mean prec.", "mean precision of the classes",\n'
    "               statistic=of_class_totals(mean_precision)),\n"
)
PROGRAM = """
import json, sys
from pathlib import Path
from segbench.evaluation.counts import load_counts
from segbench.evaluation.protocol import get_protocol
from segbench.formats.tidy_table import tidy_csv
from segbench.report.render import render_report
from segbench.statistics.intervals import headline_intervals, interval
from segbench.statistics.ties import tie_groups
from tests.report import fabricated_results
from tests.statistics.made_counts import semantic_counts

root = Path(sys.argv[1])
fabricated_results.build(root)
table = json.loads((root / "table.json").read_text())
render_report(root / "table.json", root / "site")
records = [c["record"] for c in table["cells"] if c["task"] == "semantic" and c["record"]]
rule = get_protocol("semantic-pooled")
rows = {name: {"semantic": semantic_counts(seed=seed, images=12)} for seed, name in enumerate("ab")}
found = interval(rows["a"], rule, "mean_precision", resamples=200)
print(json.dumps({
    "scores": [record["scores"].get("mean_precision") for record in records],
    "csv": tidy_csv(table).splitlines()[0].split(","),
    "page": "Mean prec." in "".join(p.read_text() for p in (root / "site").glob("**/*.html")),
    "ends": [found.low, found.estimate, found.high],
    "headline": list(headline_intervals(rows["a"], rule)),
    "ties": len(tie_groups(rows, rule, "mean_precision", resamples=200)),
}))
"""


@pytest.mark.parametrize("first", [False, True])
def test_a_further_metric_is_one_function_and_one_row(tmp_path: Path, first: bool) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "segbench", tmp_path / "segbench", ignore=ignore)
    (tmp_path / "report").symlink_to(ROOT / "report")
    file = tmp_path / "segbench/evaluation/metrics.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(ROWS) == 1
    end = text.index("    ),\n", text.index(ROWS))
    place = text.index(ROWS) + len(ROWS) if first else end
    text = text[:place] + ROW + text[place:]
    file.write_text(text.replace(ROWS, FUNCTION + ROWS), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "results")], cwd=tmp_path,
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    known = [value for value in found["scores"] if value is not None]
    assert len(known) > 1
    assert all(0 < value <= 1 for value in known)
    assert "mean_precision" in found["csv"]
    assert found["page"]
    low, estimate, high = found["ends"]
    assert low < estimate < high
    assert found["headline"] == ["mean_precision" if first else "miou"]
    assert found["ties"] == 2
