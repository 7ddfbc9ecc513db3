"""The verifiers read the contract by themselves: neither shares code for it with another room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import services.ops.verify

NOUNS = ("chats", "members", "messages", "receipts", "nouns")
ROOMS = ("log", "projection")


@pytest.mark.parametrize("room", ROOMS)
def test_the_verifiers_nouns_know_the_contract_and_no_other_reading(room: str) -> None:
    folder = Path(services.ops.verify.__file__).parent / room
    allowed = ("schemas.", f"services.ops.verify.{room}.")
    for module in (folder / f"{noun}.py" for noun in NOUNS):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        modules = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = [name for name in modules if name.startswith(("services", "schemas", "tests"))]
        assert [name for name in ours if name != "schemas" and not f"{name}.".startswith(allowed)] == [], module
