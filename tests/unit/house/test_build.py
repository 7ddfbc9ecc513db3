"""Compilation at installation is optional: without a compiler the installation continues."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("compiler", [None, "no-such-compiler"])
def test_what_can_be_compiled_is_and_without_a_compiler_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None
) -> None:
    for source in [file for top in ("schemas", "services") for file in (ROOT / top).rglob("*.p[yx][xd]")]:
        (tmp_path / source.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / source.relative_to(ROOT))
    for package in {tmp_path / "services", *(file.parent for file in tmp_path.rglob("*.pyx"))}:
        (package / "__init__.py").touch()
    (tmp_path / "services" / "_moved.cpython-311-x86_64-linux-gnu.so").touch()  # from an older release
    if compiler is None and shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("there is no C compiler here")
    monkeypatch.setenv("CFLAGS", "-O0")  # built only to check that it can be
    if compiler is not None:
        monkeypatch.setenv("CC", str(tmp_path / compiler))
    built = hatch_build.compile_in(tmp_path)
    assert len(built) == (len(hatch_build.MODULES) if compiler is None else 0)
    assert sorted(tmp_path.rglob("*.so")) == sorted(built)
