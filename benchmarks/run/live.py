"""End to end on an idle system: from a send over HTTP until the message is visible.

    gapless bench live

`gapless api`, one sequencer, one projector, eight partitions. One send at a time, about fifty milliseconds apart, so
that each finds every process idle. Each send has four timestamps: it is sent; a consumer of the log has its outcome;
its sender has the 201 with the seq; it is in the tables (polled by bare SQL without a pause, which costs the database
some CPU). The consumer that reports the outcome is a consumer like any other, and may receive it later than the
projector. Every other send is read back instead over HTTP with its token (`Gapless-At-Least`): one request, answered
once the page shows the message.

The baseline is the trigger with one client, whose message is visible when it is committed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

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
WARM_UP: Final = 20
DEADLINE_S: Final = 10.0
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
    send_to_visible: Latencies
    """Times from a send until its row is committed in the tables."""
    outcome_to_visible: Latencies
    """Times from the outcome's arrival at a consumer to the row: the projector's share."""
    send_to_history: Latencies
    """Times from a send until a page of history, requested with the token of the 201, shows the message."""
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
        ground.service("projector", log) as projector,
        ground.service("api", log) as api,
    ):
        for service in (sequencer, projector, api):
            await service.until_ready()
        async with _Watch.on(ground, log) as watch, Client.of(api.url) as client:
            bench = _Bench(client, host_of(api.url), watch, chats)
            for number in range(WARM_UP):
                await bench.shown(number)
                await bench.read_back(number)
            for number in range(WARM_UP, WARM_UP + options.sends):
                await asyncio.sleep(bench.chance.uniform(*PAUSE_S))
                await (bench.shown(number) if number % 2 == 0 else bench.read_back(number))
    counted = options.sends // 2
    found = {name: Latencies.of(waits[-counted:], 0) for name, waits in bench.waits_s.items()}
    for name, latencies in found.items():
        on_step(f"{name}: p50 {latencies.p50_ms} ms, p99 {latencies.p99_ms} ms")
    async with trigger.Trigger.on(ground.dsn, stored=10_000) as table:
        baseline = await table.run(chats=options.chats, seconds=options.baseline_s, clients=1)
    on_step(f"trigger: p50 {baseline.latencies.p50_ms} ms")
    return Figures(
        p50_ms=found["send_to_visible"].p50_ms,
        p99_ms=found["send_to_visible"].p99_ms,
        send_to_seq=found["send_to_seq"],
        send_to_visible=found["send_to_visible"],
        outcome_to_visible=found["outcome_to_visible"],
        send_to_history=found["send_to_history"],
        baseline=BASELINE,
        baseline_p50_ms=baseline.latencies.p50_ms,
        ratio=round(baseline.latencies.p50_ms / found["send_to_visible"].p50_ms, 3),
        machine=watched.summary(),
    )


class _Watch:
    """Observes outcomes in the log, and rows in the tables."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self._seen_at: dict[tuple[str, int], float] = {}

    @classmethod
    @asynccontextmanager
    async def on(cls, ground: Ground, log: Log) -> AsyncIterator[_Watch]:
        consumer = AIOKafkaConsumer(**ground.connection.client_options(), group_id=None)
        await consumer.start()
        async with await session(log.dsn) as connection:
            tps = [TopicPartition(log.names.events, p) for p in range(log.partitions)]
            consumer.assign(tps)
            await consumer.seek_to_end(*tps)
            watch = cls(connection)
            following = asyncio.create_task(watch._follow(consumer))
            try:
                yield watch
            finally:
                following.cancel()
                await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=1_000)
            now = time.monotonic()
            for records in found.values():
                for record in records:
                    seq = next((value for name, value in record.headers if name == "ce_seq"), None)
                    if seq is not None:
                        self._seen_at[record.key.decode(), int(seq)] = now

    async def outcome_at(self, chat_id: str, seq: int) -> float:
        """Return when the consumer received the outcome."""
        async with asyncio.timeout(DEADLINE_S):
            while (at := self._seen_at.pop((chat_id, seq), None)) is None:
                await asyncio.sleep(0.001)
        return at

    async def visible_at(self, chat_id: str, seq: int) -> float:
        """Return when the row was in the tables, by polling."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                cursor = await self._connection.execute(
                    "SELECT 1 FROM chat.chat_messages WHERE chat_id = %s AND seq = %s", (chat_id, seq)
                )
                if await cursor.fetchone() is not None:
                    return time.monotonic()


class _Bench:
    """The sends and their timings."""

    def __init__(self, client: Client, host: str, watch: _Watch, chats: Sequence[Chat]) -> None:
        self.chance = random.Random(1)
        self.waits_s: dict[str, list[float]] = {
            name: [] for name in ("send_to_seq", "send_to_visible", "outcome_to_visible", "send_to_history")
        }
        self._client = client
        self._host = host
        self._watch = watch
        self._chats = [(chat, mint_token(SECRET, chat.members[0])) for chat in chats]

    async def shown(self, number: int) -> None:
        """Measure a send until it is in the tables."""
        chat_id, seq, _, sent_s = await self._send(number)
        visible_s = await self._watch.visible_at(chat_id, seq)
        outcome_s = await self._watch.outcome_at(chat_id, seq)
        self.waits_s["send_to_visible"].append(visible_s - sent_s)
        self.waits_s["outcome_to_visible"].append(visible_s - outcome_s)

    async def read_back(self, number: int) -> None:
        """Measure a send until a page shows it."""
        chat_id, seq, token, sent_s = await self._send(number)
        target = f"/v1/chats/{chat_id}/messages?limit=1"
        page = json.loads(
            await self._client.ask(get(self._host, target, self._token(number), Gapless_At_Least=token), 200)
        )
        self.waits_s["send_to_history"].append(time.monotonic() - sent_s)
        if page["messages"][0]["seq"] != seq:
            raise RuntimeError(f"seq {seq} was asked for with its token, and the page ends with {page['messages'][0]}")

    async def _send(self, number: int) -> tuple[str, int, str, float]:
        chat, token = self._chats[number % len(self._chats)]
        request = post(
            self._host,
            f"/v1/chats/{chat.chat_id}/messages",
            token,
            message_body(number),
            Idempotency_Key=f"send-{len(self.waits_s['send_to_seq'])}",
        )
        sent_s = time.monotonic()
        answer = json.loads(await self._client.ask(request, 201))
        self.waits_s["send_to_seq"].append(time.monotonic() - sent_s)
        return chat.chat_id, answer["seq"], answer["token"], sent_s

    def _token(self, number: int) -> str:
        return self._chats[number % len(self._chats)][1]
