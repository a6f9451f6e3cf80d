"""Every fault has its test, and the published page is what the tests give."""

from __future__ import annotations

from pathlib import Path

from tests.reliability import reliability_table as table


def test_every_fault_has_a_test_or_says_what_it_waits_for() -> None:
    faults, tests = table.read_faults(), table.marked_tests()
    numbers = [fault["number"] for fault in faults]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 32
    assert tests.keys() <= set(numbers)
    without = [fault for fault in faults if not tests.get(fault["number"])]
    assert {fault["number"] for fault in without} <= {30}
    assert all(fault["waits_for"] for fault in without)


def test_no_fault_waits_that_has_a_test() -> None:
    tests = table.marked_tests()
    assert not [
        f["number"] for f in table.read_faults() if "waits_for" in f and f["number"] in tests
    ]


def test_the_page_is_up_to_date() -> None:
    """Run ``python tests/reliability/reliability_table.py`` where this fails."""
    assert table.PAGE.read_text(encoding="utf-8") == table.current_page()


def test_marks_are_read_wherever_they_stand(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.slow, pytest.mark.fault(3)]\n"
        "@pytest.mark.fault(1, 2)\ndef test_x(): ...\n"
        "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.fault(4))])\n"
        "def test_y(n): ...\n"
        "@pytest.mark.fault(9)\ndef helper(): ...\n"
    )
    x, y = "tests/test_a.py::test_x", "tests/test_a.py::test_y"
    assert table.marked_tests(folder) == {1: [x], 2: [x], 3: [x, y], 4: [y]}


def test_results_are_taken_from_what_ran(tmp_path: Path) -> None:
    first, second, third = sorted({t for tests in table.marked_tests().values() for t in tests})[:3]

    def case(test: str, parameter: str, inner: str = "") -> str:
        file, _, name = test.partition("::")
        where = file.removesuffix(".py").replace("/", ".")
        return f'<testcase classname="{where}" name="{name}{parameter}">{inner}</testcase>'

    cases = [
        case(first, "[a]"), case(first, "[b.c]", "<skipped/>"), case(second, "[a]"),
        case(second, "[b]", "<failure/>"), case(third, "", "<skipped/>"),
    ]  # fmt: skip
    junit = tmp_path / "junit.xml"
    suite = f'<testsuite timestamp="2026-02-03T04:05:06">{"".join(cases)}</testsuite>'
    junit.write_text(f"<testsuites>{suite}</testsuites>")
    before = {
        third: {"outcome": "passed", "date": "2026-01-01", "commit": "old"},
        "tests/gone.py::test_gone": {"outcome": "passed", "date": "2026-01-01", "commit": "old"},
    }
    found = table.record(junit, before, "new")
    assert found == {
        first: {"outcome": "passed", "date": "2026-02-03", "commit": "new"},
        second: {"outcome": "failed", "date": "2026-02-03", "commit": "new"},
        third: before[third],
    }
