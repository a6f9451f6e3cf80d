"""The files a throw-away cluster reads: slurm.conf, gres.conf, null devices for GPUs, an srun."""

from __future__ import annotations

import os
import pwd
import random
import socket
import stat
from contextlib import suppress
from pathlib import Path

NULL_DEVICE = os.makedev(1, 3)

SLURM_CONF = """\
ClusterName=segbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
JobRequeue=1
ReturnToService=2
MinJobAge={min_job_age}
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout={node_timeout}
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=UNLIMITED DefMemPerCPU=200 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN"
)
GPUS = "NodeName={name} Name=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-{last}]"


def write_configuration(
    folder: Path,
    names: list[str],
    *,
    gpus: int,
    cpus: int,
    memory_mb: int,
    node_timeout: int,
    min_job_age: int,
) -> None:
    """Write slurm.conf and gres.conf; seconds for the times, MB and counts are a node's."""
    host = socket.gethostname().split(".")[0]
    controller_port, *ports = _free_ports(len(names) + 1)
    machine = {"host": host, "cpus": cpus, "memory_mb": memory_mb, "gpus": gpus}
    nodes = [
        NODE.format(name=name, port=port, **machine)
        for name, port in zip(names, ports, strict=True)
    ]
    text = SLURM_CONF.format(
        host=host,
        controller_port=controller_port,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        folder=folder,
        node_timeout=node_timeout,
        min_job_age=min_job_age,
        nodes="\n".join(nodes),
        names=",".join(names),
    )
    (folder / "slurm.conf").write_text(text)
    lines = [GPUS.format(name=name, folder=folder, last=gpus - 1) for name in names]
    (folder / "gres.conf").write_text("\n".join(lines) + "\n")


def make_devices(folder: Path, count: int) -> bool:
    """Make one device a GPU; False where this user may make plain files only.

    Slurm drains a node whose GPUs have no ``File=`` and hands out only character devices.
    """
    try:
        for index in range(count):
            os.mknod(folder / f"gpu{index}", stat.S_IFCHR | 0o666, NULL_DEVICE)
    except PermissionError:
        for index in range(count):
            (folder / f"gpu{index}").touch()
        return False
    return True


def write_srun(folder: Path, config: Path, srun: str) -> None:
    """Write an srun that restores SLURM_CONF, which the executor drops inside a job."""
    folder.mkdir()
    (folder / "srun").write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {srun} "$@"\n')
    (folder / "srun").chmod(0o755)


def _free_ports(count: int) -> list[int]:
    """Return ports below those that the system hands out, so that nobody gets one meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            found.append(port)
    return found
