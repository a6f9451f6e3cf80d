"""Colours, segment ids and small helpers, under panopticapi's names."""

from __future__ import annotations

import functools
import itertools
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from segbench.core.errors import DataError
from segbench.core.faults import as_fault
from segbench.core.files import write_text
from segbench.formats import label_maps as formats
from segbench.panopticapi._support import Categories, PathLike, plain_json, say

P = ParamSpec("P")
R = TypeVar("R")
Color = Any
"""Three numbers 0 to 255, as list, tuple or array."""
_JITTER = 30
_TRIES = 200


def get_traceback(f: Callable[P, R]) -> Callable[P, R]:
    """Make a function print the traceback of its exceptions before it lets them pass.

    An error whose message says all, as that of a broken file, passes without.
    """

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return f(*args, **kwargs)
        except Exception as error:
            if as_fault(error) is None:
                say("Caught exception in worker thread:")
                traceback.print_exc()
            raise

    return wrapper


class IdGenerator:
    """Gives segments colours near the colour of their category; the colour is the id.

    Stuff always has its category's colour, so two stuff segments of a category share an id.
    The first thing of a category has the category's colour, later ones a random one at most
    30 away in each channel.

    Args:
        categories: Category id -> ``isthing`` and ``color``.
        strict_compat: Draw from NumPy's global generator, leave black free for things and
            search for ever when all near colours are taken, as panopticapi does.
        seed: Start of the generator of its own otherwise: equal calls give equal ids.
    """

    def __init__(
        self, categories: Categories, *, strict_compat: bool = False, seed: int = 0
    ) -> None:
        self.categories = categories
        self.strict_compat = strict_compat
        # panopticapi means to reserve black but puts the number 0 into the set.
        self.taken_colors: set[Any] = {0} if strict_compat else {(0, 0, 0)}
        self.taken_colors.update(
            tuple(category["color"]) for category in categories.values() if category["isthing"] == 0
        )
        self._random = np.random.default_rng(seed)

    def get_color(self, cat_id: int) -> Color:
        """Return the colour of the next segment of a category."""
        category = self.categories[cat_id]
        if category["isthing"] == 0:
            return category["color"]
        base = tuple(category["color"])
        color = base if base not in self.taken_colors else self._free_color(base)
        self.taken_colors.add(color)
        return color

    def get_id(self, cat_id: int) -> int:
        """Return the id of the next segment of a category."""
        return int(rgb2id(self.get_color(cat_id)))

    def get_id_and_color(self, cat_id: int) -> tuple[int, Color]:
        """Return id and colour of the next segment of a category."""
        color = self.get_color(cat_id)
        return int(rgb2id(color)), color

    def _free_color(self, base: tuple[int, ...]) -> tuple[int, ...]:
        tries = itertools.count() if self.strict_compat else range(_TRIES)
        for _ in tries:
            color = self._near(base)
            if color not in self.taken_colors:
                return color
        for value in range(1, 256**3):
            color = tuple(id2rgb(value))
            if color not in self.taken_colors:
                return color
        raise DataError("one image has more segments than there are colours")

    def _near(self, base: tuple[int, ...]) -> tuple[int, ...]:
        if self.strict_compat:
            offset = np.random.randint(low=-_JITTER, high=_JITTER + 1, size=3)
        else:
            offset = self._random.integers(-_JITTER, _JITTER + 1, size=3)
        red, green, blue = np.clip(np.array(base) + offset, 0, 255).tolist()
        return red, green, blue


def rgb2id(color: Color) -> Any:
    """Return R + 256 G + 65536 B.

    Args:
        color: [H, W, 3] array of any integer type (uint32 gives uint32, narrower ones int32),
            or one colour of three numbers, which gives an int.
    """
    if isinstance(color, np.ndarray) and color.ndim == 3:
        wide = color.astype(np.int32) if color.dtype.itemsize < 4 else color
        return wide[:, :, 0] + 256 * wide[:, :, 1] + 256 * 256 * wide[:, :, 2]
    red, green, blue = (int(channel) for channel in color[:3])
    return red + 256 * green + 256 * 256 * blue


def id2rgb(id_map: Any) -> Any:
    """Return uint8 colours [..., 3] of an array of ids, or the list of three of one id."""
    if isinstance(id_map, np.ndarray):
        return formats.id2rgb(id_map)
    return [int(id_map) >> shift & 255 for shift in (0, 8, 16)]


def save_json(d: Any, file: PathLike, *, strict_compat: bool = False) -> None:
    """Write JSON; NumPy numbers are written as numbers unless ``strict_compat``."""
    write_text(Path(file), json.dumps(d) if strict_compat else plain_json(d))
