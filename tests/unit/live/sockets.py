"""A connection in memory that holds what its client has not read yet, and says so to the hub as a transport does."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, final

from services.live.frames.frame import Form

Frame = dict[str, Any]


@final
class Socket:
    """A Sink. Takes no more from the moment when more than `high` bytes are waiting, until at most a quarter is.

    :param wrote: called with each frame as it is written.
    """

    def __init__(self, form: Form, *, high: int, wrote: Callable[[Frame], None]) -> None:
        self.form = form
        self.high = high
        self._wrote = wrote
        self.on_write: Callable[[bytes], object] = lambda _: None
        self.on_pause: Callable[[], None] = lambda: None
        self.on_resume: Callable[[], None] = lambda: None
        self.waiting: deque[tuple[int, Frame]] = deque()
        self.size = 0
        self.is_paused = False
        self.closed: str | None = None

    # Sink

    def takes_more(self) -> bool:
        return not self.is_paused

    def write(self, data: bytes) -> None:
        assert self.closed is None, f"{data!r} after the end"
        self.on_write(data)
        for piece in pieces_of(data, self.form):
            self._append(len(piece), frame_in(piece, self.form))
        if self.size > self.high and not self.is_paused:
            self.is_paused = True
            self.on_pause()

    def say_cursor(self, cursor: str) -> None:
        assert self.closed is None
        self._append(len(cursor), {"type": "cursor", "cursor": cursor})
        if self.size > self.high and not self.is_paused:
            self.is_paused = True
            self.on_pause()

    def close(self, reason: str) -> None:
        self.closed = reason

    def _append(self, size: int, frame: Frame) -> None:
        self._wrote(frame)
        self.waiting.append((size, frame))
        self.size += size

    # The client's side

    def read(self) -> Frame | None:
        """Return the next frame, if one is waiting. `drained` comes after it."""
        if not self.waiting:
            return None
        size, frame = self.waiting.popleft()
        self.size -= size
        return frame

    def drained(self) -> None:
        if self.is_paused and self.size <= self.high // 4:
            self.is_paused = False
            self.on_resume()


def pieces_of(data: bytes, form: Form) -> Iterator[bytes]:
    """Yield what stands for one frame each: chunks, or WebSocket messages."""
    at = 0
    while at < len(data):
        if form is Form.WEBSOCKET:
            length = {126: (4, data[at + 2 : at + 4]), 127: (10, data[at + 2 : at + 10])}.get(data[at + 1])
            head, size = (2, data[at + 1]) if length is None else (length[0], int.from_bytes(length[1], "big"))
            end = at + head + size
        else:
            start = data.index(b"\r\n", at) + 2
            end = start + int(data[at : start - 2], 16) + 2
        yield data[at:end]
        at = end


def frame_in(data: bytes, form: Form) -> Frame:
    """Return the one frame that a stream of this form is written in this piece."""
    if form is Form.WEBSOCKET:
        assert data[0] == 0x81
        start = {126: 4, 127: 10}.get(data[1], 2)
        found: Frame = json.loads(data[start:])
        return found
    size, _, rest = data.partition(b"\r\n")
    assert int(size, 16) == len(rest) - 2
    fields = dict(line.split(b": ", 1) for line in rest.split(b"\n") if b": " in line)
    frame: Frame = json.loads(fields[b"data"])
    assert fields[b"event"].decode() == frame["type"]
    if form is Form.SSE_OF_A_CHAT and "position" in frame:
        assert int(fields[b"id"]) == frame["position"]
    else:
        assert b"id" not in fields or frame["type"] == "removed"
    return frame
