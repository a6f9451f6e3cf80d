# The checked plan, and the few words all rule files share. Every cluster job parses this,
# so nothing here may import torch.
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake import persistence

from segbench.core import processes
from segbench.datasets.registry import dataset_info, dataset_source
from segbench.core.faults import report
from segbench.workflow.launch import Launch
from segbench.workflow.plan import Plan, load_plan
from segbench.workflow.cell import Cell
from segbench.report.assets import report_sources
from segbench.workflow.slurm_logs import FOLDER, memory_mb
from segbench.workflow.stages import stage_fingerprint
from segbench.workflow.submissions import folder_state


def read_plan() -> Plan:
    """Load the configuration named by --configfile, or config.yaml; stop on a mistake."""
    files = [Path(file) for file in workflow.overwrite_configfiles]
    results = config.get("results")  # of the file, or of --config results=...
    try:
        return load_plan(
            files[-1] if files else Path(workflow.basedir) / "config.yaml",
            results=None if results is None else str(results),
        )
    except Exception as error:
        raise SystemExit(report(error)) from None


PLAN = read_plan()
R = PLAN.results

# `exec`: a job is the process that Snakemake knows, so that a signal reaches it and is waited for
BEFORE = "exec "
if not workflow.deployment_settings.deployment_method:
    # `python` in a rule is the interpreter that runs Snakemake, activated or not
    BEFORE = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; exec "
shell.prefix(BEFORE)

LAUNCH = Launch(R, workflow, shell)
if workflow.is_main_process:
    LAUNCH.begin()
    # in place of Snakemake's lock, which is of a working directory, names nobody and outlives a
    # kill; dry runs and the jobs of a launch ask for neither
    base = (
        "PersistenceBase" if hasattr(persistence, "PersistenceBase") else "Persistence"
    )
    getattr(persistence, base).lock = lambda _: LAUNCH.lock()
else:
    os.environ.pop(processes.PARENT, None)

CONTROLS = sorted({cell.experiment for cell in PLAN.cells if cell.is_control})
SUBMISSIONS = sorted({cell.experiment for cell in PLAN.cells if cell.submission})
ORACLES = sorted({cell.experiment for cell in PLAN.cells if cell.oracles})
EXPERIMENTS = sorted({cell.experiment for cell in PLAN.trained})
LARGE_SPLIT = 400
"""Images from which on a pool of processes saves more time than it takes cores from others."""
FINGERPRINT = {
    stage: stage_fingerprint(stage)
    for stage in ("evaluate", "profile", "collect", "overlays")
}
FINGERPRINT["report"] = stage_fingerprint("report", texts=report_sources())


def cell_of(wildcards) -> Cell:
    """Return the cell a job works on."""
    return PLAN.by_key[wildcards.dataset, wildcards.experiment, int(wildcards.seed)]


def one_of(names) -> str:
    """Return a wildcard pattern that matches exactly these names."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def raw_folder(wildcards) -> str:
    """Return the --raw option of a dataset: the configured folder, or one that is filled."""
    raw = PLAN.dataset_config(wildcards.dataset).raw
    if raw is None and dataset_info(wildcards.dataset).archives:
        raw = R / "raw" / wildcards.dataset
    return f"--raw {shlex.quote(str(raw))}" if raw else ""


def dataset_options(wildcards) -> list[str]:
    """Return --option KEY=VALUE pairs, sorted so that their order never matters."""
    options = PLAN.dataset_config(wildcards.dataset).options
    return [f"--option={key}={value}" for key, value in sorted(options.items())]


def score_options(wildcards) -> list[str]:
    """Return the --task options of a cell, the --protocol a submission asks for, --boundary."""
    cell = cell_of(wildcards)
    options = [f"--task={task}" for task in cell.tasks]
    if cell.submission and cell.submission.protocol:
        options.append(f"--protocol={cell.submission.protocol}")
    if PLAN.config.evaluate.boundary:
        options.append("--boundary")
    return options


def score_processes(wildcards) -> int:
    """Return how many processes score a run: several where the official split is large."""
    images = dataset_info(wildcards.dataset).splits.get(cell_of(wildcards).split)
    return 4 if (images or 0) >= LARGE_SPLIT else 1


def trained_file(name):
    """Return the input function of a file of the run whose weights predict."""
    return lambda wildcards: R / cell_of(wildcards).trained_folder / name


def submission_facts() -> list[str]:
    """Return what submissions say of themselves, as far as the table repeats it."""
    return [cell.submission.model_dump_json() for cell in PLAN.cells if cell.submission]


def train_command(wildcards) -> str:
    """Return how the trainer is started: several times when a recipe asks for several GPUs."""
    gpus = cell_of(wildcards).recipe.gpus
    if gpus > 1:
        return f"python -m segbench.training.spawn {gpus}"
    return "python -m segbench"


def train_length(wildcards) -> str:
    """Return the --iterations option; the plan has already applied a run's override."""
    return f"--iterations {cell_of(wildcards).recipe.iterations}"


def memory(rule, base):
    """Return the resource function of a step's memory in MB; base may depend on the job."""

    def asked(wildcards, threads):
        first = base(wildcards, threads) if callable(base) else base
        return memory_mb(first, R / FOLDER, rule, list(wildcards))

    return asked


def train_memory(wildcards, threads) -> int:
    """Return the memory that a training asks for at first, in MB."""
    return 16000 if cell_of(wildcards).recipe.gpus else 4000


def train_priority(wildcards) -> int:
    """Return a rank that starts the rows listed first in the configuration first."""
    return 1000 + len(PLAN.trained) - PLAN.trained.index(cell_of(wildcards))


def base_files(name):
    """Return the input function of a file of the run that a training starts from, if any."""

    def files(wildcards) -> list[Path]:
        base = PLAN.base_of(cell_of(wildcards))
        return [] if base is None else [R / base.folder / name]

    return files


def all_records(wildcards) -> list[Path]:
    """Return every record the board shows."""
    return [R / path for path in PLAN.records()]


def all_overlays(wildcards) -> list[Path]:
    """Return the overlays of every cell, unless galleries are off."""
    made = PLAN.config.report.gallery_images > 0
    return [R / path for path in PLAN.overlays()] if made else []


def all_profiles(wildcards) -> list[Path]:
    """Return the profile of every trained cell."""
    return [R / cell.folder / "profile.json" for cell in PLAN.cells if cell.is_trained]


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    seed=r"\d+",
    split="[^/]+",
