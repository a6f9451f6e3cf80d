"""Charts of the report: Vega-Lite by Altair, with a static SVG twin made without a browser.

Every function returns a plain Vega-Lite specification that depends on its arguments only.
Colours come from ``config`` so that one specification serves the light and the dark theme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt

from segbench.report.charts import labels

Spec = dict[str, Any]
HEIGHT = 300
MAX_POINTS = 160
"""Points of one training curve; longer logs are averaged over equal bins."""

THEME = {
    "ink": ("#1d1f23", "#eceae4"),
    "muted": ("#5a5f68", "#a7abb3"),
    "line": ("#dfddd6", "#33373e"),
    "accent": ("#0b5f8a", "#7cc4ee"),
    "paper": ("#ffffff", "#191b1f"),
}
"""Light and dark value of each colour role; the style sheet uses the same values."""
SERIES = ("#3f7cac", "#c8642b", "#3c8d5a", "#a8528f", "#8a7a22", "#6b6fc4", "#b5484f", "#4d8f96")
"""Line colours with at least 3 : 1 against both papers."""


@dataclass(frozen=True)
class Point:
    """One model in an accuracy-against-cost chart; ``score`` is in percent."""

    name: str
    score: float
    cost: float
    href: str
    label: str


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points no other beats in cost and score, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score, p.name)):
        same = kept and (point.cost, point.score) == (kept[-1].cost, kept[-1].score)
        if not kept or same or point.score > kept[-1].score:
            kept.append(point)
    return kept


def pareto(points: Sequence[Point], *, x_title: str, y_title: str) -> Spec:
    """Return the scatter of score against cost (log scale) with the front as a step line."""
    kept = {id(point) for point in front(points)}
    places = labels.place([(math.log10(p.cost), p.score, p.name) for p in points])
    rows = [
        {**point.__dict__, "front": id(point) in kept, **place}
        for point, place in zip(points, places, strict=True)
    ]
    x = alt.X(
        "cost:Q",
        title=x_title,
        scale=alt.Scale(type="log", nice=False, padding=44),
        axis=alt.Axis(tickCount=5, format="~s", grid=False),
    )
    scores = [point.score for point in points]
    room = max(1.0, 0.14 * (max(scores) - min(scores)))
    domain = [max(0.0, min(scores) - room), min(100.0, max(scores) + room)]
    y = alt.Y("score:Q", title=y_title, scale=alt.Scale(domain=domain, nice=False))
    base = alt.Chart(_data(rows)).encode(x=x, y=y)
    step = base.transform_filter("datum.front").mark_line(
        interpolate="step-after", strokeDash=[2, 3], strokeWidth=1.5, color=_c("accent")
    )
    text = base.mark_text(
        dx=alt.expr("datum.dx"),
        dy=alt.expr("datum.dy"),
        align=alt.expr("datum.align"),
        fontSize=11,
        color=_c("ink"),
        limit=170,
    ).encode(text="shown:N")
    return _finished(alt.layer(step, _dots(base), text))


def _dots(base: Any) -> Any:
    return base.mark_point(size=85, strokeWidth=2, color=_c("accent"), opacity=1).encode(
        fill=alt.condition("datum.front", alt.value(_c("accent")), alt.value(_c("paper"))),
        href="href:N",
        tooltip=alt.Tooltip("label:N", title=" "),
        description="label:N",
    )


def binned(log: Sequence[Mapping[str, Any]], *, limit: int = MAX_POINTS) -> list[dict[str, Any]]:
    """Return (iteration, loss) points of a training log, averaged over at most ``limit`` bins.

    Lines without a finite loss are left out.
    """
    points = [
        (int(line["iteration"]), float(line["loss"]))
        for line in log
        if isinstance(line.get("loss"), int | float) and math.isfinite(line["loss"])
    ]
    width = math.ceil(len(points) / limit) if points else 1
    bins = [points[i : i + width] for i in range(0, len(points), width)]
    return [
        {"iteration": part[-1][0], "loss": round(sum(v for _, v in part) / len(part), 6)}
        for part in bins
    ]


def curves(series: Mapping[str, Sequence[Mapping[str, Any]]], *, log_scale: bool = True) -> Spec:
    """Return training loss against iteration, one line a name, in the given order."""
    rows = [
        {"run": name, "iteration": p["iteration"], "loss": p["loss"]}
        for name, points in series.items()
        for p in points
        if not log_scale or p["loss"] > 0
    ]
    names = list(series)
    color = alt.Color(
        "run:N",
        title=None,
        scale=alt.Scale(domain=names, range=[SERIES[i % len(SERIES)] for i in range(len(names))]),
        legend=alt.Legend(orient="bottom", columns=3, symbolType="stroke", labelLimit=170)
        if len(names) > 1
        else None,
    )
    dash = alt.StrokeDash(
        "run:N",
        scale=alt.Scale(domain=names, range=[_DASHES[i % len(_DASHES)] for i in range(len(names))]),
    )
    chart = (
        alt.Chart(_data(rows))
        .mark_line(strokeWidth=1.6, clip=True)
        .encode(
            x=alt.X("iteration:Q", title="Iteration", axis=alt.Axis(grid=False, tickCount=5)),
            y=alt.Y(
                "loss:Q",
                title="Training loss" + (" (log)" if log_scale else ""),
                scale=alt.Scale(type="log" if log_scale else "linear", nice=False),
                axis=alt.Axis(tickCount=4, format="~g", grid=not log_scale),
            ),
            color=color,
            strokeDash=dash,
            tooltip=["run:N", "iteration:Q", alt.Tooltip("loss:Q", format=".4g")],
        )
    )
    return _finished(chart)


_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def heat_map(shares: Sequence[tuple[str, str, float]], names: Sequence[str]) -> Spec:
    """Return a confusion heat map for many classes; ``shares`` are (truth, prediction, 0..1)."""
    rows = [{"truth": t, "prediction": p, "share": round(v, 4)} for t, p, v in shares]
    step = max(4, min(16, 900 // max(len(names), 1)))
    axis = alt.Axis(labelLimit=90, labelFontSize=min(9, step + 1), ticks=False, labelOverlap=True)
    chart = (
        alt.Chart(_data(rows), width=alt.Step(step), height=alt.Step(step))
        .mark_rect()
        .encode(
            x=alt.X("prediction:N", sort=list(names), title="Predicted", axis=axis),
            y=alt.Y("truth:N", sort=list(names), title="Truth", axis=axis),
            color=alt.Color(
                "share:Q",
                title="Share of the true class",
                scale=alt.Scale(domain=[0, 1], scheme="viridis"),
                legend=alt.Legend(orient="top", format=".0%"),
            ),
            tooltip=["truth:N", "prediction:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return _finished(chart, size=False)


def _data(rows: list[dict[str, Any]]) -> Any:
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _c(role: str) -> str:
    return THEME[role][0]


def _finished(chart: Any, *, size: bool = True) -> Spec:
    if size:
        chart = chart.properties(width="container", height=HEIGHT)
    spec: Spec = chart.configure(**_config()).to_dict(validate=False)
    spec.pop("$schema", None)
    return spec


def _config() -> dict[str, Any]:
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
    axis = {
        "labelColor": _c("muted"),
        "titleColor": _c("ink"),
        "titleFontWeight": 500,
        "gridColor": _c("line"),
        "domainColor": _c("line"),
        "tickColor": _c("line"),
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titlePadding": 10,
        "labelPadding": 5,
    }
    legend = {"labelColor": _c("ink"), "titleColor": _c("ink"), "labelFontSize": 11}
    return {
        "background": "transparent",
        "font": font,
        "axis": axis,
        "legend": legend,
        "view": {"stroke": None},
        "text": {"color": _c("ink")},
    }


def static_svg(spec: Spec, *, width: int = 640) -> str:
    """Return the chart as SVG text that follows the reader's light or dark theme."""
    import vl_convert

    fixed = {**spec, "width": width} if spec.get("width") == "container" else spec
    svg: str = vl_convert.vegalite_to_svg(fixed)
    svg = _renumbered(svg)
    for role, (light, _) in THEME.items():
        svg = svg.replace(f'"{light}"', f'"var(--{role})"')
    names = {mode: _variables(i) for i, mode in enumerate(("light", "dark"))}
    style = (
        f"<style>svg{{{names['light']}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{names['dark']}}}}}</style>"
    )
    head, rest = svg.split(">", 1)
    return f"{head}>{style}{rest}"


def _renumbered(svg: str) -> str:
    """Number the ids of a picture from 0; Vega counts on from picture to picture."""
    for number, name in enumerate(dict.fromkeys(re.findall(r'id="([^"]+)"', svg))):
        svg = svg.replace(f'id="{name}"', f'id="part-{number}"')
        svg = svg.replace(f"url(#{name})", f"url(#part-{number})")
    return svg


def _variables(index: int) -> str:
    return ";".join(f"--{role}:{values[index]}" for role, values in THEME.items())


@cache
def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one classic script, without any network."""
    import vl_convert

    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]
