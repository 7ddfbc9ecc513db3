"""A library whose undocumented parts we use is pinned to one version, and only such a library is.

An upgrade of it, which may change those parts without notice, is then deliberate, with the places named here reviewed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.house.test_dependencies import ALL, PROJECT, RUNTIME

ROOT = Path(__file__).parents[3]
OURS = ("schemas", "services", "devstack")
DOCUMENTED = {
    "aiokafka": "abc admin errors helpers structs",
    "fastapi": "encoders exceptions middleware requests responses security staticfiles testclient",
    "psycopg": "abc adapt conninfo errors pq rows sql types",
    "starlette": "applications background datastructures exceptions middleware requests responses types",
    "uvicorn": "",
}
"""Library → the modules that its reference describes; any other imported module is private."""
CLASSES_TO_USE = {"uvicorn"}
"""Libraries whose classes may only be used: what a subclass of one overrides is private."""
NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
SYSTEM = {"_exit", "_getframe"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def private_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        for module in modules:
            library, *inner = module.split(".")
            if library in DOCUMENTED and inner and inner[0] not in DOCUMENTED[library].split():
                yield library


def overridden_classes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from {ast.unparse(base).partition(".")[0] for base in node.bases} & CLASSES_TO_USE


def our_private_names() -> set[str]:
    """Return every name with a leading underscore that our own code defines."""
    found: set[str] = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case (
                    ast.Name(id=name, ctx=ast.Store())
                    | ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store())
                ):
                    found.add(name)
    for path in ROOT.glob("s*/**/*.pyx"):
        found.update(re.findall(r"\b_\w+", path.read_text(encoding="utf-8")))
    return found


def foreign_attributes(tree: ast.Module, ours: set[str]) -> set[str]:
    """Return attributes with a leading underscore that our code does not define: they are a library's."""
    return (
        {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr) and node.attr not in ours
        }
        - NAMED_TUPLES
        - SYSTEM
    )


def libraries(tree: ast.Module) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules.update(name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                modules.add(module)
    return {module.partition(".")[0] for module in modules} - {*OURS, *sys.stdlib_module_names}


def used_privately() -> dict[str, list[str]]:
    """Return library → where its private parts are used."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in sources():
        for library in {*private_modules(tree), *overridden_classes(tree)}:
            found[library].append(str(path))
    return found


def pinned() -> dict[str, str]:
    """Return library → version, for the dependencies with exactly one."""
    pattern = r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ,;]+)"
    return {m[1].lower(): m[2] for each in PROJECT["dependencies"] if (m := re.fullmatch(pattern, each))}


def test_the_libraries_whose_private_parts_are_used_are_those_with_exactly_one_version() -> None:
    used = used_privately()
    assert pinned().keys() == used.keys(), dict(used)


def test_private_attributes_are_those_of_a_library_with_exactly_one_version() -> None:
    ours = our_private_names()
    for path, tree in sources():
        if attributes := foreign_attributes(tree, ours):
            assert libraries(tree) & pinned().keys(), (
                f"{path} uses {sorted(attributes)} of a library that is not pinned"
            )


@pytest.mark.parametrize("library", sorted(pinned()))
def test_the_one_version_is_the_one_that_is_installed_everywhere(library: str) -> None:
    assert ALL[library] == RUNTIME[library] == pinned()[library]


def test_a_private_part_is_seen_however_it_is_imported() -> None:
    seen = {
        "import aiokafka.conn": {"aiokafka"},
        "from aiokafka.client import AIOKafkaClient": {"aiokafka"},
        "def f():\n    from uvicorn.protocols.http import httptools_impl": {"uvicorn"},
        "from aiokafka import AIOKafkaProducer\nfrom aiokafka.errors import KafkaError": set(),
        "import psycopg.sql": set(),
    }
    for source, libraries_seen in seen.items():
        assert set(private_modules(ast.parse(source))) == libraries_seen, source
    assert set(overridden_classes(ast.parse("class A(uvicorn.Server): pass"))) == {"uvicorn"}
    assert foreign_attributes(ast.parse("client._conns.clear(); t._replace(a=1); x._mine"), {"_mine"}) == {"_conns"}
