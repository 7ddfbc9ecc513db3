"""The bytes around what a connection that was taken over is written. Made once, they may be written to many. Pure."""

from __future__ import annotations

from typing import Final

from websockets.frames import Frame, Opcode

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a chunked response."""
PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
"""A WebSocket's ping, which the client's library answers."""


def chunk(data: bytes) -> bytes:
    """Return the data, which must not be empty, as one chunk of a chunked response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def text_frame(payload: bytes) -> bytes:
    """Return the WebSocket frame of a text, which is the payload in UTF-8."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)
