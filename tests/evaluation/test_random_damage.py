"""Random damage to files: refused by one error, or scored with numbers that can be."""

from __future__ import annotations

import copy
import json
import math
import random

import pytest

from tests.evaluation import score_sets
from tests.evaluation.test_malformed_input import in_process, run

ROUNDS = 100
ODD = (
    *(None, True, False, 0, -1, 1, 2.5, math.nan, math.inf, 1e308, 10**30, 2**31, 2**63),
    *("", "x", "0", "é\0", "../x", "/etc/passwd", "a" * 300, [], [1], [[1, 2]], {}, {"a": 1}),
    *([None], {"size": [6, 8]}, {"size": [6, 8], "counts": [48]}),
)


def paths(value, path=()):
    """Yield the keys that lead to every value inside a JSON value."""
    children = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    for key, child in children:
        yield (*path, key)
        yield from paths(child, (*path, key))


def damaged(content, rng):
    """Delete, repeat, rename or replace one value."""
    *parents, key = rng.choice(list(paths(content)))
    inside = content
    for parent in parents:
        inside = inside[parent]
    kind = rng.choice(["replace", "replace", "replace", "delete", "repeat", "rename"])
    if kind == "delete":
        del inside[key]
    elif kind == "repeat" and isinstance(inside, list):
        inside.append(copy.deepcopy(inside[key]))
    elif kind == "rename" and isinstance(inside, dict):
        inside[rng.choice(["id", "size", "iscrowd", "x"])] = inside.pop(key)
    else:
        inside[key] = copy.deepcopy(rng.choice(ODD))
    return content


def damage_json(made, rng):
    made.edit(rng.choice(["gt.json", "pred.json"]), lambda content: damaged(content, rng))


def damage_png(made, rng):
    path = rng.choice(sorted(made.folder.rglob("*.png")))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 6])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)


def numbers(value):
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from numbers(child)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("instances", damage_json),
        ("panoptic", damage_json),
        ("panoptic", damage_png),
        ("cityscapes", damage_png),
    ],
)
@pytest.mark.fault(16, 17)
def test_damage_never_ends_in_a_traceback_or_an_impossible_number(
    kind, damage, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("segbench.core.files._sync", lambda path: None)
    outcomes = {0: 0, 1: 0}
    for seed in range(ROUNDS):
        made = getattr(score_sets, kind)(tmp_path / str(seed))
        damage(made, random.Random(seed))
        code, out, err = run(in_process, made, monkeypatch, capfd)
        outcomes[code] += 1
        if code:
            assert err.count("error: ") == 1, (seed, err)
            assert not made.out.exists(), seed
        else:
            found = json.loads(out)["scores"]
            assert all(0 <= value <= 1 for value in numbers(found)), seed
    assert outcomes[1] > ROUNDS / 4
