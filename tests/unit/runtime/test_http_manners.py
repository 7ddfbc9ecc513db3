"""What any HTTP client may expect of any server: HEAD, OPTIONS, Host, paths, and headers that keep answers private."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, Response

from services.runtime.health.health import OpsServer, Readiness
from services.runtime.http import build_app
from services.runtime.serving.server import HttpServer
from services.runtime.settings import HttpSettings
from services.runtime.web.allowed_methods import METHODS
from services.runtime.web.middleware import path_of
from tests.support.raw_http import raw_http

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Run an application with a few paths, one of them not ready, and yield its port."""
    readiness = Readiness()
    readiness.report_trouble("t", "Something is missing.")
    app = build_app(title="t", service="t", http=HttpSettings(), readiness=readiness)
    router = APIRouter()

    @router.get("/things/{thing}")
    async def read(thing: str) -> str:
        return thing

    @router.get("/cached")
    async def cached() -> Response:
        return Response("c", headers={"Cache-Control": "max-age=60"})

    app.include_router(router)
    server = HttpServer(app, host="127.0.0.1", port=0)
    await server.start()
    yield server.port
    await server.stop()


@pytest.fixture
async def ops_port() -> AsyncIterator[int]:
    readiness = Readiness()
    readiness.report_trouble("t", "Something is missing.")
    async with OpsServer(HttpSettings(), readiness, service="t") as server:
        yield server.port


def request(method: str, target: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", *lines, "", "")).encode("latin-1")


async def same_without_a_body(port: int, *targets: str) -> None:
    """Use one connection for all: an unexpected body would be read as the next answer."""
    varying = ("date", "x-request-id", "traceparent", "content-length")
    async with raw_http(port) as client:
        for target in targets:
            got = await client.ask(request("GET", target))
            await client.send(request("HEAD", target))
            head = await client.answer(head_only=True)
            assert head.status == got.status, target
            assert head.headers.keys() == got.headers.keys(), target
            for name in head.headers.keys() - set(varying):
                assert head.headers[name] == got.headers[name], target
            if target != "/metrics":  # its content grows with each request
                assert head.headers["content-length"] == got.headers["content-length"], target


async def test_head_is_get_without_the_body(port: int) -> None:
    targets = ("/healthz", "/readyz", "/metrics", "/things/1", "/nowhere", "/problems", "/openapi.json")
    await same_without_a_body(port, *targets)


async def test_head_is_get_without_the_body_where_only_health_and_metrics_are(ops_port: int) -> None:
    await same_without_a_body(ops_port, "/healthz", "/readyz", "/metrics", "/nowhere")


async def test_where_only_health_and_metrics_are_refusals_are_problems_too(ops_port: int) -> None:
    async with raw_http(ops_port) as client:
        for method, target, reason in (("GET", "/nowhere", "not_found"), ("POST", "/healthz", "method_not_allowed")):
            answer = await client.ask(request(method, target))
            assert answer.reason == reason
            assert answer.headers["x-content-type-options"] == "nosniff"
        options = await client.ask(request("OPTIONS", "/healthz"))
        assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_the_options_of_the_server_are_all_its_methods(port: int) -> None:
    async with raw_http(port) as client:
        answer = await client.ask(request("OPTIONS", "*"))
        assert (answer.status, answer.headers["allow"]) == (204, ", ".join(METHODS))
        assert (await client.ask(request("OPTIONS", "/nowhere"))).reason == "not_found"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: user@a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a:x\r\n\r\n",
        b"GET /healthz\r\n\r\n",
    ],
)
async def test_a_request_names_its_host_exactly_once(port: int, ops_port: int, head: bytes) -> None:
    for each in (port, ops_port):
        async with raw_http(each) as client:
            answer = await client.ask(head)
            assert (answer.status, answer.reason, answer.headers["connection"]) == (400, "malformed", "close")


async def test_the_hosts_that_there_are_are_taken(port: int) -> None:
    async with raw_http(port) as client:
        for host in (b"a.example", b"a.example:8080", b"127.0.0.1:1", b"[::1]:8080", b"[::1]", b"", b"_a-b%20c"):
            assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).status == 200
        await client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200, "HTTP/1.0 has no Host"


async def test_an_encoded_slash_separates_nothing(port: int) -> None:
    async with raw_http(port) as client:
        for target, status in (
            ("/things%2F1", 404),
            ("/things%2f1", 404),
            ("/things/a%2Fb", 200),
            ("/th%69ngs/1", 200),
        ):
            assert (await client.ask(request("GET", target))).status == status, target
    assert path_of(b"/a%2Fb/%C3%A9%20%2f") == "/a%2Fb/\xe9 %2F"


async def test_answers_are_nobody_elses_and_are_what_they_say(port: int) -> None:
    async with raw_http(port) as client:
        for target in ("/healthz", "/things/1", "/nowhere"):
            answer = await client.ask(request("GET", target))
            assert answer.headers["cache-control"] == "private, no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await client.ask(request("GET", "/cached"))).headers["cache-control"] == "max-age=60"
        below = await client.ask(b"no HTTP\r\n\r\n")
        assert below.headers["cache-control"] == "private, no-store"
        assert below.headers["x-content-type-options"] == "nosniff"
