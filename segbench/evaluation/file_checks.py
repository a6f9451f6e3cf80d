"""Rules over the entries of a JSON list.

One error names every kind of fault, its number and the first three entries that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError

Entry = dict[str, Any]
Rule = Callable[[Entry], str | None]
"""Says what an entry has in place of what it should have; None where it is right."""
EXAMPLES = 3
_ID_BOUND = 2**63


def expect_list(value: Any, source: Path, what: str) -> None:
    """Refuse everything but a list of JSON objects."""
    if not isinstance(value, list):
        kind = type(value).__name__
        raise DataError(f"{source}: expected a list of objects for the {what}, found {kind}")
    wrong = [entry for entry in value if not isinstance(entry, dict)]
    if wrong:
        raise DataError(
            f"{source}: expected a list of objects for the {what}, found {len(wrong)} entries "
            f"that are none, first {', '.join(shown(entry) for entry in wrong[:EXAMPLES])}"
        )


def _by_index(index: int, _: Entry) -> str:
    return f"[{index}]"


def check(
    entries: Iterable[Entry],
    source: Path,
    what: str,
    rules: Mapping[str, Rule],
    *,
    fix: str = "",
    name: Callable[[int, Entry], str] = _by_index,
) -> None:
    """Apply rules to every entry; raise one error over all kinds of fault.

    Args:
        entries: JSON objects.
        source: The file they are from.
        what: What they are, in the plural.
        rules: Rule by what an entry that breaks it "does".
        fix: What to do next.
        name: Says how an example is called, from its index and itself.
    """
    faults: dict[str, list[str]] = {problem: [] for problem in rules}
    for index, entry in enumerate(entries):
        for problem, rule in rules.items():
            found = rule(entry)
            if found is not None:
                faults[problem].append(f"{name(index, entry)} {found}")
    lines = [
        f"{source}: {len(found)} {what} {problem}; first {', '.join(found[:EXAMPLES])}"
        for problem, found in faults.items()
        if found
    ]
    if lines:
        raise DataError("\n".join(lines), fix=fix)


def lacks(*fields: str) -> Rule:
    """Return the rule that entries have these fields."""

    def rule(entry: Entry) -> str | None:
        missing = [field for field in fields if field not in entry]
        return f"no {' and no '.join(missing)}" if missing else None

    return rule


def repeats(field: str = "id") -> Rule:
    """Return the rule that a field, where an entry has it, has another value in each entry."""
    seen: set[Any] = set()

    def rule(entry: Entry) -> str | None:
        value = entry.get(field)
        if value is None or not is_id(value):
            return None
        if value in seen:
            return f"{field} {shown(value)}"
        seen.add(value)
        return None

    return rule


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer of 64 bits; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _ID_BOUND


def is_id(value: Any) -> bool:
    """Whether a JSON value can name an image: an integer or text."""
    return isinstance(value, str) or is_integer(value)


def is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that fits 64 bits; infinities, NaN and true are none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _ID_BOUND


def shown(value: Any) -> str:
    """Return a JSON value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
