"""The read model against the fold: every row, every column."""

from __future__ import annotations

from typing import Any

from tests.chaos.evidence import Json, Rows
from tests.chaos.rows import KEYS, NOT_JUDGED
from tests.chaos.violations import Kind, Violation


def check_tables(found: dict[str, Rows], right: dict[str, Rows], violations: list[Violation]) -> int:
    """Compare the tables and return how many rows were compared."""
    checked = 0
    for table, key in KEYS.items():
        there = _by_key(found.get(table, []), key)
        due = _by_key(right[table], key)
        checked += len(due)
        for at in due.keys() | there.keys():
            difference = _difference(due.get(at), there.get(at), NOT_JUDGED.get(table, set()))
            if difference is not None:
                place = f"{table} {'/'.join(map(str, at))}"
                violations.append(Violation(Kind.TABLE_DIFFERS, place, difference))
        if len(there) != len(found.get(table, [])):
            violations.append(Violation(Kind.TABLE_DIFFERS, table, "two rows have the same key"))
    return checked


def _by_key(rows: Rows, key: tuple[str, ...]) -> dict[tuple[Any, ...], Json]:
    return {tuple(row[name] for name in key): row for row in rows}


def _difference(due: Json | None, there: Json | None, not_judged: set[str]) -> str | None:
    if due is None:
        return "a row that the log does not mean"
    if there is None:
        return "the row is missing"
    wrong = [
        f"{name} is {there.get(name)!r}, by the log {value!r}"
        for name, value in due.items()
        if there.get(name) != value
    ]
    wrong += [
        f"{name} is {there[name]!r}, and tests/chaos/rows.py does not say what it should be"
        for name in there.keys() - due.keys() - not_judged
    ]
    return "; ".join(wrong)[:600] or None
