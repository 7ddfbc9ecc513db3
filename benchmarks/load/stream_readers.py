"""Readers of event streams, in a process of its own: thousands of sockets on one epoll, with little parsing.

A message's text begins with `@<ns>@`, the monotonic clock of this machine just before it was sent. Each reader counts
the messages that arrive; a piece that cuts the name of an event in two is joined with what follows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import resource
import select
import socket
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ADDRESSES: Final = 8
"""Connections come from 127.0.0.2 and the addresses after it, so that ports do not run out."""
CONNECTING: Final = 200
"""Connections being opened at once."""
_MESSAGE: Final = b"event: message\n"
_GAP: Final = b"event: gap\n"
"""Shorter than _MESSAGE, of which the end of a piece is kept: it is seen at least once."""
_STAMP: Final = re.compile(rb"@(\d+)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What all readers got."""

    bytes: int
    messages: int
    incomplete: int
    """Readers that do not have as many as they should."""
    gaps: int
    """`gap` frames."""
    waits_ms: Sequence[float]
    """Times from a send until a reader has it, of the first message in each piece read."""
    opened_s: float
    """From the first connection until all were open."""
    complete_s: float
    """From the first connection until all had what they should, or the end."""
    cpu_s: float


class Readers:
    """The process of the readers."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Readers]:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield cls(pool)

    async def follow(
        self,
        url: str,
        requests: Sequence[bytes],
        *,
        expected: int,
        seconds: float,
        ready_path: str,
        hold_s: float | None = None,
    ) -> Received:
        """Open a stream for each request, and read until each has `expected` messages, or for `seconds`; with `hold_s`,
        for as long after all are open.

        Writes to `ready_path` once all are open.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _follow, url, requests, expected, seconds, ready_path, hold_s)


class _Reader:
    __slots__ = ("messages", "rest", "started")

    def __init__(self) -> None:
        self.messages = 0
        self.started = False
        self.rest = b""


def _follow(
    url: str, requests: Sequence[bytes], expected: int, seconds: float, ready_path: str, hold_s: float | None
) -> Received:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    at = urlsplit(url)
    address = (str(at.hostname), int(at.port or 0))
    cpu_s, began_s = time.process_time(), time.monotonic()
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    readers: dict[int, _Reader] = {}
    waits_ms: list[float] = []
    gaps = complete = opened = received_bytes = 0
    opened_s = complete_s = 0.0
    waiting = list(enumerate(requests))[::-1]
    opening = 0
    deadline_s = began_s + seconds
    while time.monotonic() < deadline_s and complete < len(requests):
        while waiting and opening < CONNECTING:
            number, request = waiting.pop()
            client = socket.socket()
            client.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
            client.connect(address)
            client.setblocking(False)
            client.sendall(request)
            sockets[client.fileno()] = client
            readers[client.fileno()] = _Reader()
            poll.register(client.fileno(), select.EPOLLIN)
            opening += 1
        for fd, _ in poll.poll(0.05, 512):
            reader = readers[fd]
            data = sockets[fd].recv(262_144)
            if not data:
                raise RuntimeError("a stream ended")
            if not reader.started and b"event: ready\n" in data:
                reader.started = True
                opening -= 1
                opened += 1
                if opened == len(requests):
                    opened_s = time.monotonic() - began_s
                    Path(ready_path).write_text("ready", encoding="ascii")
                    if hold_s is not None:
                        deadline_s = time.monotonic() + hold_s
            if expected:
                received_bytes += len(data)
                data = reader.rest + data
                reader.rest = data[-len(_MESSAGE) + 1 :]
                found = data.count(_MESSAGE)
                if found:
                    before = reader.messages
                    reader.messages += found
                    if before < expected <= reader.messages:
                        complete += 1
                    stamp = _STAMP.search(data)
                    if stamp is not None:
                        waits_ms.append((time.monotonic_ns() - int(stamp[1])) / 1e6)
                gaps += data.count(_GAP)
    complete_s = time.monotonic() - began_s
    for client in sockets.values():
        client.close()
    return Received(
        bytes=received_bytes,
        messages=sum(reader.messages for reader in readers.values()),
        incomplete=len(requests) - complete,
        gaps=gaps,
        waits_ms=waits_ms,
        opened_s=opened_s,
        complete_s=complete_s,
        cpu_s=time.process_time() - cpu_s,
    )
