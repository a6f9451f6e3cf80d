# The checked plan, and the few words every rule file uses. Parsed by every cluster job:
# nothing here may import torch.
import re
import sys
from pathlib import Path

from segbench import provenance
from segbench.datasets.registry import dataset_source
from segbench.errors import SegbenchError
from segbench.plan import Cell, Plan, load_plan


def read_plan() -> Plan:
    """Load the configuration named by --configfile, or config.yaml; stop on a mistake."""
    files = [Path(file) for file in workflow.overwrite_configfiles]
    results = config.get("results")
    try:
        return load_plan(
            files[-1] if files else Path(workflow.basedir) / "config.yaml",
            results=Path(results) if isinstance(results, str) else None,
        )
    except SegbenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        raise SystemExit(error.exit_code) from None


PLAN = read_plan()
R = PLAN.results
# the interpreter that runs Snakemake, unless rules get environments of their own
PYTHON = "python" if workflow.deployment_settings.deployment_method else sys.executable
CONTROLS = sorted({cell.experiment for cell in PLAN.cells if cell.is_control})
EXPERIMENTS = sorted({cell.experiment for cell in PLAN.cells if not cell.is_control})
FINGERPRINT = {
    stage: provenance.code_fingerprint([provenance.module_file(module)])
    for stage, module in {
        "evaluate": "evaluation.folder",
        "profile": "profiling",
        "collect": "results",
        "report": "html",
    }.items()
}


def cell_of(wildcards) -> Cell:
    """Return the cell a job works on."""
    return PLAN.by_key[wildcards.dataset, wildcards.experiment, int(wildcards.seed)]


def one_of(names) -> str:
    """Return a wildcard pattern that matches exactly these names."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    seed=r"\d+",
    split="[^/]+",
    task="semantic|instance|panoptic",


localrules:
    all,
    download,
    collect,
    report,
