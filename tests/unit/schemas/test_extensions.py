"""One place knows whether compiled code is used, and neither a broken nor half an installation passes for none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

import pytest

import hatch_build
from benchmarks.servers.processes import environment, forget_settings
from schemas.wire.extensions import PURE_VARIABLE, code_in_use, extension
from services.ops.stack.address import without_security

ROOT: Final = Path(__file__).parents[3]
FIRST: Final = "schemas.wire._scan"
OTHER: Final = "schemas._other"


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A `schemas` of two extensions, which are files of plain Python."""
    (tmp_path / "schemas/wire").mkdir(parents=True)
    for package in ("schemas", "schemas/wire"):
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(ROOT / "schemas/wire/extensions.py", tmp_path / "schemas/wire/extensions.py")
    for name in (FIRST, OTHER):
        _file(tmp_path, name).touch()
    return tmp_path


def _file(root: Path, name: str) -> Path:
    return root / f"{name.replace('.', '/')}.py"


def _found(root: Path, name: str, pure: str | None = None) -> str:
    """Return "module" or "None", or the last line of the error."""
    program = f"from schemas.wire.extensions import extension; print(type(extension({name!r})).__name__[:6].strip())"
    inherited = {key: value for key, value in os.environ.items() if key not in (PURE_VARIABLE, "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=root, env=inherited | ({PURE_VARIABLE: pure} if pure is not None else {}),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("value", "found"), [(None, "module"), ("", "module"), ("0", "module"), ("1", "NoneTy"), ("true", "NoneTy")]
)
def test_the_variable_turns_every_extension_off(installation: Path, value: str | None, found: str) -> None:
    assert [_found(installation, name, value) for name in (FIRST, OTHER)] == [found] * 2


def test_without_extensions_plain_python_is_used(installation: Path) -> None:
    for name in (FIRST, OTHER):
        _file(installation, name).unlink()
    assert [_found(installation, name) for name in (FIRST, OTHER)] == ["NoneTy"] * 2


def test_an_extension_that_cannot_be_loaded_is_an_error(installation: Path) -> None:
    _file(installation, FIRST).rename(_file(installation, FIRST).with_suffix(EXTENSION_SUFFIXES[0]))
    assert _found(installation, FIRST).startswith("ImportError: ")
    assert _found(installation, FIRST, "1") == "NoneTy"


@pytest.mark.parametrize(("missing", "says"), [(FIRST, "is"), (OTHER, "is not")])
def test_half_an_installation_is_an_error_that_says_what_to_do(installation: Path, missing: str, says: str) -> None:
    _file(installation, missing).unlink()
    assert _found(installation, OTHER) == (
        f"ImportError: only some of the compiled modules are installed ({OTHER} {says}): install Gapless again, or set"
        " GAPLESS_PURE=1 to do without them"
    )
    assert _found(installation, OTHER, "1") == "NoneTy"


def test_every_module_that_is_built_obeys_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PURE_VARIABLE, "1")
    assert {extension(name) for name in hatch_build.MODULES} == {None}
    assert code_in_use() == "pure"


def test_only_one_place_imports_what_is_compiled() -> None:
    names = {name.rsplit(".", 1)[1] for name in hatch_build.MODULES}
    for top in ("schemas", "services", "benchmarks"):
        for file in (ROOT / top).rglob("*.py"):
            imports = [line for line in file.read_text(encoding="utf-8").splitlines() if "import " in line]
            assert not [line for line in imports if names & set(line.replace(",", " ").replace(".", " ").split())], file


def test_an_embedded_stack_passes_it_on_to_its_children() -> None:
    assert without_security({PURE_VARIABLE: "1", "GAPLESS_KAFKA_SASL_USERNAME": "x"}) == {PURE_VARIABLE: "1"}


def test_no_other_benchmark_makes_its_own_environment() -> None:
    makes = [
        file.name for file in (ROOT / "benchmarks").rglob("*.py") if "os.environ" in file.read_text(encoding="utf-8")
    ]
    assert makes == ["processes.py"]


def test_benchmarks_pass_it_on_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "environ", {"HOME": "/", PURE_VARIABLE: "1", "GAPLESS_CACHE": "/c", "GAPLESS_LOG_LEVEL": "x"}
    )
    assert environment({"GAPLESS_HTTP_PORT": "1"}) == {"HOME": "/", PURE_VARIABLE: "1", "GAPLESS_HTTP_PORT": "1"}
    forget_settings()
    assert dict(os.environ) == {"HOME": "/", PURE_VARIABLE: "1", "GAPLESS_CACHE": "/c"}
