"""Write docs/reliability.md: each fault, what happens, the tests that prove it, when they ran.

    python tests/reliability/reliability_table.py                  after a test was marked
    python tests/reliability/reliability_table.py --junit FILE     after tests ran (--junitxml=FILE)

Faults are rows of faults.yaml. A test names its rows by ``@pytest.mark.fault(3, 4)``. Results are
kept in docs/reliability.json, figures of the soak (benchmarks/soak.py) in docs/soak.json.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults.yaml")
RESULTS = ROOT / "docs" / "reliability.json"
SOAK = ROOT / "docs" / "soak.json"
PAGE = ROOT / "docs" / "reliability.md"

Results = dict[str, dict[str, Any]]
"""``tests/x/test_y.py::test_z`` -> outcome, date and commit of its last run."""

INTRODUCTION = """\
# What segbench survives

Made by `make reliability` from `tests/reliability/faults.yaml`, the tests that are marked with a
row's number, and their last results. A test fails where this page is not what they give. Each
fault is really made: processes are killed, bytes flipped, disks filled, connections cut.

| # | Fault | What happens | Tests | Last run |
| --- | --- | --- | --- | --- |
"""


def read_faults() -> list[dict[str, Any]]:
    """Return the rows: number, injected, behaviour and, where no test can exist, waits_for."""
    rows: list[dict[str, Any]] = yaml.safe_load(FAULTS.read_text(encoding="utf-8"))
    return rows


@cache
def marked_tests(folder: Path = ROOT / "tests") -> dict[int, list[str]]:
    """Return the tests of each row, read from the sources without importing them."""
    found: dict[int, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        everywhere = [row for node in tree.body if _is_pytestmark(node) for row in _rows(node)]
        for test in tree.body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                own = [row for mark in test.decorator_list for row in _rows(mark)]
                for row in sorted({*everywhere, *own}):
                    found[row].append(f"{file.relative_to(folder.parent)}::{test.name}")
    return dict(found)


def _is_pytestmark(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(name, ast.Name) and name.id == "pytestmark" for name in targets)


def _rows(node: ast.AST) -> Iterator[int]:
    """Yield the numbers of every ``pytest.mark.fault(...)`` in a piece of code."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "fault":
            yield from (ast.literal_eval(argument) for argument in call.args)


def record(junit: Path, results: Results, commit: str) -> Results:
    """Return the results with those of a JUnit file; a test that was only skipped changes none."""
    ran: dict[str, list[str]] = defaultdict(list)
    dates: dict[str, str] = {}
    for suite in ET.parse(junit).iter("testsuite"):
        for case in suite.iter("testcase"):
            name = case.attrib["classname"].replace(".", "/") + ".py"
            test = f"{name}::{case.attrib['name'].partition('[')[0]}"
            outcomes = {child.tag for child in case} & {"failure", "error", "skipped"}
            ran[test].append(min(outcomes, default="passed"))
            dates[test] = suite.attrib["timestamp"][:10]
    wanted = {test for tests in marked_tests().values() for test in tests}
    found = {test: row for test, row in results.items() if test in wanted}
    for test in sorted(wanted & ran.keys()):
        if {*ran[test]} != {"skipped"}:
            good = {*ran[test]} <= {"passed", "skipped"}
            outcome = "passed" if good else "failed"
            found[test] = {"outcome": outcome, "date": dates[test], "commit": commit}
    return dict(sorted(found.items()))


def page(results: Results, soak: Mapping[str, Any] | None) -> str:
    """Return docs/reliability.md."""
    faults, tests = read_faults(), marked_tests()
    rows = "".join(_row(fault, tests.get(fault["number"], []), results) for fault in faults)
    lists = "".join(f"- **{n}**: {_list(tests[n])}\n" for n in sorted(tests))
    return INTRODUCTION + rows + _soak_section(soak) + "\n## The tests of each row\n\n" + lists


def _row(fault: Mapping[str, Any], tests: list[str], results: Results) -> str:
    shown = len(tests) or f"with {fault['waits_for']}"
    cells = [fault["number"], fault["injected"], fault["behaviour"], shown, _last(tests, results)]
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _list(tests: list[str]) -> str:
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        file, _, name = test.partition("::")
        by_file[file].append(f"`{name}`")
    links = (f"[{file}](../{file}): {', '.join(names)}" for file, names in by_file.items())
    return "; ".join(links)


def _last(tests: list[str], results: Results) -> str:
    """Say when the tests of a row last ran: the oldest of their last runs."""
    ran = [results[test] for test in tests if test in results]
    if not ran:
        return "not yet"
    failed = [row for row in ran if row["outcome"] == "failed"]
    oldest = min(failed or ran, key=lambda row: row["date"])
    text = f"{oldest['outcome']} {oldest['date']} ({oldest['commit']})"
    missing = len(tests) - len(ran)
    return f"{text}; {missing} of {len(tests)} not yet" if missing else text


def _soak_section(soak: Mapping[str, Any] | None) -> str:
    if soak is None:
        return ""
    facts, stages = soak["facts"], soak["stages"]
    keys = list(next(iter(stages.values())))
    resumed = ", ".join(map(str, facts["resumed_from"])) or "none"
    return "\n".join([
        "", "## Soak", "",
        f"`python benchmarks/soak.py --kills {facts['kills']} --seed {facts['seed']}`, "
        f"{facts['date']}, commit {facts['commit']}, {facts['hardware']}, "
        f"{facts['minutes']:.0f} minutes: {facts['boards']} small boards of three rows were killed "
        f"{facts['kills']} times at random moments and launched {facts['launches']} times, until "
        f"they were done. {_equal(facts)} {_left(facts)} Of {facts['trainings_killed']} killed "
        f"trainings these had a checkpoint, and went on from its iteration (of 24): {resumed}.", "",
        "| Stage | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 1) + "|",
        *(f"| {' | '.join([name, *map(str, row.values())])} |" for name, row in stages.items()), "",
        "Hit were the process of the step alone, all processes, Snakemake alone or `segbench run` "
        "alone. SIGINT goes to the process group, as Ctrl-C does.", "",
    ])  # fmt: skip


def _equal(facts: Mapping[str, Any]) -> str:
    if facts["differences"]:
        return f"{facts['differences']} files DIFFER from those of an unbroken run."
    return (
        "Weights, logs of the trainings, predictions, counts, scores, records and site equal those "
        "of an unbroken run, times left out, to the last bit."
    )


def _left(facts: Mapping[str, Any]) -> str:
    names = ("processes_left", "locks_left", "half_files", "orphans")
    counted = {name: facts[name] for name in names}
    if not any(counted.values()):
        return "No process, no lock and no half file was left."
    return "LEFT: " + ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in counted.items()) + "."


def read_json(path: Path) -> Any:
    """Return the content of a file, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def current_page() -> str:
    """Return the page that the committed files give."""
    return page(read_json(RESULTS) or {}, read_json(SOAK))


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--junit", type=Path, help="results of pytest --junitxml")
    options = parser.parse_args()
    if options.junit:
        found = record(options.junit, read_json(RESULTS) or {}, _commit())
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(current_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
