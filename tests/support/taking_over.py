"""A server whose routes take their connections over, over HTTP and HTTPS, on the event loop of production."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from devstack.certificates import Authority
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.serving.connection_limits import ServerConnections
from services.runtime.serving.server import HttpServer
from services.runtime.serving.takeover import takeover_of
from services.runtime.settings import HttpSettings
from tests.support.raw_http import PATIENCE_S, raw_http

Endpoint = Callable[[Scope, Send], Awaitable[None]]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, which it must within PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


class Taker(asyncio.Protocol):
    """Notes what is called on it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received = b""
        self.paused: list[bool] = []
        self.lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


class _Raw(Response):
    """A response that is whatever the endpoint sends."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, send)


@dataclass
class Served:
    """A running server, and what its routes did."""

    server: HttpServer
    tls: ssl.SSLContext | None
    takers: list[Taker] = field(default_factory=list)
    refused: int = 0
    """How often a connection could not be taken over."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request waits in `/held`."""
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    first: bytes = b": hello\n\n"
    second: bytes = b""

    @property
    def shared(self) -> ServerConnections:
        return self.server._server.connections

    def client(self) -> Any:
        return raw_http(self.server.port, self.tls)

    async def stream(self, scope: Scope, send: Send) -> None:
        """Begin an event stream, and take its connection over."""
        takeover = takeover_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        if takeover.head_only:
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.body", "body": self.first, "more_body": True})
        if self.second:
            await send({"type": "http.response.body", "body": self.second, "more_body": True})
        if scope["path"] == "/held":
            self.held.set()
            await self.leave.wait()
        taker = Taker()
        transport = takeover.take(taker)
        if transport is None:
            self.refused += 1
            return
        assert transport is taker.transport
        self.takers.append(taker)
        if scope["path"] == "/fails":
            raise RuntimeError("after the takeover")


@asynccontextmanager
async def taking_over(
    tls: Authority | None = None, endpoint: Endpoint | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve `/stream`, `/held` (which waits for `leave` first) and `/fails`, and `/ws` by the endpoint."""
    certificate = None if tls is None else tls.issue("server")
    files: dict[str, Any] = (
        {} if certificate is None else {"tls_cert_file": certificate.cert, "tls_key_file": certificate.key}
    )
    http = HttpSettings(port=0, **files, **settings)
    app = build_app(title="t", service="t", http=http, readiness=Readiness())
    server = HttpServer.of(app, http)
    served = Served(server, None if certificate is None else ssl.create_default_context(cafile=certificate.ca))
    _routes(app, served, endpoint)
    await server.start()
    try:
        yield served
    finally:
        await server.stop()
        for taker in served.takers:
            taker.transport.abort()


def _routes(app: FastAPI, served: Served, endpoint: Endpoint | None) -> None:
    @app.get("/stream")
    @app.get("/held")
    @app.get("/fails")
    async def stream(request: Request) -> Response:
        return _Raw(served.stream)

    @app.get("/ws")
    async def websocket(request: Request) -> Response:
        assert endpoint is not None
        return _Raw(endpoint)

    @app.get("/plain")
    async def plain(request: Request) -> Response:
        return StreamingResponse(iter([b"one ", b"two"]))

    @app.get("/ids")
    async def ids(request: Request) -> str:
        return str(request.state.request_id)


def get(path: str, *lines: bytes, version: str = "1.1", method: str = "GET") -> bytes:
    """Return the bytes of a request without a body."""
    return b"\r\n".join([f"{method} {path} HTTP/{version}".encode(), b"Host: x", *lines, b"", b""])
