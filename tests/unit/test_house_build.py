"""What is compiled at installation is a gift: without a compiler the installation goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).parents[2]


def test_without_a_compiler_nothing_is_compiled_and_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schemas").mkdir()
    shutil.copy(ROOT / "schemas" / "_records.pyx", tmp_path / "schemas")
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    assert hatch_build._compile(tmp_path) is None
    assert not list(tmp_path.glob("schemas/*.so"))
