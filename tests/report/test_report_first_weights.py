"""A run page says which weights a training started from."""

from __future__ import annotations

from segbench.report.runs import Run, provenance_rows


def sections(facts):
    run = Run("shapes", "second", 0, ())
    return dict(provenance_rows(run, facts))


def test_first_weights_are_told_where_there_are_any():
    start = {"from": "first", "weights": "ab12", "taken": 20_000, "kept": ["a", "b"], "unused": []}
    assert sections({"init": start})["First weights"] == [
        ("from", "first"),
        ("sha256", "ab12"),
        ("tensors taken", "20,000"),
        ("not in them", "2"),
        ("not used", "0"),
    ]
    assert "First weights" not in sections({"iterations": 3})
