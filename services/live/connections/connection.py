"""What `Streams` needs of a connection, whatever carries it."""

from __future__ import annotations

from typing import Protocol

from services.live.hub.stream import Sink, Stream


class Connection(Sink, Protocol):
    kind: str
    """`sse`, `sse_of_a_chat` or `websocket`, as metrics name it."""
    stream: Stream | None
    expires_at_s: float
    is_paused: bool
    paused_since_s: float

    def heartbeat(self) -> None: ...

    def bye(self, reason: str, after_ms: int, /) -> None: ...

    def abort(self) -> None:
        """Close at once: the client does not read."""


class Owner(Protocol):
    """What a connection tells of itself."""

    def paused(self, connection: Connection, /) -> None: ...

    def resumed(self, connection: Connection, /) -> None: ...

    def lost(self, connection: Connection, /) -> None: ...

    def overrun(self, connection: Connection, /) -> None:
        """Its client sends more than is answered."""
