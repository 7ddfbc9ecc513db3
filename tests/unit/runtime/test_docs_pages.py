"""The documentation of a service comes from the service only."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import HttpSettings
from services.runtime.web.docs_pages import ASSETS


def get(path: str) -> httpx.Response:
    app = build_app(title='Gapless <"t">', service="t", http=HttpSettings(), readiness=Readiness())

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


def addresses(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="([^"]+)"', page)


def policy(response: httpx.Response) -> dict[str, str]:
    directives = response.headers["content-security-policy"].split(";")
    return {name: rest for name, _, rest in (each.strip().partition(" ") for each in directives)}


def test_the_start_page_points_to_the_documentation() -> None:
    page = get("/")
    assert page.status_code == 200
    assert {"docs", "openapi.json", "problems"} <= set(addresses(page.text))
    for path in addresses(page.text):
        assert get(f"/{path}").status_code == 200
    assert policy(page)["default-src"] == "'none'"


def test_the_documentation_loads_nothing_from_elsewhere() -> None:
    page = get("/docs")
    assert page.status_code == 200
    loaded = addresses(page.text)
    assert len(loaded) == 4
    for path in loaded:
        assert "//" not in path
        assert not path.startswith("/"), "a proxy may put a prefix before it"
        asset = get(f"/{path}")
        assert asset.status_code == 200
        assert len(asset.content) > 100
        assert asset.headers["content-type"].partition(";")[0] in {*ASSETS.values()}
    assert 'url: "openapi.json"' in get("/docs/start.js").text
    assert "<script>" not in page.text


def test_a_browser_runs_no_script_of_the_documentation_but_ours() -> None:
    allowed = policy(get("/docs"))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == allowed["connect-src"] == "'self'"
    assert allowed["frame-ancestors"] == allowed["base-uri"] == "'none'"


@pytest.mark.parametrize("path", ["/docs/core.py", "/docs/..%2Fcore.py", "/docs/redoc.standalone.js"])
def test_no_other_file_is_served(path: str) -> None:
    assert get(path).status_code == 404
