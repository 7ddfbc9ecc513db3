"""Chromium, driven by the W3C WebDriver protocol; Debian's packages are `chromium` and `chromium-driver`.

async with browser() as anna: await anna.open(url); await anna.click("#send")
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from devstack.ports import choose_ports

CHROMIUM: Final = shutil.which("chromium")
DRIVER: Final = shutil.which("chromedriver", path=f"{os.environ.get('PATH', os.defpath)}:/usr/lib/chromium")
PATIENCE_S: Final = 120.0
ENTER: Final = "\ue007"
needs_chromium = pytest.mark.skipif(
    (CHROMIUM is None or DRIVER is None) and os.environ.get("CI") != "true",
    reason="Chromium is not installed; `apt-get install chromium chromium-driver` lets these tests run",
)
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"


class NotThere(AssertionError):
    """An element is not on the page, or no longer."""


class Browser:
    """One window of a browser of its own."""

    def __init__(self, http: httpx.AsyncClient, session: str) -> None:
        self._http = http
        self._session = session

    async def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = await self._http.request(method, f"/session/{self._session}{path}", json=body)
        value = response.json()["value"]
        if response.status_code == 404 or (response.is_error and value["error"].startswith(("stale", "element"))):
            raise NotThere(value["message"])
        assert response.is_success, value
        return value

    async def open(self, url: str) -> None:
        await self("POST", "/url", {"url": url})

    async def script(self, expression: str) -> Any:
        """Return the value of an expression."""
        return await self("POST", "/execute/sync", {"script": f"return {expression}", "args": []})

    async def click(self, selector: str) -> None:
        """Click an element when it is there and can be clicked."""

        async def click() -> bool:
            await self("POST", f"/element/{await self._find(selector)}/click", {})
            return True

        await self._until(click, f"click {selector}")

    async def type(self, selector: str, text: str) -> None:
        """Type into an element when it is there and shown."""

        async def type_text() -> bool:
            await self("POST", f"/element/{await self._find(selector)}/value", {"text": text})
            return True

        await self._until(type_text, f"type into {selector}")

    async def clear(self, selector: str) -> None:
        await self("POST", f"/element/{await self._find(selector)}/clear", {})

    async def label(self, selector: str) -> str:
        """Return an element's accessible name, as assistive technology gets it."""
        return str(await self("GET", f"/element/{await self._find(selector)}/computedlabel"))

    async def text(self, selector: str) -> str:
        """Return an element's textContent."""
        return str(await self("GET", f"/element/{await self._find(selector)}/property/textContent"))

    async def texts(self, selector: str) -> list[str]:
        """Return the textContent of all elements."""
        found: list[str] = await self.script(f"[...document.querySelectorAll({selector!r})].map(e => e.textContent)")
        return found

    async def shows(self, selector: str, text: str) -> None:
        """Wait until an element's textContent is this."""

        async def shows() -> bool:
            return await self.text(selector) == text

        await self._until(shows, f"{selector} is {text!r}")

    async def is_labelled(self, selector: str, label: str) -> None:
        """Wait until an element's accessible name is this."""

        async def labelled() -> bool:
            return await self.label(selector) == label

        await self._until(labelled, f"{selector} is labelled {label!r}")

    async def is_gone(self, selector: str) -> None:
        async def gone() -> bool:
            return not await self.texts(selector)

        await self._until(gone, f"{selector} is gone")

    async def errors(self) -> list[str]:
        """Return what the browser has reported as errors since the last time: of scripts, policies and requests."""
        return [entry["message"] for entry in await self("POST", "/se/log", {"type": "browser"})
                if entry["level"] == "SEVERE"]  # fmt: skip

    async def _find(self, selector: str) -> str:
        found = await self("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    async def _until(self, condition: Callable[[], Any], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                if await condition():
                    return
                said = ""
            except NotThere as error:
                said = str(error)
            if time.monotonic() > deadline_s:
                page = await self.script("document.body.innerText")
                raise AssertionError(f"in vain: {what}; {said}; the page: {page}; errors: {await self.errors()}")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def driver() -> AsyncIterator[httpx.AsyncClient]:
    """Run chromedriver."""
    assert CHROMIUM is not None, "apt-get install chromium"
    assert DRIVER is not None, "apt-get install chromium-driver"
    [port] = choose_ports(1)
    with tempfile.TemporaryDirectory(prefix="gapless-browser-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        # What the browsers write goes there too.
        environment = {**os.environ, "TMPDIR": folder, "HOME": folder}
        with log.open("wb") as out:
            process = subprocess.Popen([DRIVER, f"--port={port}"], stdout=out, stderr=out, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False, verify=False) as http:
                await _ready(http, process, log)
                yield http
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@asynccontextmanager
async def browser(http: httpx.AsyncClient) -> AsyncIterator[Browser]:
    """Start a browser, with a profile of its own.

    :param http: of `driver`.
    """
    arguments = ["--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1000,800"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # it refuses to run as root with one
    options = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    response = await http.post("/session", json={"capabilities": {"alwaysMatch": options}})
    assert response.is_success, response.text
    window = Browser(http, response.json()["value"]["sessionId"])
    try:
        yield window
    finally:
        await window("DELETE", "")


async def _ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            if (await http.get("/status")).json()["value"]["ready"]:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        await asyncio.sleep(0.05)
