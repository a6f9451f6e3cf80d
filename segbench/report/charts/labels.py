"""Where the names of points go in a scatter, so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 520.0, 260.0
"""Pixels of a plot that positions are estimated for; wider plots only have more room."""
LETTER, LINE = 6.2, 13.0
MARGIN = 40.0
"""Pixels left and right of the outermost points that belong to the plot."""
MAX_TEXT = 26
_PLACES = (
    {"dx": 0, "dy": -13, "align": "center"},
    {"dx": 0, "dy": 17, "align": "center"},
    {"dx": 10, "dy": 1, "align": "left"},
    {"dx": -10, "dy": 1, "align": "right"},
)
Box = tuple[float, float, float, float]


def place(points: Sequence[tuple[float, float, str]]) -> list[dict[str, Any]]:
    """Choose a label position for each (x, y, name), x and y in units of the axes.

    Points at one place share one label. A name that finds no free place is not shown: the
    table and the tooltip have it.

    Returns:
        For each point ``shown`` (text, may be empty), ``dx``, ``dy`` and ``align``.
    """
    names: dict[tuple[float, float], list[str]] = {}
    for x, y, name in points:
        names.setdefault((x, y), []).append(name)
    pixels = dict(zip(names, _to_pixels(list(names)), strict=True))
    taken: list[Box] = [(px - 6, py - 6, px + 6, py + 6) for px, py in pixels.values()]
    chosen = {}
    for key in sorted(names, key=lambda k: (-k[1], k[0])):
        text = _shorten(", ".join(names[key]))
        chosen[key] = _choose(pixels[key], text, taken)
    result = []
    for x, y, _ in points:
        result.append(chosen[x, y])
        chosen[x, y] = {**chosen[x, y], "shown": ""}
    return result


def _choose(point: tuple[float, float], text: str, taken: list[Box]) -> dict[str, Any]:
    for position in _PLACES:
        box = _box(point, text, position)
        inside = box[0] >= -MARGIN and box[2] <= WIDTH + MARGIN
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return {**position, "shown": text}
    return {**_PLACES[0], "shown": ""}


def _box(point: tuple[float, float], text: str, position: dict[str, Any]) -> Box:
    width = LETTER * len(text)
    start = {"center": -width / 2, "left": 0.0, "right": -width}[position["align"]]
    left, middle = point[0] + position["dx"] + start, point[1] + position["dy"]
    return left, middle - LINE / 2, left + width, middle + LINE / 2


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _to_pixels(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return pixel positions, y downwards."""
    xs, ys = [x for x, _ in places], [y for _, y in places]
    width, height = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    return [((x - min(xs)) / width * WIDTH, (max(ys) - y) / height * HEIGHT) for x, y in places]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
