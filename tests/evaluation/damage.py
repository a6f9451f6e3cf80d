"""Ways to break one file of a ``ScoreSet``: each returns the change to be made to a set."""

from __future__ import annotations

import shutil

import numpy as np
from PIL import Image

from tests.evaluation.score_sets import ScoreSet

GREY = np.ones((6, 8), dtype=np.uint8)
RGB = np.stack([GREY] * 3, axis=-1)


def with_text(name, text):
    return lambda s: s.path(name).write_text(text, encoding="utf-8")


def with_bytes(name, data):
    return lambda s: s.path(name).write_bytes(data)


def gone(name):
    def change(s: ScoreSet) -> None:
        path = s.path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def a_folder(name):
    """Put a folder where a file belongs."""

    def change(s: ScoreSet) -> None:
        s.path(name).unlink()
        s.path(name).mkdir()

    return change


def a_file(name):
    """Put a file where a folder belongs."""

    def change(s: ScoreSet) -> None:
        shutil.rmtree(s.path(name))
        s.path(name).write_text("labels")

    return change


def a_loop(name):
    """Put a link that leads to itself in place of a file: nobody can read it."""

    def change(s: ScoreSet) -> None:
        s.path(name).unlink()
        s.path(name).symlink_to(s.path(name))

    return change


def edited(name, change):
    return lambda s: s.edit(name, change)


def with_labels(name, value, mode=None):
    return lambda s: s.labels(name, value, mode)


def with_number(name, number):
    """Write a number into one pixel of a label map."""
    return lambda s: s.labels(name, np.where(np.arange(48).reshape(6, 8) == 9, number, 1).astype(
        np.uint8 if number < 256 else np.uint16))  # fmt: skip


def renamed(name, new):
    return lambda s: s.path(name).rename(s.path(new))


def as_jpeg(name):
    def change(s: ScoreSet) -> None:
        image = Image.open(s.path(name))
        image.load()
        image.save(s.path(name), format="JPEG")

    return change


def without(entries, key):
    """Return the edit that takes a field from the first entry of a list."""

    def change(c):
        del c[entries][0][key]

    return change
