"""Limits on what one client may cost a server below the application: connections, request heads, time. Pure.

`ServerConnections` is the state that all connections of a uvicorn server share, extended by the limits and by the
order in which connections have been waiting for their clients.
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
"""Number of bytes parsed between two checks of the limits. Sockets are read in pieces of up to 256 KiB."""
PIPELINED_REQUESTS: Final = 16
"""Maximum number of requests of one connection that wait for the response to an earlier one."""
FRAMING_PER_BODY_BYTE: Final = 8
"""Maximum bytes of chunk framing per byte of the body. A client that sends single bytes needs five."""
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
"""How long, and for how many bytes, input of a refused client is still read. A socket closed with unread input is
reset, and the client would never see the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one server."""

    connections: int = 10_000
    head_bytes: int = 32 * 1024
    """Maximum total size of a request's header fields, trailers included."""
    header_fields: int = 100
    head_timeout_s: float = 10.0
    """Deadline from the first byte of a request to the end of its head."""
    keep_alive_s: float = 65.0
    """How long a connection may be idle. Longer than the idle time of common load balancers, which would otherwise send
    requests into closed connections."""
    write_timeout_s: float = 60.0
    """How long a client may leave a response unread."""
    unread_bytes: int = 256 * 1024 * 1024
    """Maximum total size of all responses that clients have not read yet."""

    @classmethod
    def of(cls, http: HttpSettings) -> ConnectionLimits:
        """Return the limits that a process's settings configure."""
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
    """The part of a connection that this module needs."""

    def evict(self) -> None: ...

    def check(self, now_s: float) -> None: ...

    def unread(self) -> tuple[int, float]:
        """Return the number of response bytes that the client has not read, and since when it has left any unread."""

    def cut_off(self) -> None:
        """Close at once: the client does not read its responses."""


class ServerConnections(ServerState):
    """All connections of one server, and those that wait for their client, longest wait first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self.limits = limits
        self.waiting: dict[Any, None] = {}
        self.taken = 0
        """Number of open connections that a response has taken over (`takeover`). They are in no other collection."""

    def has_room(self) -> bool:
        """Make room for the connection that was just added, if necessary by closing the one that has waited longest.

        A connection waits for its client between two requests and while a request is incomplete; one whose request
        is being answered or was taken over is never closed. So a client that opens many connections cannot keep others
        out.
        """
        if len(self.connections) + self.taken <= self.limits.connections:
            return True
        longest: Limited | None = next(iter(self.waiting), None)
        if longest is None:
            return False
        del self.waiting[longest]
        longest.evict()
        return True

    def check(self, now_s: float) -> None:
        """Check every connection's deadlines, and the total memory that all of them use."""
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
    """Return whether chunk sizes, extensions and trailers outweigh the body."""
    return received_bytes - body_bytes > limits.head_bytes + FRAMING_PER_BODY_BYTE * body_bytes


def descriptors_wanted(connections: int, soft: int, hard: int, *, reserved: int) -> tuple[int, int]:
    """Return (soft limit of open files to set, number of connections that fit), with at most `hard` open files."""
    soft = max(soft, min(hard, connections + reserved))
    return soft, max(1, min(connections, soft - reserved))
