"""A WebSocket on a connection that was taken over: handshake, frames, pings and the closing handshake (RFC 6455).

The protocol is that of the library `websockets`, without its I/O: a connection needs no task and, unless it is closing,
no timer. The owner of a connection writes frames to its transport directly, so that one frame, made once, is written to
many. There is no compression: a small message could otherwise become a large one, and each connection would hold a
window of its own.

    connection = WebSocketConnection(on_text=..., on_lost=..., on_unwritable=..., on_writable=...)
    transport = await accept(scope, send, connection)
    if transport is None:
        return  # the client has gone
    transport.write(text_frame(b"..."))
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable, Sequence
from typing import Final, cast

from starlette.types import Scope, Send
from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from services.runtime.serving.connection_limits import LINGER_BYTES, LINGER_S
from services.runtime.serving.takeover import takeover_of
from services.runtime.web.problems import Problem

MESSAGE_BYTES: Final = 64 * 1024
"""Maximum size of a client's message, in one frame or several."""
SUBPROTOCOLS: Final = ("gapless.v1",)
_VERSION: Final = "13"


def wants_websocket(scope: Scope) -> bool:
    """Return whether a request asks for a WebSocket; `accept` says whether it asks correctly."""
    upgrade = b",".join(value for name, value in scope["headers"] if name == b"upgrade").lower()
    return scope["type"] == "http" and b"websocket" in (token.strip() for token in upgrade.split(b","))


async def accept(
    scope: Scope, send: Send, connection: WebSocketConnection, subprotocols: Sequence[str] = SUBPROTOCOLS
) -> asyncio.Transport | None:
    """Switch the request's connection to `connection`, and return its transport; None if the client has gone.

    The client has to offer one of the subprotocols; the first of ours that it offers is chosen. Raises Problem, before
    anything is sent, if the handshake is not valid.
    """
    takeover = takeover_of(scope)
    headers = _handshake(scope, subprotocols, "HEAD" if takeover.head_only else scope["method"])
    takeover.switch_protocols()
    await send({"type": "http.response.start", "status": int(http.HTTPStatus.SWITCHING_PROTOCOLS), "headers": headers})
    return takeover.take(connection)


def _handshake(scope: Scope, subprotocols: Sequence[str], method: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of the response that accepts the request. Raises Problem if it is not valid."""
    given = Headers()
    for name, value in scope["headers"]:
        given[name.decode("latin-1")] = value.decode("latin-1")
    protocol = ServerProtocol(subprotocols=[Subprotocol(name) for name in subprotocols])
    request = Request(scope["path"], given, method, f"HTTP/{scope['http_version']}")
    response = protocol.accept(request)
    protocol.parser.close()  # breaks a reference cycle
    if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
        detail = f"This is not a valid WebSocket handshake: {protocol.handshake_exc}."
        raise Problem("malformed", detail, headers={"Sec-WebSocket-Version": _VERSION})
    ours = ((name.lower(), value) for name, value in response.headers.raw_items())
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in ours if name != "date"]


def _nothing() -> None: ...


def _ignore(_text: str) -> None: ...


class WebSocketConnection(asyncio.Protocol):
    """One open WebSocket. It calls its owner's functions; the owner writes to the transport.

    A `text_frame` may be written to the transport as long as the connection is not `closing`.

    :param on_text: called with each message of the client.
    :param on_lost: called once, when the connection has ended for whatever reason.
    :param on_unwritable: called when the client reads too slowly; until on_writable is, its input is not read either.
    """

    __slots__ = (
        "_deadline",
        "_discarded_bytes",
        "_frames",
        "_message",
        "_on_lost",
        "_on_text",
        "_on_unwritable",
        "_on_writable",
        "_transport",
    )

    def __init__(
        self,
        *,
        on_text: Callable[[str], None],
        on_lost: Callable[[], None],
        on_unwritable: Callable[[], None] = _nothing,
        on_writable: Callable[[], None] = _nothing,
    ) -> None:
        self._on_text = on_text
        self._on_lost = on_lost
        self._on_unwritable = on_unwritable
        self._on_writable = on_writable
        self._transport: asyncio.Transport
        self._frames = ServerProtocol(state=State.OPEN, max_size=MESSAGE_BYTES)
        self._message: bytearray | None = None
        """What has arrived of a message in several frames."""
        self._deadline: asyncio.TimerHandle | None = None
        """When the connection is aborted; None unless it is closing."""
        self._discarded_bytes = 0

    @property
    def closing(self) -> bool:
        """Whether no more messages are read or may be written."""
        return self._deadline is not None or self._transport.is_closing()

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, behind everything that was written. The connection ends within LINGER_S.

        :param reason: at most 123 bytes in UTF-8.
        """
        if not self.closing:
            self._frames.send_close(code, reason)
            self._send()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        if frames.eof_sent:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self._transport.abort()
            return
        frames.receive_data(data)
        for frame in frames.events_received():
            if self.closing:
                break
            assert isinstance(frame, Frame), "the handshake is done"
            self._read(frame)
        self._send()

    def pause_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()  # each ping read would be a pong to write
        self._on_unwritable()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._on_writable()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        on_lost = self._on_lost
        # Breaks the reference cycles: of the parser's generator, and with the owner of the functions.
        self._frames.parser.close()
        self._on_text = _ignore
        self._on_lost = self._on_unwritable = self._on_writable = _nothing
        on_lost()

    def _read(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._read_text(frame.data)
        elif frame.opcode is Opcode.TEXT:
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
            if frame.fin:
                text, self._message = self._message, None
                self._read_text(text)
        elif frame.opcode is Opcode.BINARY:
            self._fail(CloseCode.UNSUPPORTED_DATA, "messages are text")

    def _read_text(self, data: bytes | bytearray | memoryview) -> None:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text is UTF-8")
        else:
            self._on_text(text)

    def _fail(self, code: int, reason: str) -> None:
        self._frames.fail(code, reason)
        self._send()

    def _send(self) -> None:
        """Write what the protocol has to say, and close when it has said everything."""
        frames, transport = self._frames, self._transport
        data = frames.data_to_send()
        if data and not transport.is_closing():
            transport.write(b"".join(data))
            if frames.eof_sent:
                self._end()
        if self._deadline is None and frames.close_expected():
            self._deadline = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def _end(self) -> None:
        if self._frames.close_rcvd is not None and self._frames.parser_exc is None:
            self._transport.close()
        elif self._transport.can_write_eof():
            # The client may still be sending, and would not see our close frame if the connection were reset.
            self._transport.write_eof()
