"""An event stream: the connection of one stream of server-sent events, after it was taken over from HTTP.

It has no task and no timer: the hub writes to it, and `Streams` checks on all connections together.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast, final

from services.live.connections.connection import Owner
from services.live.frames import control
from services.live.frames.frame import Form, cursor_block
from services.live.hub.stream import Stream
from services.runtime.serving.framing import LAST_CHUNK, chunk

HEARTBEAT: Final = chunk(b":\n\n")


@final
class EventStream(asyncio.Protocol):
    """A Sink. All that is written to it is whole chunks."""

    __slots__ = (
        "_ended",
        "_owner",
        "_transport",
        "chunked",
        "expires_at_s",
        "is_paused",
        "kind",
        "paused_since_s",
        "stream",
    )

    def __init__(self, owner: Owner, form: Form, *, expires_at_s: float) -> None:
        """:param expires_at_s: of time.time(); the end of the caller's token."""
        self.kind = form.name.lower()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self.chunked = True
        """Whether the response is chunked; False for HTTP/1.0."""
        self.expires_at_s = expires_at_s
        self._ended = False
        self.is_paused = False
        self.paused_since_s = 0.0
        self.stream: Stream | None = None

    # Sink

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._ended:
            self._transport.write(data if self.chunked else _unchunked(data))

    def close(self, reason: str) -> None:
        self.bye(reason, 0)

    # What `Streams` calls

    def heartbeat(self) -> None:
        self.write(HEARTBEAT)

    def takes_more(self) -> bool:
        return not self.is_paused

    def say_cursor(self, cursor: str) -> None:
        self.write(chunk(cursor_block(cursor)))

    def bye(self, reason: str, after_ms: int) -> None:
        """Say why the stream ends and when to come back, and close."""
        transport = self._transport
        if transport is None or self._ended:
            return
        self.write(chunk(b"retry: %d\n" % max(after_ms, 1)))
        self.write(control.bye(reason, after_ms).in_form(Form.SSE))
        if self.chunked:
            transport.write(LAST_CHUNK)
        self._ended = True
        transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Ignored: the request is over, and a stream has no end after which another could be answered."""

    def eof_received(self) -> None:
        """The transport closes: a client that has closed its side is gone, and its stream would count until a heartbeat
        finds that out."""

    def pause_writing(self) -> None:
        self.is_paused = True
        self.paused_since_s = asyncio.get_running_loop().time()
        self._owner.paused(self)

    def resume_writing(self) -> None:
        self.is_paused = False
        self._owner.resumed(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._owner.lost(self)


def _unchunked(chunks: bytes) -> bytes:
    """Return what the chunks of a chunked response hold."""
    found: list[bytes] = []
    at = 0
    while at < len(chunks):
        start = chunks.index(b"\r\n", at) + 2
        end = start + int(chunks[at : start - 2], 16)
        found.append(chunks[start:end])
        at = end + 2
    return b"".join(found)
