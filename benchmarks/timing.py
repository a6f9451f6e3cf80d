"""Candidates timed in turns, so that whatever else the machine does slows all of them alike."""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    items: int = 1,
    item: str = "run",
) -> dict[str, float]:
    """Print CPU milliseconds an item and the ratio to the first candidate; return medians.

    CPU time of this process is taken because a busy machine hardly changes it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for function in candidates.values():
        function()
    for _ in range(rounds):
        for name, function in candidates.items():
            gc.collect()
            begin = time.process_time()
            function()
            seconds[name].append(time.process_time() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(medians.values()))
    print(f"{'candidate':44} {'ms/' + item:>12} {'lowest':>9} {'ratio':>8}")
    for name, median in medians.items():
        lowest = min(seconds[name])
        print(
            f"{name:44} {1e3 * median / items:12.3f} {1e3 * lowest / items:9.3f} "
            f"{first / max(median, 1e-9):8.2f}",
            flush=True,
        )
    return medians


def on_device(description: str) -> argparse.Namespace:
    """Return ``rounds`` and ``device`` (cpu or cuda) from the command line; one CPU thread."""
    import torch

    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    torch.set_num_threads(1)
    return parser.parse_args()


def gpu_milliseconds(function: Callable[[], object], *, times: int) -> float:
    """Return the mean of several calls on a GPU, after one that is not counted."""
    import torch

    function()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        function()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin) / times
