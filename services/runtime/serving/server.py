"""Serves an ASGI application inside a running event loop, under our own life cycle.

uvicorn does the serving, with these differences: we open the socket (so that port 0 can be resolved and SO_REUSEPORT
set), `lifecycle` handles signals, access logs are off (query strings contain tickets), connections have limits
(`connection`), and both start and stop can be awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from services.runtime.serving.connection import Connection
from services.runtime.serving.connection_limits import ConnectionLimits, ServerConnections, descriptors_wanted
from services.runtime.settings import HttpSettings, SettingsError
from services.runtime.tls import TlsFiles, server_certificate

START_TIMEOUT_S: Final = 30.0
RESERVED_DESCRIPTORS: Final = 128
"""Open files reserved for everything but HTTP connections."""
TICKS_PER_CHECK: Final = 5
"""uvicorn ticks ten times a second."""
_FILES: Final = resource.RLIMIT_NOFILE


class ServerError(Exception):
    """The application refused to start; its log says why."""


class CannotListen(SettingsError):
    """The address is taken or not local. The message names the variables that choose another."""


class _Server(uvicorn.Server):
    """A uvicorn server that signals when it listens, limits connections, and leaves SIGTERM to `lifecycle`."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self.server_state = self.connections = ServerConnections(limits)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, with a deadline for TLS handshakes, which come before `connection_made`."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        timeout_s = self.connections.limits.head_timeout_s if tls is not None else None
        self.servers = [
            await loop.create_server(
                self._connection,
                sock=listener,
                ssl=tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=timeout_s,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self.listening.set()

    def _connection(self) -> Connection:
        return Connection(self.config, self.connections, self.lifespan.state, asyncio.get_running_loop())

    async def _wait_tasks_to_complete(self) -> None:
        # The listening sockets are closed. From Python 3.12 on, asyncio's would also wait for connections taken over.
        self.servers = []
        await super()._wait_tasks_to_complete()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_CHECK == 0:
            self.connections.check(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """One listening socket and the application behind it."""

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        reuse_port: bool = False,
        graceful_stop_s: float = 5.0,
        tls: TlsFiles | None = None,
        port_variable: str = "GAPLESS_HTTP_PORT",
        limits: ConnectionLimits | None = None,
    ) -> None:
        """Prepare the server. Raises BadTlsFile.

        :param tls: the certificate to present; plain HTTP if None.
        :param graceful_stop_s: how long running requests may continue after stop().
        :param limits: the limits of connections; the defaults if None.
        """
        limits = limits or ConnectionLimits()
        self._host = host
        self._wanted_port = port
        self._reuse_port = reuse_port
        self._port_variable = port_variable
        self._socket: socket.socket | None = None
        self._port: int | None = None
        self._serving: asyncio.Task[None] | None = None
        self._certificate = None if tls is None else server_certificate(tls)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",  # an upgrade request reaches the application like any other (`websocket`)
                ssl_context_factory=self._ssl_context if tls is not None else None,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # no code needs the client's address or scheme
                timeout_keep_alive=round(limits.keep_alive_s),
                timeout_graceful_shutdown=max(1, round(graceful_stop_s)),
            ),
            replace(limits, connections=_room_for(limits.connections)),
        )

    @classmethod
    def of(
        cls, app: Any, http: HttpSettings, *, port: int | None = None, port_variable: str = "GAPLESS_HTTP_PORT"
    ) -> HttpServer:
        """Return a server configured by the settings.

        :param port: replaces the settings' port, and is not shared; port_variable names the setting it comes from.
        """
        return cls(
            app,
            host=http.host,
            port=http.port if port is None else port,
            reuse_port=http.reuse_port and port is None,
            tls=http.tls,
            port_variable=port_variable,
            limits=ConnectionLimits.of(http),
        )

    @property
    def port(self) -> int:
        """The TCP port; the one that the system chose if the setting is 0. Known after start()."""
        assert self._port is not None, "start() was not called"
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`, or https; known after start()."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._certificate is None else 'https'}://{host}:{self.port}"

    async def start(self) -> None:
        """Bind, run the application's start-up, and begin to answer requests.

        :raises CannotListen: the port is taken, or the host is not local.
        :raises ServerError: the application did not start.
        """
        try:
            self._socket = await _bound_socket(self._host, self._wanted_port, reuse_port=self._reuse_port)
        except OSError as error:
            raise cannot_listen(self._host, self._wanted_port, error, self._port_variable) from None
        self._port = int(self._socket.getsockname()[1])
        self._serving = asyncio.create_task(self._serve([self._socket]), name=f"http server {self.url}")
        listening = asyncio.create_task(self._server.listening.wait())
        try:
            await asyncio.wait(
                {self._serving, listening},
                timeout=START_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._serving.done():
                self._serving.result()
            if not self._server.listening.is_set():
                raise ServerError(f"The HTTP application did not start within {START_TIMEOUT_S:g} s.")
        except BaseException:
            await self.stop(timeout_s=1.0)
            raise
        finally:
            listening.cancel()

    async def wait_closed(self) -> None:
        """Wait until the server has ended. Meant to be awaited by a supervised task.

        :raises Exception: the error that ended it.
        """
        assert self._serving is not None, "start() was not called"
        await asyncio.shield(self._serving)

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Accept no more connections, let running requests finish, then close; takes at most timeout_s.

        Connections that were taken over stay open: their owner closes them.
        """
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait({self._serving}, timeout=timeout_s)
            if not self._serving.done():
                self._serving.cancel()
                await asyncio.wait({self._serving}, timeout=1.0)
        if self._socket is not None:
            self._socket.close()

    def _ssl_context(self, _config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        assert self._certificate is not None, "asked for only with a certificate"
        return self._certificate.context

    async def _serve(self, sockets: list[socket.socket]) -> None:
        try:
            await self._server.serve(sockets=sockets)
        except SystemExit:  # how uvicorn reports a failed start-up; it must not end the process from here
            raise ServerError("The HTTP application did not start; its log says why.") from None


def _room_for(connections: int) -> int:
    """Raise the limit of open files as far as this process may, and return the number of connections that fit."""
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(_FILES))
    wanted, room = descriptors_wanted(connections, soft, hard, reserved=RESERVED_DESCRIPTORS)
    if wanted > soft:
        resource.setrlimit(_FILES, (wanted, resource.getrlimit(_FILES)[1]))
    return room


async def _bound_socket(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _name, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def cannot_listen(host: str, port: int, error: OSError, port_variable: str) -> CannotListen:
    """Return the error for a socket that could not be bound."""
    return CannotListen(
        f"Cannot listen on {host}:{port} ({error.strerror}): end the program that listens there, or choose another"
        f" address by GAPLESS_HTTP_HOST and {port_variable}."
    )
