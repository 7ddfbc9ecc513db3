"""The loop that applies the validity rule exists once: programs and tests read the log with LogCursor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import log

ROOT = Path(__file__).parents[3]
LOOP = {log.classify.__name__, log.advance.__name__}
"""A module that uses both reads the log by itself."""
APART = {
    "tests/model/rule.py": "the model asks for any head and stamp, also with mistakes planted in the rule",
    "tests/simulation/checker.py": "the simulation holds its own reading against the rule, record by record",
    "tests/unit/schemas/test_log.py": "it tests the rule itself",
}


def from_the_rule(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module uses from schemas.log."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == log.__name__:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log":
            yield node.attr


def test_one_module_reads_the_log_by_the_rule_and_three_tests_that_say_why() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("schemas", "services", "benchmarks", "tests", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if set(from_the_rule(ast.parse(path.read_text(encoding="utf-8")))) >= LOOP
    }
    found.discard(str(Path(__file__).relative_to(ROOT)))
    assert found == {"schemas/cursor.py", *APART}


@pytest.mark.parametrize(
    "code",
    [
        f"from {log.__name__} import EMPTY, {log.classify.__name__}, {log.advance.__name__}",
        "from schemas import log\n"
        f"head = log.{log.advance.__name__}(head, stamp, log.{log.classify.__name__}(head, stamp))",
    ],
)
def test_a_loop_of_its_own_is_found(code: str) -> None:
    assert set(from_the_rule(ast.parse(code))) >= LOOP
