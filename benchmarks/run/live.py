"""End to end on an idle system: from a send over HTTP until the message is visible.

    gapless bench live

The processes of `gapless up`: `gapless api`, two sequencers, one projector, eight partitions. One send at a time, about
fifty milliseconds apart, so that each finds every process idle. In turn: a send whose row is looked for in the tables,
by bare SQL without a pause; a send that is read back over HTTP with its token (`Gapless-At-Least`), one request,
answered once the page shows the message; a send that another member waits for on an event stream, their screen. After
each, and a pause as before a send, a bare read over the same connection.

The first baseline is that read: an answer without the log. The other is the trigger with one client, whose message is
visible when it is committed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from benchmarks.load import trigger
from benchmarks.load.conversations import Chat, message_body
from benchmarks.load.http_load import Client, get, host_of, post
from benchmarks.load.open_loop import Latencies
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.run.ingest import made_chats
from benchmarks.servers.database import session
from benchmarks.servers.ground import SECRET, Ground, Log
from services.runtime.access.auth import mint_token

PARTITIONS: Final = 8
PAUSE_S: Final = (0.03, 0.07)
WARM_UP: Final = 100
WAYS: Final = ("send_to_visible", "send_to_history", "send_to_screen")
DEADLINE_S: Final = 10.0
READ: Final = "GET /v1/chats/{chat_id}/latest-seq over the same connection"
BASELINE: Final = f"{trigger.NAME.split(';', maxsplit=1)[0]}; one client, visible at its commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    sends: int = 600
    chats: int = 100
    baseline_s: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results; the first two are those of `send_to_visible`."""

    p50_ms: float
    p99_ms: float
    send_to_seq: Latencies
    """Times from a send until its sender has the 201."""
    send_to_screen: Latencies
    """Times from a send until another member's event stream has the message."""
    send_to_visible: Latencies
    """Times from a send until its row is committed in the tables."""
    send_to_history: Latencies
    """Times from a send until a page of history, requested with the token of the 201, shows the message."""
    first_sends: Latencies
    """Times from a send until its 201, of the first hundred after the start of the processes."""
    read: Latencies
    read_baseline: str
    of_a_read: float
    """The median of `send_to_seq` divided by that of `read`."""
    screen_of_seq: float
    """The median of `send_to_screen` divided by that of `send_to_seq`."""
    baseline: str
    baseline_p50_ms: float
    ratio: float
    """The baseline's median divided by ours: below 1, since we write a log and a projection."""
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a send was not answered or never became visible.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    chats = await made_chats(ground, log, options.chats)
    async with (
        ground.service("sequencer", log) as sequencer,
        ground.service("sequencer", log) as standby,
        ground.service("projector", log) as projector,
        ground.service("api", log) as api,
    ):
        for service in (sequencer, standby, projector, api):
            await service.until_ready()
        async with _Watch.on(log) as watch, Client.of(api.url) as client, _Screen.of(api.url, chats[0]) as screen:
            bench = _Bench(client, host_of(api.url), watch, screen, chats)
            for number in range(WARM_UP + options.sends):
                await bench.one(number)
    waits_s = bench.waits_s
    first = Latencies.of(waits_s["send_to_seq"][:WARM_UP], 0)
    counts = {name: options.sends // (1 if name in ("send_to_seq", "read") else len(WAYS)) for name in waits_s}
    found = {name: Latencies.of(waits[-counts[name] :], 0) for name, waits in waits_s.items()}
    for name, latencies in found.items():
        on_step(f"{name}: p50 {latencies.p50_ms} ms, p99 {latencies.p99_ms} ms")
    async with trigger.Trigger.on(ground.dsn, stored=10_000) as table:
        baseline = await table.run(chats=options.chats, seconds=options.baseline_s, clients=1)
    on_step(f"trigger: p50 {baseline.latencies.p50_ms} ms")
    return Figures(
        p50_ms=found["send_to_visible"].p50_ms,
        p99_ms=found["send_to_visible"].p99_ms,
        send_to_seq=found["send_to_seq"],
        send_to_screen=found["send_to_screen"],
        send_to_visible=found["send_to_visible"],
        send_to_history=found["send_to_history"],
        first_sends=first,
        read=found["read"],
        read_baseline=READ,
        of_a_read=round(found["send_to_seq"].p50_ms / found["read"].p50_ms, 2),
        screen_of_seq=round(found["send_to_screen"].p50_ms / found["send_to_seq"].p50_ms, 2),
        baseline=BASELINE,
        baseline_p50_ms=baseline.latencies.p50_ms,
        ratio=round(baseline.latencies.p50_ms / found["send_to_visible"].p50_ms, 3),
        machine=watched.summary(),
    )


class _Watch:
    """Observes rows in the tables."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def on(cls, log: Log) -> AsyncIterator[_Watch]:
        async with await session(log.dsn) as connection:
            yield cls(connection)

    async def visible_at(self, chat_id: str, seq: int) -> float:
        """Return when the row was in the tables, by polling."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                cursor = await self._connection.execute(
                    "SELECT 1 FROM chat.chat_messages WHERE chat_id = %s AND seq = %s", (chat_id, seq)
                )
                if await cursor.fetchone() is not None:
                    return time.monotonic()


class _Screen:
    """The event stream of a chat's second member."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self._seen_s: dict[int, float] = {}
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, chat: Chat) -> AsyncIterator[_Screen]:
        at = urlsplit(url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writer.write(get(host_of(url), "/v1/live", mint_token(SECRET, chat.members[1])))
        screen = cls(chat)
        following = asyncio.create_task(screen._follow(reader))
        try:
            yield screen
        finally:
            following.cancel()
            writer.close()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b'data: {"type":"message"'):
                self._seen_s[json.loads(line.removeprefix(b"data: "))["message"]["seq"]] = time.monotonic()
                self._news.set()

    async def shown_at(self, seq: int) -> float:
        """Return when the stream brought the message."""
        async with asyncio.timeout(DEADLINE_S):
            while seq not in self._seen_s:
                self._news.clear()
                await self._news.wait()
        return self._seen_s.pop(seq)


class _Bench:
    """The sends and reads, and their times."""

    def __init__(self, client: Client, host: str, watch: _Watch, screen: _Screen, chats: Sequence[Chat]) -> None:
        self.waits_s: dict[str, list[float]] = {name: [] for name in ("send_to_seq", "read", *WAYS)}
        self._chance = random.Random(1)
        self._client = client
        self._host = host
        self._watch = watch
        self._screen = screen
        self._chats = chats
        self._tokens = [mint_token(SECRET, chat.members[0]) for chat in chats]

    async def one(self, number: int) -> None:
        """Measure a send, until it is visible in the way whose turn it is, and a read."""
        await self._pause()
        way = WAYS[number % len(WAYS)]
        of = 0 if way == "send_to_screen" else number % len(self._chats)
        chat_id = self._chats[of].chat_id
        request = post(
            self._host,
            f"/v1/chats/{chat_id}/messages",
            self._tokens[of],
            message_body(number),
            Idempotency_Key=f"send-{number}",
        )
        sent_s = time.monotonic()
        answer = json.loads(await self._client.ask(request, 201))
        self.waits_s["send_to_seq"].append(time.monotonic() - sent_s)
        if way == "send_to_visible":
            visible_s = await self._watch.visible_at(chat_id, answer["seq"])
        elif way == "send_to_screen":
            visible_s = await self._screen.shown_at(answer["seq"])
        else:
            visible_s = await self._read_back(of, answer)
        self.waits_s[way].append(visible_s - sent_s)
        await self._pause()
        asked_s = time.monotonic()
        await self._client.ask(get(self._host, f"/v1/chats/{chat_id}/latest-seq", self._tokens[of]), 200)
        self.waits_s["read"].append(time.monotonic() - asked_s)

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    async def _read_back(self, of: int, answer: Mapping[str, Any]) -> float:
        """Return when a page shows the message."""
        target = f"/v1/chats/{self._chats[of].chat_id}/messages?limit=1"
        request = get(self._host, target, self._tokens[of], Gapless_At_Least=answer["token"])
        page = json.loads(await self._client.ask(request, 200))
        if page["messages"][0]["seq"] != answer["seq"]:
            raise RuntimeError(f"seq {answer['seq']} was asked for with its token; the page ends with {page}")
        return time.monotonic()
