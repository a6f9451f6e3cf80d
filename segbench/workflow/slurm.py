"""Whether `snakemake --profile slurm` will work here: what the Slurm of this machine answers.

Every check is one call of a Slurm program. The dangers looked for are those in which the
executor waits for ever without a word: a status command that fails, finished jobs that are
forgotten before they are seen, jobs that are cancelled by preemption.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.yaml_reader import read_yaml_file

PROFILE = Path("slurm/config.yaml")
JOB_PREFIX = "segbench"
LONGEST_POLL = 180
"""Seconds between two looks at the queue, at most; fixed in the executor."""
SECONDS = {"": 1, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600}
ALIVE = frozenset(
    {"CONFIGURING", "COMPLETING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"}
    | {"RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
)
"""States of jobs that are not over."""
Finding = dict[str, str]


class SlurmSilent(Exception):
    """A Slurm program failed; the message is the last line it printed."""


def check_slurm(profile: Path = PROFILE) -> list[Finding]:
    """Check the Slurm a profile would submit to.

    Args:
        profile: The ``config.yaml`` of a Snakemake profile; a missing file means the defaults.

    Returns:
        Findings with ``check``, ``status`` (``ok``, ``note`` or ``problem``) and ``detail``.
        No Slurm on this machine is one note.
    """
    if shutil.which("sbatch") is None:
        return [_finding("slurm", "note", "no sbatch here: only --profile slurm needs it")]
    try:
        settings = _settings(profile)
    except ConfigError as error:
        return [_finding("slurm profile", "problem", error.what)]
    try:
        version = _ask("sinfo", "--version")
        partitions = [
            line.split("|") for line in _ask("sinfo", "-h", "-o", "%P|%a|%l|%D|%G").splitlines()
        ]
        configuration = _configuration(_ask("scontrol", "show", "config"))
    except SlurmSilent as error:
        return [_unreachable(str(error))]
    return [
        _finding("slurm", "ok", version),
        _partition(partitions, settings),
        _gpus(partitions),
        _status_command(configuration, settings),
        _preemption(configuration),
        _earlier_jobs(),
    ]


def keeps_accounting() -> bool:
    """Say whether sacct can know anything here; yes where the cluster does not answer."""
    with suppress(SlurmSilent):
        return _accounts(_configuration(_ask("scontrol", "show", "config")))
    return True


def put_first_on_path(folder: Path) -> None:
    """Let programs of a folder stand in for those of the same name, here and in child processes."""
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def state_of_job(number: str) -> str:
    """Return the state of one of our jobs, as RUNNING or TIMEOUT; empty where no one knows it."""
    return _states_of_our_jobs().get(number, "")


@cache
def _states_of_our_jobs() -> dict[str, str]:
    """Return the states by job id; the cluster is asked once a process.

    The controller forgets a finished job after ``MinJobAge``; accounting, where there is some,
    does not.
    """
    sources = (
        ("sacct", "-X", "--noheader", "--parsable2", "--starttime=now-10days",
         "--format=JobIDRaw,JobName,State"),
        ("squeue", "--me", "--noheader", "--states=all", "--format=%A|%j|%T"),
    )  # fmt: skip
    states: dict[str, str] = {}
    for command in sources if shutil.which("sbatch") else ():
        with suppress(SlurmSilent):
            rows = [line.split("|") for line in _ask(*command).splitlines()]
            states |= {
                row[0]: row[-1].split()[0]
                for row in rows
                if len(row) >= 3 and row[1].startswith(JOB_PREFIX) and row[-1]
            }
    return states


def _partition(partitions: list[list[str]], settings: Mapping[str, Any]) -> Finding:
    limits = {name.rstrip("*"): limit for name, _, limit, _, _ in partitions}
    default = next((name[:-1] for name, *_ in partitions if name.endswith("*")), None)
    wanted = settings["slurm_partition"] or default
    if wanted is None:
        return _finding(
            "slurm partition",
            "problem",
            f"the cluster has no default partition: set slurm_partition in the profile "
            f"to one of {', '.join(sorted(limits))}",
        )
    if wanted not in limits:
        hint = did_you_mean(str(wanted), limits) or f" There are {', '.join(sorted(limits))}."
        return _finding("slurm partition", "problem", f"no partition '{wanted}'.{hint}")
    return _finding("slurm partition", "ok", f"{wanted}, longest job {limits[wanted]}")


def _gpus(partitions: list[list[str]]) -> Finding:
    having = sorted({row[0].rstrip("*") for row in partitions if re.search(r"\bgpu\b", row[4])})
    if having:
        return _finding("slurm gpu", "ok", f"in {', '.join(having)}")
    return _finding("slurm gpu", "note", "no partition has GPUs: use recipes with `gpus: 0`")


def _status_command(configuration: Mapping[str, str], settings: Mapping[str, Any]) -> Finding:
    """Run the profile's status command as the executor does, and ask whether it forgets jobs."""
    command = str(settings["slurm-status-command"])
    check = f"slurm status ({command})"
    accounting = _accounts(configuration)
    other = "sacct" if command == "squeue" and accounting else "squeue"
    advice = f"set `slurm-status-command: {other}` in the profile"
    try:
        _ask(*_status_call(command))
    except SlurmSilent as error:
        return _finding(check, "problem", f"{error}; {advice if other != command else ''}")
    if command == "sacct" and not accounting:
        return _finding(check, "problem", f"this cluster keeps no accounting; {advice}")
    return _memory_of_jobs(check, command, configuration, settings, advice if accounting else "")


def _accounts(configuration: Mapping[str, str]) -> bool:
    kind = configuration.get("AccountingStorageType", "")
    return kind != "(null)" and not kind.endswith("none")


def _memory_of_jobs(
    check: str,
    command: str,
    configuration: Mapping[str, str],
    settings: Mapping[str, Any],
    advice: str,
) -> Finding:
    age = _seconds(configuration.get("MinJobAge", ""))
    first_poll = int(settings["slurm-init-seconds-before-status-checks"])
    needed = max(3 * first_poll, LONGEST_POLL + 60)
    if command == "squeue" and age < needed:
        return _finding(
            check,
            "problem",
            f"finished jobs are forgotten after {age} s (MinJobAge), {needed} s are needed; "
            f"{advice or 'ask the administrator: without accounting there is no other way'}",
        )
    return _finding(check, "ok", f"answers; finished jobs are kept {age} s (MinJobAge)")


def _preemption(configuration: Mapping[str, str]) -> Finding:
    mode = configuration.get("PreemptMode", "OFF")
    if "CANCEL" in mode.upper():
        return _finding(
            "slurm preemption",
            "note",
            f"PreemptMode={mode}: a preempted job is not requeued and the run waits for it "
            f"for ever; use a partition that is not preempted",
        )
    return _finding("slurm preemption", "ok", f"PreemptMode={mode}")


def _earlier_jobs() -> Finding:
    try:
        lines = _ask("squeue", "--me", "-h", "-t", "PD,R", "-o", "%i|%j").splitlines()
    except SlurmSilent as error:
        return _finding("slurm jobs", "note", str(error))
    jobs = [line.split("|")[0] for line in lines if line.split("|")[-1].startswith(JOB_PREFIX)]
    if not jobs:
        return _finding("slurm jobs", "ok", "none of ours in the queue")
    return _finding(
        "slurm jobs",
        "note",
        f"{len(jobs)} of ours in the queue. If no `snakemake` of yours runs any more, end them "
        f"before the next launch: scancel {' '.join(jobs)}",
    )


def _settings(profile: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if profile.is_file():
        loaded = read_yaml_file(profile).values
        values = loaded if isinstance(loaded, dict) else {}
    resources = values.get("default-resources")
    partition = resources.get("slurm_partition") if isinstance(resources, dict) else None
    automatic = "sacct" if shutil.which("sacct") else "squeue"
    first_poll = "slurm-init-seconds-before-status-checks"
    return {
        "slurm_partition": partition,
        "slurm-status-command": values.get("slurm-status-command", automatic),
        first_poll: values.get(first_poll, 40),
    }


def _status_call(command: str) -> list[str]:
    if command == "sacct":
        options = ["-X", "--parsable2", "--noheader", "--format=JobIdRaw,State"]
        return ["sacct", *options, "--clusters", "all", "--name", JOB_PREFIX]
    return [command, "--format=%i|%T", "--states=all", "--noheader", "--name", JOB_PREFIX]


def _configuration(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _seconds(text: str) -> int:
    """Return a Slurm duration such as ``300 sec`` in seconds; 0 when it cannot be read."""
    match = re.match(r"(\d+)\s*([a-z]*)", text)
    return int(match[1]) * SECONDS.get(match[2].rstrip("s") or match[2], 1) if match else 0


def _unreachable(message: str) -> Finding:
    if "configuration source" in message:
        return _finding("slurm", "note", "Slurm programs without a cluster: no slurm.conf found")
    return _finding("slurm", "problem", f"the cluster does not answer: {message}")


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilent(f"{command[0]}: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{command[0]} exit code {done.returncode}"]
        raise SlurmSilent(lines[-1])
    return done.stdout.strip()


def _finding(check: str, status: str, detail: str) -> Finding:
    return {"check": check, "status": status, "detail": detail}
