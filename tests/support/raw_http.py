"""HTTP as bytes on a socket, for requests that no well-behaved client would send."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document in the body, checked for everything that a client relies on."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        assert self.headers["traceparent"]
        return document

    @property
    def reason(self) -> str:
        return str(self.problem["type"]).removeprefix("/problems/")


class RawHttp:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send the bytes; returns early if the server has closed."""
        if self.writer.is_closing():
            return
        self.writer.write(data)
        try:
            await self.writer.drain()
        except OSError:
            pass

    async def answer(self, *, head_only: bool = False) -> RawAnswer:
        """Return the next answer.

        Raises IncompleteReadError if the server closes instead.
        """
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = 0 if head_only else int(headers.get("content-length", "0"))
            return RawAnswer(int(status_line.split(" ")[1]), headers, await self.reader.readexactly(length))

    async def exactly(self, size: int) -> bytes:
        """Return the next bytes, which must arrive within PATIENCE_S."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(size)

    async def ask(self, data: bytes) -> RawAnswer:
        await self.send(data)
        return await self.answer()

    async def closed(self) -> bytes:
        """Return what still arrives until the server closes the connection, which it must within PATIENCE_S."""
        rest = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self.reader.read(65_536):
                    rest += piece
            except OSError:
                pass
        return rest


@asynccontextmanager
async def raw_http(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawHttp]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield RawHttp(reader, writer)
    finally:
        writer.transport.abort()
