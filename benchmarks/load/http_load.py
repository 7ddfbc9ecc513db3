"""An HTTP load generator in a process of its own, cheap compared with the measured server: requests are bytes built in
advance, connections are kept, and of a response only status and length are parsed.

Closed loop: each connection sends its next request when it has its response; this finds the maximum rate. Open loop:
each request has a due time, from which its latency is measured, whether a connection was free or not.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The responses to a load."""

    seconds: float
    """Seconds from the first request to the last response."""
    waits_s: Sequence[float]
    """Latency of each request, in their order."""
    statuses: dict[int, int]
    cpu_s: float
    """CPU of the generator: near `seconds` means that the generator was the limit, not the server."""
    sample: bytes
    """The last response, complete."""

    @property
    def per_s(self) -> float:
        return len(self.waits_s) / self.seconds

    def require(self, *allowed: int) -> None:
        """Check the statuses. Raises RuntimeError if another one occurred."""
        wrong = {status: count for status, count in self.statuses.items() if status not in allowed}
        if wrong:
            raise RuntimeError(f"answers other than {allowed}: {wrong}; the last: {self.sample[:600]!r}")


class Generator:
    """The generator's process. Runs one load at a time."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Generator]:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield cls(pool)

    async def ask(
        self, url: str, requests: Sequence[bytes], *, connections: int, per_s: float | None = None
    ) -> Answers:
        """Send each request once: at a steady rate if one is given, otherwise as fast as responses come."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _load, url, requests, connections, per_s)


def get(host: str, target: str, token: str, **headers: str) -> bytes:
    """A GET as bytes; `_` in a header's name stands for a hyphen."""
    return _request("GET", host, target, token, headers, b"")


def post(host: str, target: str, token: str, body: bytes, **headers: str) -> bytes:
    return _request("POST", host, target, token, headers, body)


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def _request(method: str, host: str, target: str, token: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _load(url: str, requests: Sequence[bytes], connections: int, per_s: float | None) -> Answers:
    return uvloop.run(_Load(url, requests, per_s).run(connections))


class _Load:
    def __init__(self, url: str, requests: Sequence[bytes], per_s: float | None) -> None:
        host, _, port = urlsplit(url).netloc.rpartition(":")
        self._host, self._port = host, int(port)
        self.requests = requests
        self._per_s = per_s
        self._next = 0
        self._begin_s = 0.0
        self.from_s = [0.0] * len(requests)
        self._waits_s = [0.0] * len(requests)
        self._statuses: Counter[int] = Counter()
        self._left = len(requests)
        self._sample = b""
        self._free: deque[_Connection] = deque()
        self._due: deque[int] = deque()
        self._done: asyncio.Future[None] | None = None

    async def run(self, connections: int) -> Answers:
        loop = asyncio.get_running_loop()
        done = self._done = loop.create_future()
        opened = [
            (await loop.create_connection(lambda: _Connection(self), self._host, self._port))[1]
            for _ in range(min(connections, len(self.requests)))
        ]
        cpu_before_s, self._begin_s = time.process_time(), time.monotonic()
        async with asyncio.timeout(TIMEOUT_S + (len(self.requests) / self._per_s if self._per_s else 0.0)):
            if self._per_s is None:
                for connection in opened:
                    self._ask_next(connection)
            else:
                self._free.extend(opened)
                await self._steadily(self._per_s)
            await done
        seconds = time.monotonic() - self._begin_s
        for connection in opened:
            connection.close()
        return Answers(
            seconds=seconds,
            waits_s=self._waits_s,
            statuses=dict(self._statuses),
            cpu_s=time.process_time() - cpu_before_s,
            sample=self._sample,
        )

    async def _steadily(self, per_s: float) -> None:
        for number in range(len(self.requests)):
            due_s = self._begin_s + number / per_s
            if (wait_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self.from_s[number] = due_s
            if self._free:
                self._free.popleft().ask(number)
            else:
                self._due.append(number)

    def _ask_next(self, connection: _Connection) -> None:
        if self._next < len(self.requests):
            number, self._next = self._next, self._next + 1
            self.from_s[number] = time.monotonic()
            connection.ask(number)

    def answered(self, connection: _Connection, number: int, answer: bytes) -> None:
        self._waits_s[number] = time.monotonic() - self.from_s[number]
        self._statuses[int(answer[9:12])] += 1
        self._sample = answer
        self._left -= 1
        if self._left == 0 and self._done is not None:
            self._done.set_result(None)
        elif self._per_s is None:
            self._ask_next(connection)
        elif self._due:
            connection.ask(self._due.popleft())
        else:
            self._free.append(connection)

    def failed(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class _Connection(asyncio.Protocol):
    """A connection with one request at a time. The server is ours: every response has a Content-Length."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._number = -1
        self._received = b""

    def ask(self, number: int) -> None:
        assert self._transport is not None, "asked before it was connected"
        self._number = number
        self._transport.write(self._load.requests[number])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, but not the base class

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._load.failed(RuntimeError(f"an answer without a length: {received[:300]!r}"))
            return
        length_end = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : length_end if length_end > 0 else end])
        if len(received) >= end + 4 + length:
            self._received = b""
            self._load.answered(self, self._number, received)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.failed(error or RuntimeError("the server closed a connection"))


class Client:
    """One kept connection, for a benchmark that sends one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator[Client]:
        host, _, port = urlsplit(url).netloc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self, request: bytes, status: int) -> bytes:
        """Return the body of the response. Raises RuntimeError if it has another status."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await self._reader.readexactly(length)
        if int(head[9:12]) != status:
            raise RuntimeError(f"not {status}: {head!r} {body!r:.600}")
        return body
