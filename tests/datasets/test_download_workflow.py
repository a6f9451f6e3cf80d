"""A dataset with archives and no ``raw:`` in the configuration is downloaded by the workflow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.core.files import read_json
from segbench.datasets import dataset_info
from tests.datasets.archive_maker import make_archives
from tests.datasets.fault_server import FaultServer, status
from tests.datasets.miniatures import builder_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "runs: [{dataset: ade20k, controls: [oracle]}]\n"


@pytest.mark.slow
def test_archives_are_fetched_before_they_are_prepared(tmp_path):
    builder_of("ade20k")(tmp_path / "built")
    info = dataset_info("ade20k")
    digests = make_archives(info, tmp_path / "built", tmp_path / "site")
    (tmp_path / "config.yaml").write_text(CONFIG)
    with FaultServer(folder=tmp_path / "site") as server:
        address = f"/ade20k/{info.archives[0].name}"
        server.always[address] = status(404)
        text = snakemake(tmp_path, server, digests, check=1)
        assert f"{server.url}{address}: HTTP 404" in text
        assert not (tmp_path / "results/raw/ade20k.json").exists()
        server.always.clear()
        snakemake(tmp_path, server, digests)
        assert len(server.requests) == 2
    record = read_json(tmp_path / "results/raw/ade20k.json")
    assert record["raw"] == "results/raw/ade20k"
    assert [a["archive"] for a in record["archives"]] == [info.archives[0].name]
    assert read_json(tmp_path / "results/data/ade20k/dataset.json")["splits"]["val"] == 2


def snakemake(folder, server, digests, *, check=0):
    environment = {
        **os.environ, "SEGBENCH_MIRROR": server.url, "SEGBENCH_MIRROR_DIGESTS": str(digests),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "snakemake", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"),
        "--directory", str(folder), "--configfile", str(folder / "config.yaml"),
        "--show-failed-logs", "results/data/ade20k/dataset.json",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment, timeout=300, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == check, done.stdout[-5000:]
    return done.stdout
