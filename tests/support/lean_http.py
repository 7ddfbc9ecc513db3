"""A cheap client for many small GETs, so that the client is not a large part of the measured load.

It supports only our API (Content-Length, persistent connections), and returns just the status and the body's bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    body: bytes


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class LeanHttp:
    """At most `connections` requests at once; further ones wait for a free connection."""

    def __init__(self, url: str, *, connections: int) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._host, self._port = address.hostname, address.port
        self._room = asyncio.Semaphore(connections)
        self._free: deque[_Connection] = deque()

    async def get(self, target: str, token: str, *, timeout_s: float) -> Answer:
        """Send a GET and return its answer.

        Raises OSError, EOFError or TimeoutError if the answer is incomplete or late.
        """
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Authorization: Bearer {token}\r\nAccept: application/json\r\n\r\n"
        )
        async with self._room, asyncio.timeout(timeout_s):
            # The connection that was idle longest, so that the server does not close one for being idle.
            connection = self._free.popleft() if self._free else await self._connect()
            try:
                connection.writer.write(request.encode("ascii"))
                answer = await _read(connection.reader)
            except BaseException:
                connection.writer.close()
                raise
            self._free.append(connection)
            return answer

    async def close(self) -> None:
        while self._free:
            writer = self._free.pop().writer
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(self._host, self._port))


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
    return Answer(int(status_line.split(" ", 2)[1]), await reader.readexactly(length))
