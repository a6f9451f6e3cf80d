"""A table that is damaged or was edited is one message that names the part, and no site."""

from __future__ import annotations

import json

import pytest

from segbench.core.errors import DataError
from segbench.core.seal import sealed
from segbench.report.render import render_report

TOP = {
    "gallery_images": [None, [], "x", {}, True],
    "ties": [3, "x", [3]],
    "cells": [None, {}, [[]]],
    "models": [[], {"fcn": 3}],
    "datasets": [{"shapes": 3}, {"shapes": {"categories": [1]}}, {"shapes": {"splits": []}}],
}
CELL = {
    "status": [None, -1, [], "<script>"],
    "logs": [None, 3, {"a": 1}, "x"],
    "notes": [None, -1, [3]],
    "record": [3, "x", [], {"a": 1}],
    "profile": [3, "x", ["x"]],
    "submission": [-1, "x"],
    "oracle": [-1, "x"],
    "seed": [True],
    "model": [3, []],
}
RECORD = {
    "scores": [None, 3, []],
    "per_class": [None, {}, [3], [None]],
    "protocol": [None, 3],
    "num_images": ["8", None],
    "warnings": [3, "x"],
    "experiment": ["another", None],
    "task": ["panoptic"],
    "seed": [99],
}


def refused(table, tmp_path, results, words):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(DataError) as error:
        render_report(path, tmp_path / "site", results=results)
    assert f"table.json: {words}" in error.value.what
    assert not (tmp_path / "site").exists()


def each(values):
    return [(key, value) for key, some in values.items() for value in some]


@pytest.mark.parametrize(("key", "value"), each(TOP))
def test_a_damaged_table_is_named(results, table, tmp_path, key, value):
    refused({**table, key: value}, tmp_path, results, f"{key}")


def scored(table):
    return next(i for i, cell in enumerate(table["cells"]) if cell["record"])


@pytest.mark.parametrize(("key", "value"), each(CELL))
def test_a_damaged_cell_is_named(results, table, tmp_path, key, value):
    number, cells = scored(table), list(table["cells"])
    cells[number] = {**cells[number], key: value}
    refused({**table, "cells": cells}, tmp_path, results, f"cells[{number}]: {key}: ")


@pytest.mark.parametrize("key", ["dataset", "status", "kind", "run_folder", "seed"])
def test_a_cell_that_lacks_a_part_is_named(results, table, tmp_path, key):
    number, cells = scored(table), list(table["cells"])
    cells[number] = {k: v for k, v in cells[number].items() if k != key}
    words = f"cells[{number}]: {key}: expected "
    refused({**table, "cells": cells}, tmp_path, results, words)


@pytest.mark.fault(27)
@pytest.mark.parametrize(("key", "value"), each(RECORD))
def test_a_damaged_record_or_one_of_another_cell_is_named(results, table, tmp_path, key, value):
    number, cells = scored(table), list(table["cells"])
    record = {**cells[number]["record"], key: value}
    cells[number] = {**cells[number], "record": record}
    refused({**table, "cells": cells}, tmp_path, results, f"cells[{number}]: record: {key}: ")


@pytest.mark.parametrize("part", ["record", "profile"])
def test_a_sealed_part_that_was_edited_is_refused(results, table, tmp_path, part):
    number, cells = scored(table), list(table["cells"])
    content = sealed(cells[number].get(part) or {"params": 1})
    cells[number] = {**cells[number], part: {**content, "extra": 1}}
    words = f"cells[{number}]: {'record: it' if part == 'record' else part} was changed after"
    refused({**table, "cells": cells}, tmp_path, results, words)
