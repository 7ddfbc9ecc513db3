"""Compiled modules obey the import rules of pyproject.toml: import-linter reads Python only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[3]
IMPORT: Final = re.compile(r"^\s*from ([\w.]+) c?import |^\s*c?import ([\w.]+)", re.MULTILINE)
CONTRACTS: Final[list[dict[str, Any]]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]


def imports_of(text: str) -> list[str]:
    return [found[1] or found[2] for found in IMPORT.finditer(text)]


def _all_imports() -> Iterator[tuple[str, str]]:
    """Yield (importer, imported) for each import of each compiled module."""
    for top in ("schemas", "services"):
        for file in sorted((ROOT / top).rglob("*.p[yx][xd]")):
            importer = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for imported in imports_of(file.read_text(encoding="utf-8")):
                yield importer, imported


def is_allowed(importer: str, imported: str, contract: dict[str, Any]) -> bool:
    """Return whether a contract allows the import."""
    if contract["type"] == "forbidden":
        sources, forbidden = contract["source_modules"], contract["forbidden_modules"]
        return not (_within(importer, sources) and _within(imported, forbidden))
    places = [(level, room) for level, layer in enumerate(contract["layers"]) for room in re.split(r"\s*\|\s*", layer)]
    above = [place for place in places if _within(importer, [place[1]])]
    below = [place for place in places if _within(imported, [place[1]])]
    return not above or not below or above[0][0] < below[0][0] or above[0] == below[0]


def _within(module: str, rooms: list[str]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize(("importer", "imported"), sorted(set(_all_imports())))
def test_a_compiled_module_imports_what_its_layer_may_import(importer: str, imported: str) -> None:
    broken = [contract["name"] for contract in CONTRACTS if not is_allowed(importer, imported, contract)]
    assert broken == [], f"{importer} imports {imported}"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("services.runtime.kafka._framing", "schemas.wire._scan", True),
        ("schemas.wire._scan", "services.runtime.kafka._framing", False),
        ("services.sequencer.partition._sends", "services.projector.writing._copy", False),
        ("services.sequencer.partition._sends", "services.sequencer.rules.state", True),
        ("services.sequencer.rules._fast", "services.sequencer.partition._sends", False),
        ("services.projector.mapping._fast", "services.projector.writing._copy", False),
        ("schemas.wire._scan", "os", False),
    ],
)
def test_the_rules_are_those_of_import_linter(importer: str, imported: str, allowed: bool) -> None:
    assert all(is_allowed(importer, imported, contract) for contract in CONTRACTS) == allowed


def test_every_spelling_of_an_import_is_read() -> None:
    text = "from a.b cimport c\ncimport d.e\nimport f\nfrom g import h\n    cimport i\nx = 1\n"
    assert imports_of(text) == ["a.b", "d.e", "f", "g", "i"]
