"""A frame, and its bytes on each kind of stream.

A frame differs for no reader, so its bytes are made once for each form and shared by all streams of that form.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, final

from msgspec.json import Encoder

from services.runtime.serving.framing import chunk, text_frame

_encode: Final = Encoder().encode


class Form(Enum):
    """How a stream carries frames."""

    SSE = auto()
    """Server-sent events, for all chats: no ids, because a stream's cursor comes in blocks of its own."""
    SSE_OF_A_CHAT = auto()
    """Server-sent events of one chat: the id is the position."""
    WEBSOCKET = auto()


@final
class Frame:
    """One frame: JSON with its `type` first."""

    __slots__ = ("_bytes", "content", "kind", "position")

    def __init__(self, kind: str, content: dict[str, Any], *, position: int | None = None) -> None:
        """:param position: of the event in its chat, for a frame that is made from one."""
        self.kind = kind
        self.content = content
        self.position = position
        self._bytes: dict[Form, bytes] = {}

    def json(self) -> bytes:
        return _encode({"type": self.kind, **self.content})

    def in_form(self, form: Form) -> bytes:
        """Return the frame as a stream of this form carries it."""
        found = self._bytes.get(form)
        if found is None:
            found = self._bytes[form] = _FORMS[form](self)
        return found


def event_block(kind: str, data: bytes, event_id: str | None = None) -> bytes:
    """Return a block of an event stream. JSON has no line ends, so it is one line of data."""
    name = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (name, kind.encode(), data)


def cursor_block(cursor: str) -> bytes:
    """Return a block that sets the last event id and, by the HTML standard, dispatches no event."""
    return b"id: %b\n\n" % cursor.encode()


def _sse(frame: Frame) -> bytes:
    return chunk(event_block(frame.kind, frame.json()))


def _sse_of_a_chat(frame: Frame) -> bytes:
    event_id = None if frame.position is None else str(frame.position)
    return chunk(event_block(frame.kind, frame.json(), event_id))


def _websocket(frame: Frame) -> bytes:
    return text_frame(frame.json())


_FORMS: Final = {Form.SSE: _sse, Form.SSE_OF_A_CHAT: _sse_of_a_chat, Form.WEBSOCKET: _websocket}
