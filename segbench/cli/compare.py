"""``segbench compare``: is the difference between two scored rows real?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.statistics.comparison import Comparison
    from segbench.statistics.scored_folders import ScoredFolder

TASKS = ("semantic", "instance", "panoptic")
FOLDER = output.PATH


@click.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@click.option("--metric", help="A score, as miou, pq_things or iou.road; default: the task's.")
@click.option("--split", help="Where a run is scored on several.")
@click.option("--task", type=click.Choice(TASKS), help="Where a run is scored for several.")
@click.option("--protocol", help="Score both under this protocol; default: their own.")
@click.option("--level", default=0.95, show_default=True, help="Of the interval.")
@click.option("--resamples", default=1000, show_default=True, type=click.IntRange(100, 100_000))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(
    a: Path, b: Path, metric: str | None, split: str | None, task: str | None,
    protocol: str | None, level: float, resamples: int, as_json: bool,
) -> None:  # fmt: skip
    """Compare two scored rows A and B on the same images.

    A and B are run folders (seed0), experiment folders (the mean of their seeds), or folders
    with counts.npz from `segbench evaluate` or `segbench score --out`. The interval is a paired
    bootstrap over images; the spread over training seeds is printed apart.
    """
    from segbench.evaluation.protocol import get_protocol
    from segbench.evaluation.resampled import HEADLINE
    from segbench.statistics import comparison as stats
    from segbench.statistics.scored_folders import check_comparable, load_scored

    rows = [load_scored(folder, split=split, task=task) for folder in (a, b)]
    check_comparable(*rows, any_protocol=protocol is not None)
    rule = get_protocol(protocol or rows[0].protocol, task=rows[0].task)
    key = _metric(metric or HEADLINE[rows[0].task], rows[0])
    found = stats.compare(
        rows[0].runs, rows[1].runs, rule, key, level=level, resamples=resamples
    )  # fmt: skip
    seeds = [_seeds(row, rule, key) for row in rows]
    if as_json:
        facts = {"a": rows[0].name, "b": rows[1].name, "protocol": rule.versioned_id}
        output.json_out({**facts, **found.as_dict(), "seeds_a": seeds[0], "seeds_b": seeds[1]})
        return
    _show(found, rows, rule.id, metric or key, seeds)


def _metric(metric: str, row: ScoredFolder) -> str:
    """Return the metric with a class name replaced by its position."""
    key, dot, name = metric.partition(".")
    return f"{key}.{row.class_names.index(name)}" if dot and name in row.class_names else metric


def _seeds(row: ScoredFolder, protocol: Any, metric: str) -> dict[str, Any]:
    from dataclasses import asdict

    from segbench.evaluation.resampled import statistic
    from segbench.statistics.intervals import seed_spread

    return asdict(seed_spread([statistic(run, protocol, metric).estimate for run in row.runs]))


def _show(
    found: Comparison,
    rows: list[ScoredFolder],
    protocol: str,
    metric: str,
    seeds: list[dict[str, Any]],
) -> None:
    percent = f"{100 * found.level:g} %"
    click.echo(f"{metric} under {protocol}, {found.images} images, {found.resamples} resamples")
    for letter, row, value, spread in zip(
        "AB", rows, (found.estimate_a, found.estimate_b), seeds, strict=True
    ):
        over = f"  (sd over {spread['n']} seeds {100 * spread['sd']:.2f})" if spread["sd"] else ""
        click.echo(f"{letter}  {100 * value:6.2f}{over}  {row.name}")
    difference = f"A - B  {100 * found.difference:+.2f}  "
    if found.low is None or found.high is None or found.p is None:
        click.echo(f"{difference}no interval: {found.reason}")
        click.echo("not separable: whether A or B is better cannot be said from these images")
        return
    low, high, p = 100 * found.low, 100 * found.high, found.p
    click.echo(f"{difference}{percent} interval {low:+.2f} to {high:+.2f}")
    verdict = "not separable: these images do not tell A from B"
    if found.separable:
        verdict = (
            f"separable: {'A' if found.difference > 0 else 'B'} is better on images like these"
        )
    click.echo(f"p {'< 0.001' if p < 0.001 else f'{p:.3f}'}  {verdict}")
