"""One HTTP connection: uvicorn's, with limits on what its client may send and how long it may take.

uvicorn leaves these limits to a proxy: it accepts header fields of any size and number, sets no deadline on a head or
a connection, turns trailers into headers and responds to errors in plain text. Input that becomes a request goes to
the application and is limited there; input that cannot become one is refused here, with the same problem documents.
Deadlines are checked twice a second for all connections, so a request needs no timer.
"""

from __future__ import annotations

import asyncio
import math
import re
import weakref
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from services.runtime.observe.metrics import HTTP_REFUSED
from services.runtime.serving.connection_limits import (
    LINGER_BYTES,
    LINGER_S,
    PIECE_BYTES,
    PIPELINED_REQUESTS,
    TARGET_BYTES,
    ServerConnections,
    framing_is_excessive,
)
from services.runtime.serving.http_1_0 import Http10Cycle
from services.runtime.serving.takeover import EXTENSION, Releasable, Released, Takeover
from services.runtime.web.headers import once_each
from services.runtime.web.middleware import NO_SNIFFING, PRIVATE
from services.runtime.web.problems import Problem
from services.runtime.web.request_ids import request_id_of, traceparent_of

_METHOD_AND_SPACE: Final = re.compile(rb"[A-Za-z][A-Za-z-]{0,31} ")


_IDLE: Final = 0
"""Phases: between two requests,"""
_HEAD: Final = 1
"""within a head,"""
_BODY: Final = 2
"""within a body. Plain ints for speed: every request passes through all of them."""


class _Stop(Exception):
    """Stops the parser; never leaves Connection."""


class Connection(HttpToolsProtocol):
    """:param server_state: a ServerConnections."""

    def __init__(
        self,
        config: Any,
        server_state: ServerConnections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = server_state
        self._limits = server_state.limits
        self._phase = _IDLE
        self._since_s = self.loop.time()
        """Start of the current phase, if the phase has a deadline."""
        self._received_bytes = 0
        """Bytes received in the current phase, except those of the piece in which it began."""
        self._piece_bytes = 0
        """Size of the piece being parsed."""
        self._body_bytes = 0
        self._refusal: Problem | None = None
        self._refused = False
        """Whether the client has been refused; further input is discarded."""
        self._sent_more = False
        """Whether the client has sent something that can be neither a request nor part of one."""
        self._weak: weakref.ref[Releasable] = weakref.ref(self)
        self._linger_until_s: float | None = None
        self._discarded_bytes = 0
        self._unread_since_s: float | None = None
        """Time since when the client has left a response unread; None if it has read everything."""

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since_s = self.loop.time()
        if self._shared.has_room():
            self._shared.waiting[self] = None
        else:
            detail = "This process has as many connections as it takes, and all are being answered."
            self._write(Problem("unavailable", detail, retry_after_s=1))
            self._refused = True
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._sent_more = True
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if len(data) <= PIECE_BYTES:
            self._parse(data)
            return
        rest = memoryview(data)
        while rest and not self._refused:
            self._parse(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]
        self._sent_more = self._sent_more or len(rest) > 0

    def _parse(self, data: bytes | memoryview) -> None:
        phase = self._phase
        self._piece_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request is answered, perhaps by taking the connection over (`takeover`). What follows is not read.
            self._refused = True
            self._sent_more = upgrade.args[0] < len(data)
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or _problem_of(error, bytes(data) if phase == _IDLE else b""))
        else:
            if self._phase != _IDLE:
                self._count(len(data))

    # What the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _HEAD
        self._since_s = self.loop.time()
        self._received_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > TARGET_BYTES:
            raise self._stop(Problem("uri_too_long", f"A path with its query has at most {TARGET_BYTES} bytes."))

    def on_headers_complete(self) -> None:
        self._phase = _BODY
        limits = self._limits
        if len(self.headers) > limits.header_fields or (
            self._received_bytes + self._piece_bytes > limits.head_bytes and self._size_of_headers() > limits.head_bytes
        ):
            raise self._stop(self._head_too_large())
        self._received_bytes = 0
        if len(self.pipeline) >= PIPELINED_REQUESTS:
            raise self._stop(Problem("malformed", "Wait for answers before you send more requests."))
        upgrade = self.parser.should_upgrade()
        if upgrade and self._announces_a_body():
            detail = "A request with a body upgrades nothing: send it without the header Upgrade."
            raise self._stop(Problem("malformed", detail))
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.0":
            self.cycle.__class__ = Http10Cycle
        extensions: dict[str, Any] = {EXTENSION: Takeover(self._weak, self.cycle)}
        self.cycle.scope["extensions"] = extensions
        self.headers = []  # for trailers, which are never merged into the headers of the request

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = _IDLE
        self._shared.waiting.pop(self, None)
        super().on_message_complete()

    # What uvicorn calls

    def on_response_complete(self) -> None:
        """Complete the response as uvicorn does, without its timer for idle connections: `check` handles those."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self._phase != _HEAD:
            self._since_s = self.loop.time()
        if self.cycle.response_complete:
            self._shared.waiting[self] = None

    # What a takeover calls

    def release(self, cycle: RequestResponseCycle) -> Released | None:
        transport = self.transport
        # Either way uvicorn must take the response for finished: it sends nothing more, and misses nothing.
        cycle.disconnected = True
        pipelined = self.cycle is not cycle or self._phase != _IDLE
        if transport.is_closing() or pipelined or self._sent_more:
            transport.close()
            return None
        cycle.response_complete = True
        cycle.message_event.set()  # for a middleware that waits for the client to disconnect
        self._shared.connections.discard(self)
        self._shared.waiting.pop(self, None)
        self.flow.resume_reading()
        self.parser = None  # type: ignore[assignment]  # breaks the reference cycle, as connection_lost does
        return Released(transport, self._shared, self.flow.write_paused)

    # What the server calls

    def evict(self) -> None:
        """Close at once to make room: this client has kept us waiting longest."""
        HTTP_REFUSED.labels(reason="evicted").inc()
        self.transport.abort()

    def cut_off(self) -> None:
        """Close at once: the client does not read its responses."""
        HTTP_REFUSED.labels(reason="unread").inc()
        self.transport.abort()

    def unread(self) -> tuple[int, float]:
        """Return the number of response bytes that the client has not read, and since when it has left any unread."""
        return self.transport.get_write_buffer_size(), self._unread_since_s or math.inf

    def check(self, now_s: float) -> None:
        """Close or refuse the connection if it has missed a deadline."""
        if self._client_reads_nothing(now_s):
            self.cut_off()
        elif self._linger_until_s is not None:
            if now_s > self._linger_until_s:
                self.transport.close()
        elif self._refused or self.transport.is_closing():
            pass
        elif self._phase == _HEAD:
            if now_s - self._since_s > self._limits.head_timeout_s:
                limit_s = f"{self._limits.head_timeout_s:g}"
                self._refuse(
                    Problem("request_timeout", f"The head of the request was not complete within {limit_s} s.")
                )
        elif self._answered() and now_s - self._since_s > self._limits.keep_alive_s:
            self.transport.close()

    def _client_reads_nothing(self, now_s: float) -> bool:
        if not self.flow.write_paused and not self.transport.is_closing():
            self._unread_since_s = None
            return False
        if self._unread_since_s is None:
            self._unread_since_s = now_s
        return now_s - self._unread_since_s > self._limits.write_timeout_s

    def _count(self, received_bytes: int) -> None:
        """Bound the bytes that the parser has not passed on yet: a partial header, chunk framing."""
        self._received_bytes += received_bytes
        limits = self._limits
        if len(self.headers) > limits.header_fields:
            self._refuse(self._head_too_large())
        elif self._phase == _HEAD:
            if self._received_bytes > TARGET_BYTES + limits.head_bytes:
                self._refuse(self._head_too_large())
        elif framing_is_excessive(self._received_bytes, self._body_bytes, limits):
            self._refuse(Problem("malformed", "The chunks of the body carry more framing than content."))

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _size_of_headers(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _announces_a_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
            for name, value in self.headers
        )

    def _head_too_large(self) -> Problem:
        limits = self._limits
        detail = f"A request has at most {limits.header_fields} header fields, {limits.head_bytes} bytes in all."
        return Problem("headers_too_large", detail)

    def _stop(self, problem: Problem) -> _Stop:
        self._refusal = problem
        return _Stop()

    def _refuse(self, problem: Problem) -> None:
        """Respond to input that cannot become a request, after the responses to earlier requests, and close."""
        self._refused = True
        HTTP_REFUSED.labels(reason=problem.reason).inc()
        cycle = self.cycle
        if self._phase == _BODY and cycle is not None and cycle.scope is self.scope:
            if self.pipeline or cycle.response_started:
                self.transport.abort()  # the client would take this response for that of an earlier request
                return
            cycle.disconnected = True  # so that the application does not wait for the rest of the body
            cycle.message_event.set()
        elif not self._answered():
            cycle.keep_alive = False  # closes the connection after its own response
            return
        self._write(problem)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_until_s = self.loop.time() + LINGER_S

    def _write(self, problem: Problem) -> None:
        given = once_each(list(self.scope["headers"]) if self.scope else [])
        request_id = request_id_of(given.get(b"x-request-id"))
        response = problem.response(request_id=request_id)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode("ascii")),
            (b"traceparent", traceparent_of(given.get(b"traceparent"), request_id).encode("ascii")),
            NO_SNIFFING,
            PRIVATE,
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(response.body))


def _problem_of(error: httptools.HttpParserError, start: bytes) -> Problem:
    """Return the problem for a parser error.

    :param start: the first bytes of the request, if the parser got no further than its first line.
    """
    if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD_AND_SPACE.match(start.lstrip(b"\r\n")):
        return Problem("unknown_method", "HTTP/1.1 has no such method, or none that is known here.")
    return Problem("malformed", "This is not a valid HTTP/1.1 request.")
