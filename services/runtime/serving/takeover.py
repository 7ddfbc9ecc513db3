"""Takes a connection over from HTTP, for a response that lasts: an event stream or a WebSocket.

A route begins its response through ASGI as usual, with the headers of all middleware, and then hands the transport to a
protocol of its own. uvicorn's protocol, parser, request cycle and task are forgotten: an idle stream costs a transport
and what its protocol holds, and every write of it is `transport.write`.

    await send({"type": "http.response.start", "status": 200, "headers": [...]})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    takeover = takeover_of(scope)
    transport = takeover.take(protocol)
    if transport is None:
        return  # the client has gone
    transport.write(chunk(data) if takeover.chunked else data)
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from services.runtime.serving.connection_limits import ServerConnections

EXTENSION: Final = "gapless.takeover"
"""Key in `scope["extensions"]`."""


class Releasable(Protocol):
    """The part of a connection that this module needs."""

    def release(self, cycle: RequestResponseCycle) -> Released | None:
        """Forget the connection, whose response was begun. Returns None, and closes, if it cannot be taken over."""


class Released(NamedTuple):
    """A connection that its HTTP protocol has forgotten."""

    transport: asyncio.Transport
    connections: ServerConnections
    write_paused: bool
    """Whether the transport has asked to pause writing."""


class Takeover:
    """The right of one request to take its connection. Holds it weakly, because the request's scope holds this."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: weakref.ref[Releasable], cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = weakref.ref(cycle)

    @property
    def chunked(self) -> bool:
        """Whether the response that was begun is chunked (HTTP/1.1), so that every write must be a `chunk`.

        If not (HTTP/1.0), the end of the connection is the end of the response.
        """
        return bool(self._current().chunked_encoding)

    @property
    def head_only(self) -> bool:
        """Whether the request is HEAD, whose response has no body; `take` is not for it. A route sees GET."""
        return self._current().scope["method"] == "HEAD"

    def switch_protocols(self) -> None:
        """Prepare the response for status 101: it has no body, and the connection stays open."""
        cycle = self._current()
        cycle.chunked_encoding = False
        cycle.keep_alive = True

    def take(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """Hand the connection to `protocol` after the response was begun, and return its transport.

        connection_made is called first, as on a new connection, and pause_writing next if the client has not read all
        that was written before. The server's deadlines, limit of unread bytes and graceful stop no longer apply: the
        protocol's owner has its own. The connection still counts against the server's limit.

        Returns None, and closes, if the client has gone, or has sent something behind its request: a client of a stream
        has to wait for its response. The application then just returns. Raises RuntimeError if the response has not
        been begun, is complete, or is to HEAD.
        """
        cycle, connection = self._current(), self._connection()
        if cycle.disconnected:
            return None
        if not cycle.response_started or cycle.response_complete or self.head_only:
            raise RuntimeError("a connection is taken over while the body of its response is under way")
        released = None if connection is None else connection.release(cycle)
        if released is None:
            return None
        released.transport.set_protocol(_Counted(protocol, released.connections))
        protocol.connection_made(released.transport)
        if released.write_paused:
            protocol.pause_writing()
        return released.transport

    def _current(self) -> RequestResponseCycle:
        cycle = self._cycle()
        if cycle is None:
            raise RuntimeError("the request has ended")
        return cycle


class _Counted(asyncio.Protocol):
    """Passes everything on to the protocol that took the connection, and counts the connection until it is lost."""

    __slots__ = ("_connections", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, connections: ServerConnections) -> None:
        self._protocol = protocol
        self._connections = connections
        connections.taken += 1

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.taken -= 1
        self._protocol.connection_lost(exc)


def takeover_of(scope: Mapping[str, Any]) -> Takeover:
    """Return the takeover of a request. Raises RuntimeError if the application is served by another server."""
    takeover = scope.get("extensions", {}).get(EXTENSION)
    if takeover is None:
        raise RuntimeError("only a request that HttpServer serves can take its connection over")
    return cast(Takeover, takeover)
