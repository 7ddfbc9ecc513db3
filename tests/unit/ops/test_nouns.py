"""The verifiers' tables by event type: each declared type has its own reading in both, or is planned."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

import pytest

import services.ops.verify
from schemas.types import COMMAND_OF, CommandType
from services.ops.verify.log import nouns as log_nouns
from services.ops.verify.projection import nouns as projection_nouns

NOUNS = ("chats", "members", "messages", "receipts", "nouns")
TABLES = {
    "log": (log_nouns.JUDGES, log_nouns.PLANNED),
    "projection": (projection_nouns.FOLDS, projection_nouns.PLANNED),
}


@pytest.mark.parametrize(("built", "planned"), TABLES.values(), ids=TABLES)
def test_a_declared_event_is_built_or_planned_and_not_both(built: Collection[str], planned: Collection[str]) -> None:
    decided = {each.declared.event.value for each in CommandType if each.declared.since is not None}
    assert set(built) == decided, "an event that a release writes has no reading in this verifier"
    assert sorted((*built, *planned)) == sorted(COMMAND_OF)


@pytest.mark.parametrize("room", TABLES)
def test_the_verifiers_nouns_know_the_contract_and_no_other_reading(room: str) -> None:
    folder = Path(services.ops.verify.__file__).parent / room
    allowed = ("schemas.", f"services.ops.verify.{room}.")
    for module in (folder / f"{noun}.py" for noun in NOUNS):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        modules = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = [name for name in modules if name.startswith(("services", "schemas", "tests"))]
        assert [name for name in ours if name != "schemas" and not f"{name}.".startswith(allowed)] == [], module
