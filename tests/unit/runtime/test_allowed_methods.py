"""The answer to a refused method names the methods that the path has, wherever they are declared."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.settings import HttpSettings


def app() -> FastAPI:
    """Return an app with two routers that share a path, like `gapless api`."""
    writes, reads = APIRouter(), APIRouter(prefix="/v1")

    @writes.post("/v1/things/{thing}")
    @writes.delete("/v1/things/{thing}")
    async def write(thing: str) -> None: ...

    @writes.post("/v1/written/{thing}")
    async def write_only(thing: str) -> None: ...

    @reads.get("/things/{thing}")
    async def read(thing: str) -> None: ...

    made = build_app(title="t", service="t", http=HttpSettings(), readiness=Readiness())
    made.include_router(writes)
    made.include_router(reads)
    return made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/things/1", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("HEAD", "/v1/written/1", "POST, OPTIONS"),
        ("BREW", "/v1/things/1", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/v1/things/1", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("OPTIONS", "/v1/written/1", "POST, OPTIONS"),
    ],
)
def test_allow_names_every_method_of_the_path(method: str, path: str, allowed: str) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    answer = asyncio.run(ask())
    assert answer.status_code == (204 if method == "OPTIONS" else 405)
    assert answer.headers.get_list("Allow") == [allowed]
