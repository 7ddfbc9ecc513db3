"""Parses an event stream as the HTML standard says (§9.2.6, *Interpreting an event stream*). Pure.

parser = EventStreamParser()
for piece in response: yield from parser.feed(piece)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"


class StreamEvent(NamedTuple):
    kind: str
    data: str


class EventStreamParser:
    """The state of one stream, from its first byte."""

    def __init__(self) -> None:
        self._rest = b""
        self._at_start = True
        self._kind = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """Yield the events that this piece of the stream completes."""
        self._rest += piece
        if self._at_start:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return
            self._rest = self._rest.removeprefix(_BOM)
            self._at_start = False
        *lines, self._rest = _lines(self._rest)
        for line in lines:
            event = self._take(line.decode("utf-8", "replace"))
            if event is not None:
                yield event

    def _take(self, line: str) -> StreamEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._kind = value
        return None  # a comment (an empty field), an id (frames have positions), or a field of no concern here

    def _dispatch(self) -> StreamEvent | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        return StreamEvent(kind or "message", "\n".join(data)) if data else None


def _lines(text: bytes) -> list[bytes]:
    """Return the lines, which end with CR, LF or both, and last what has no end yet.

    A CR at the very end is not an end yet, because an LF may follow.
    """
    held = b"\r" if text.endswith(b"\r") else b""
    body = text[: len(text) - len(held)]
    *lines, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [*lines, rest + held]
