"""Every file is on the map of its folder: the page in the folder's `__init__.py`, or `README.md` in tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
TOPS: Final = ("schemas", "services", "benchmarks", "devstack")
NOT_LISTED: Final = {"__init__", "__main__"}


def _folders() -> list[Path]:
    found = [folder for top in TOPS for folder in (ROOT / top, *(ROOT / top).rglob("*")) if folder.is_dir()]
    return [folder for folder in found if any(folder.glob("*.py")) and folder.name not in ("sql", "__pycache__")]


def _rooms_and_files(folder: Path) -> set[str]:
    files = {file.stem for pattern in ("*.py", "*.pyx") for file in folder.glob(pattern)}
    rooms = {room.name for room in folder.iterdir() if room.is_dir() and any(room.glob("*.py")) and room.name != "sql"}
    return (files | rooms) - NOT_LISTED


@pytest.mark.parametrize("folder", _folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_file_and_room_is_on_the_map_of_its_folder(folder: Path) -> None:
    page = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    named = {word.rstrip("/") for word in re.findall(r"`([\w/]+)`", page)}
    assert _rooms_and_files(folder) - named == set(), "not on the page of its folder"


@pytest.mark.parametrize("folder", ["tests/integration", "tests/support"])
def test_every_file_and_room_of_the_tests_is_on_the_page_of_its_folder(folder: str) -> None:
    page = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    assert _rooms_and_files(ROOT / folder) - set(re.findall(r"`(\w+)`", page)) == set(), f"not in {folder}/README.md"


def test_integration_tests_are_in_rooms() -> None:
    assert sorted((ROOT / "tests/integration").glob("*.py")) == [], "move it into the room of what it tests"
