"""Download from loopback and safe unpacking, beside the plain ways of the standard library.

python benchmarks/bench_download.py [--megabytes 500] [--files 10000]
"""

from __future__ import annotations

import argparse
import http.server
import os
import shutil
import tempfile
import threading
import time
import tracemalloc
import urllib.request
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from segbench.datasets.download.client import Client
from segbench.datasets.download.containers import container_kind
from segbench.datasets.download.digests import Expected
from segbench.datasets.download.transfer import Policy, fetch
from segbench.datasets.download.unpack import Limits, unpack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        transfer(Path(name), options.megabytes)
        unpacking(Path(name), options.files)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def transfer(folder: Path, megabytes: int) -> None:
    with (folder / "data.bin").open("wb") as stream:
        for _ in range(megabytes):
            stream.write(os.urandom(1_000_000))
    handler = partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/data.bin"

    def ours() -> None:
        policy = Policy()
        client = Client(timeout_s=policy.timeout_s)
        fetch([url], folder / "ours.bin", Expected(), client=client, policy=policy)

    def plain() -> None:
        with urllib.request.urlopen(url) as answer, (folder / "plain.bin").open("wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)

    report("download, sha256 and sync", ours, megabytes)
    report("urllib, nothing checked", plain, megabytes)
    server.shutdown()


def unpacking(folder: Path, files: int) -> None:
    data = os.urandom(50_000)
    for count in (files // 10, files):
        archive = folder / f"{count}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as container:
            for number in range(count):
                container.writestr(f"images/{number:06d}.jpg", data)
        out = folder / f"out{count}"
        out.mkdir()
        kind = container_kind(archive.name)
        assert kind is not None
        megabytes = count * len(data) // 1_000_000
        work = partial(unpack, archive, kind, folder=out, limits=Limits())
        report(f"unpack a zip of {count} files, sha256 of each", work, megabytes)
        plain = partial(shutil.unpack_archive, archive, folder / f"plain{count}")
        report(f"shutil.unpack_archive, {count} files", plain, megabytes)
        shutil.rmtree(out)
        out.mkdir()
        tracemalloc.start()
        work()
        print(f"  peak of Python memory: {tracemalloc.get_traced_memory()[1] / 1e6:.1f} MB")
        tracemalloc.stop()


def report(label: str, work: Callable[[], object], megabytes: int) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{label}: {megabytes / wall:.0f} MB/s, {cpu / megabytes * 1000:.1f} ms CPU per MB")


if __name__ == "__main__":
    main()
