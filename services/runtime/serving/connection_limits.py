"""What one client may cost a server below the application: connections, heads of requests, time. Pure.

`ServerConnections` is uvicorn's state that all connections of a server share, extended by the limits and by the order
in which connections have been waiting for their clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Protocol

from uvicorn.server import ServerState

from services.runtime.settings import HttpSettings

TARGET_BYTES: Final = 8 * 1024
"""Longest request target (path and query string)."""
PIECE_BYTES: Final = 16 * 1024
"""How much is parsed before it is held against the limits; sockets are read by up to 256 KiB."""
PIPELINED_REQUESTS: Final = 16
"""Requests of one connection that may wait for the answer to an earlier one."""
FRAMING_PER_BODY_BYTE: Final = 8
"""Bytes of chunk framing per byte of the body; a client that sends single bytes needs five."""
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
"""How long, and for how many bytes, a refused client is read from. A socket that is closed with bytes unread is reset,
and the client never sees the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one server."""

    connections: int = 10_000
    head_bytes: int = 32 * 1024
    """Of a request's header fields, all together, trailers included."""
    header_fields: int = 100
    head_timeout_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    keep_alive_s: float = 65.0
    """Longer than the idle time of common load balancers, which would meet a reset."""
    write_timeout_s: float = 60.0
    """How long a client may leave an answer unread."""
    unread_bytes: int = 256 * 1024 * 1024
    """What all answers that clients have not read yet may take together."""

    @classmethod
    def of(cls, http: HttpSettings) -> ConnectionLimits:
        """Those that the settings of a process name."""
        return cls(
            connections=http.max_connections,
            head_bytes=http.head_limit_bytes,
            header_fields=http.max_header_fields,
            head_timeout_s=http.head_timeout_s,
            keep_alive_s=http.keep_alive_s,
            write_timeout_s=http.write_timeout_s,
            unread_bytes=http.unread_memory_bytes,
        )


class Limited(Protocol):
    """A connection, as far as this module is concerned."""

    def evict(self) -> None: ...

    def check(self, now_s: float) -> None: ...

    def unread(self) -> tuple[int, float]:
        """How many bytes of answers the client has not read yet, and since when it has left any unread."""

    def cut_off(self) -> None:
        """Close at once: the client does not read what it asked for."""


class ServerConnections(ServerState):
    """All connections of one server, and which of them wait for their client, longest wait first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self.limits = limits
        self.waiting: dict[Any, None] = {}

    def has_room(self) -> bool:
        """Make room for the connection that was just added, if need be at the cost of the longest wait.

        A connection waits for its client between two requests and while a request is incomplete; one whose request
        is being answered is never closed. So a client that opens many connections cannot keep others out.
        """
        if len(self.connections) <= self.limits.connections:
            return True
        longest: Limited | None = next(iter(self.waiting), None)
        if longest is None:
            return False
        del self.waiting[longest]
        longest.evict()
        return True

    def check(self, now_s: float) -> None:
        """Hold every connection against its deadlines, and all of them against the memory that they share."""
        everyone: Any = tuple(self.connections)
        unread_bytes = 0
        slow: list[tuple[float, int, Limited]] = []
        for each in everyone:
            each.check(now_s)
            size, since_s = each.unread()
            if size:
                unread_bytes += size
                slow.append((since_s, size, each))
        if unread_bytes > self.limits.unread_bytes:
            for _, size, longest in sorted(slow, key=itemgetter(0)):
                longest.cut_off()
                unread_bytes -= size
                if unread_bytes <= self.limits.unread_bytes:
                    break


def framing_is_excessive(received_bytes: int, body_bytes: int, limits: ConnectionLimits) -> bool:
    """Whether chunk sizes, extensions and trailers outweigh the body that they carry."""
    return received_bytes - body_bytes > limits.head_bytes + FRAMING_PER_BODY_BYTE * body_bytes


def descriptors_wanted(connections: int, soft: int, hard: int, *, reserved: int) -> tuple[int, int]:
    """(new soft limit of open files, connections that fit): raise the soft limit as far as `hard` allows."""
    soft = max(soft, min(hard, connections + reserved))
    return soft, max(1, min(connections, soft - reserved))
