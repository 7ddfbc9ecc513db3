"""The demo page: served only if a setting says so, and a browser runs nothing of it but its own script."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from services.ops.demo_page.settings import DemoSettings
from services.ops.processes.api import ApiSettings, create_app
from services.runtime.settings import AuthSettings


def get(**demo: Any) -> httpx.Response:
    auth = AuthSettings.model_validate({"secret": "x" * 32})
    app, *_ = create_app(ApiSettings(auth=auth, demo=DemoSettings(**demo)))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/demo")

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def page() -> httpx.Response:
    return get(page=True)


class Elements(HTMLParser):
    """Collects the attributes of all elements, and what is inside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str | None]] = []
        self.inside: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.inside.setdefault(self._open, []).append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def test_it_is_not_there_unless_it_is_turned_on(page: httpx.Response) -> None:
    assert get().status_code == 404
    assert page.status_code == 200


def test_a_browser_runs_the_script_of_the_page_and_no_other(page: httpx.Response) -> None:
    directives = page.headers["content-security-policy"].split(";")
    policy = {name: rest for name, _, rest in (each.strip().partition(" ") for each in directives)}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert (policy["connect-src"], policy["img-src"]) == ("'self'", "data:")
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    for element, contents in Elements(page.text).inside.items():
        [content] = contents
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"


def test_the_page_loads_nothing_and_makes_no_markup_of_strings(page: httpx.Response) -> None:
    elements = Elements(page.text)
    assert {name: value for name, value in elements.attributes if name in ("href", "src", "action")} == {
        "href": "data:,"
    }
    assert not [name for name, _ in elements.attributes if name.startswith("on") or name == "style"]
    assert "://" not in page.text
    [script] = elements.inside["script"]
    assert (
        re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b|Function\(", script
        )
        == []
    )


def test_a_token_is_read_from_the_fragment_alone(page: httpx.Response) -> None:
    [script] = Elements(page.text).inside["script"]
    assert "location.search" not in script
    assert page.headers["referrer-policy"] == "no-referrer"
