"""Our own clients connect to our own processes directly, without a proxy from the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("services", "benchmarks", "tests", "devstack")
CALLS = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "head", "options", "request", "stream"}


def clients(source: str) -> Iterator[ast.Call]:
    """Yield the calls of httpx that open connections."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="httpx"), attr=attr)) if attr in CALLS:
                yield node


def takes_proxies(call: ast.Call) -> bool:
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return given.get("trust_env") != "False" and "transport" not in given


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_client_of_ours_takes_a_proxy_from_the_environment(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        found = [call.lineno for call in clients(path.read_text(encoding="utf-8")) if takes_proxies(call)]
        assert found == [], f"{path.relative_to(ROOT)}: httpx with trust_env=False, lines {found}"


def loads_authorities(call: ast.Call) -> bool:
    return not {keyword.arg for keyword in call.keywords} & {"verify", "transport"}


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_a_client_that_is_made_for_each_look_does_not_load_certificate_authorities(folder: str) -> None:
    """Loading them takes 18 ms of CPU per client, and tests create thousands of clients."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        found = [call.lineno for call in clients(path.read_text(encoding="utf-8")) if loads_authorities(call)]
        assert found == [], f"{path.relative_to(ROOT)}: httpx without verify=, lines {found}"


def test_httpx_is_imported_by_its_name_alone_so_that_the_look_above_sees_its_calls() -> None:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            assert "from httpx" + " import" not in source, path
            assert "import httpx" + " as" not in source, path
