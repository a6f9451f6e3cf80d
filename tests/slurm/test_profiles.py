"""The Snakemake profiles, without a cluster."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def load(name: str) -> dict[str, object]:
    values = yaml.safe_load((ROOT / "workflow" / "profiles" / name / "config.yaml").read_text())
    assert isinstance(values, dict)
    return values


def test_link_makes_profile_slurm_work_as_typed() -> None:
    link = ROOT / "slurm"
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert (link / "config.yaml").samefile(ROOT / "workflow/profiles/slurm/config.yaml")


def test_every_executor_option_exists() -> None:
    """An option that the executor renamed would stop every launch."""
    from snakemake_executor_plugin_slurm import ExecutorSettings

    known = {f"slurm-{item.name.replace('_', '-')}" for item in fields(ExecutorSettings)}
    assert {key for key in load("slurm") if key.startswith("slurm-")} <= known


def test_status_polls_outlive_a_day() -> None:
    profile = load("slurm")
    attempts, rate = profile["slurm-status-attempts"], profile["max-status-checks-per-second"]
    assert isinstance(attempts, int) and isinstance(rate, int)
    assert attempts / rate >= 24 * 3600


def test_gpus_of_a_job_are_on_one_node() -> None:
    resources = load("slurm")["default-resources"]
    assert isinstance(resources, dict) and resources["nodes"] == 1


def test_retries_are_in_the_profile_only() -> None:
    """A rule's own retries are repeated inside the job, in the first attempt's allocation."""
    assert load("slurm")["retries"] == 2
    rules = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    assert len(rules) > 1
    assert [p.name for p in rules if re.search(r"^\s*retries:", p.read_text(), re.M)] == []
