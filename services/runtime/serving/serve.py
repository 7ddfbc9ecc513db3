"""Runs an HTTP server and the services that its application needs, until a stop is requested."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog

from services.runtime.process.collector import infrequent_gc
from services.runtime.process.lifecycle import Supervisor
from services.runtime.serving.server import HttpServer

_log = structlog.get_logger(__name__)


class Service(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def serve(
    server: HttpServer,
    services: Sequence[Service],
    supervisor: Supervisor,
    *,
    shutdown_timeout_s: float,
    supervised: Mapping[str, Callable[[], Coroutine[Any, Any, Any]]] | None = None,
) -> None:
    """Start the services in order and then the server; at the end stop the server first, then the services in reverse.

    :param supervised: what else the supervisor watches once the server listens, by name.
    """
    try:
        for service in services:
            await service.start()
        # Last: with a shared port the kernel sends requests as soon as it listens.
        await server.start()
        _log.info("listening", url=server.url)
        for name, watched in (supervised or {}).items():
            supervisor.start(name, watched())
        supervisor.start("http server", server.wait_closed())
        with infrequent_gc():
            await supervisor.stop_requested()
    finally:
        # Requests first, then what they wait for, so that each gets its outcome or 202.
        await server.stop(timeout_s=shutdown_timeout_s / 2)
        for service in reversed(services):
            await service.stop()
