"""``segbench run``: the whole board, by Snakemake."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from segbench.cli import output

ROOT = Path(__file__).resolve().parents[2]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--config", type=output.PATH, default=Path("config.yaml"), show_default=True)
@click.option("--cores", type=click.IntRange(min=1), help="Default: all of this machine.")
@click.option("--profile", help="Snakemake profile: slurm runs one cluster job a step.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would run.")
@click.argument("snakemake_options", nargs=-1, type=click.UNPROCESSED)
def run(
    config: Path, cores: int | None, profile: str | None, dry_run: bool,
    snakemake_options: tuple[str, ...],
) -> None:  # fmt: skip
    """Train, predict, score and render everything a configuration names.

    Finished steps are kept; the same command goes on after any interruption. Ctrl-C lets
    trainings save their state; a second one ends at once. Further options are handed to
    Snakemake.
    """
    from segbench.core.progress import say
    from segbench.workflow.plan import load_plan
    from segbench.workflow.supervisor import Supervisor

    plan = load_plan(config)
    command = [sys.executable, "-m", "segbench.core.quiet_start", "snakemake"]
    command += ["--snakefile", str(_snakefile())]
    command += ["--configfile", str(config)]
    if profile:
        command += ["--profile", profile]
    else:
        command += ["--cores", str(cores or os.cpu_count() or 1), "--keep-going"]
        command += ["--rerun-incomplete", "--scheduler", "greedy", *_gpu_limit()]
    command += ["--dry-run"] if dry_run else []
    command += snakemake_options
    say(shlex.join(command[3:]))
    code = Supervisor().run(command)
    if code == 0 and not dry_run:
        say(f"open {plan.results / 'report' / 'index.html'}")
    sys.exit(code)


def _snakefile() -> Path:
    from segbench.core.errors import ConfigError

    for folder in (Path.cwd(), ROOT):
        if (folder / "Snakefile").exists() and (folder / "workflow" / "rules").is_dir():
            return folder / "Snakefile"
    raise ConfigError(
        "no Snakefile here", fix="run this in a checkout of segbench (git clone), in its top folder"
    )


def _gpu_limit() -> list[str]:
    """Return the option that lets at most as many GPU jobs run as there are GPUs."""
    from segbench.workflow.machine import gpus

    found = gpus()
    return ["--resources", f"gpu={len(found)}"] if found else []
