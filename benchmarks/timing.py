"""Candidates timed in turns, so that whatever else the machine does slows all of them alike."""

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
