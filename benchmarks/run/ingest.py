"""Ingest: sends over HTTP, each answered with its seq from the log.

    gapless bench ingest

One ingest process and one sequencer, eight partitions, 1,000 chats of five; the load generator is a separate process
(benchmarks/load/http_load.py). With few cores they all share them with the broker, so there are two figures: the rate
of the whole system, and ingest's CPU time per send, whose inverse is the capacity of one core of ingest. Latency comes
from an open loop at a steady rate, from the moment a send is due to its 201.

The baseline, which runs in turn with it, is the same route in FastAPI on uvicorn, with a parsed body and nothing behind
it.
"""

from __future__ import annotations

import json
import statistics
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.load.conversations import Chat, chats_in, chats_of, message_body
from benchmarks.load.filling import built, fill
from benchmarks.load.http_load import Answers, Generator, host_of, post
from benchmarks.load.open_loop import Latencies
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground, Log
from benchmarks.servers.processes import Mark, Service, cpu_between, uvicorn
from services.runtime.access.auth import mint_token

PARTITIONS: Final = 8
BASELINE: Final = "FastAPI on uvicorn: the same route with a parsed body, and nothing behind it"
BATCH_ITEMS: Final = 500
_CREATED: Final = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    sends: int = 40_000
    chats: int = 1_000
    connections: int = 64
    rounds: int = 3
    latency_per_s: int = 500
    latency_s: int = 20
    batches: int = 200
    """Requests, of 500 messages each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A closed-loop run: each connection sends again as soon as it is answered."""

    per_s: float
    cpu_us: float
    """CPU time of the HTTP process per message."""
    cores: float
    sequencer_us: float
    generator_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    commands_per_s: float
    cpu_us_per_command: float
    per_core_s: float
    """Sends per second of ingest's CPU time."""
    p50_ms: float
    p99_ms: float
    baseline: str
    baseline_per_core_s: float
    ratio: float
    """`per_core_s` divided by the baseline's: the share of plain HTTP's capacity that is left."""
    memory_mb: float
    single: Sequence[Run]
    bare: Sequence[Run]
    latency: Latencies
    batch: Run | None
    """Messages in batches of 500; None if this ingest has no batch route."""
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a send was not answered with 201.
    """
    watched = MachineWatch()
    async with _Bench.on(ground, options) as bench, uvicorn("benchmarks.load.bare_http:app") as bare:
        await bench.warm_up(bare)
        singles: list[Run] = []
        bares: list[Run] = []
        for number in range(1, options.rounds + 1):
            singles.append(await bench.saturated(bench.ingest))
            on_step(f"round {number}: {_told(singles[-1])}")
            bares.append(await bench.saturated(bare))
            on_step(f"round {number}, bare: {_told(bares[-1])}")
        latency = await bench.latency()
        on_step(f"latency at {latency.per_s}/s: p50 {latency.p50_ms} ms, p99 {latency.p99_ms} ms")
        batch = await bench.batches()
        on_step("batches: " + (_told(batch) if batch else "this ingest takes none"))
        memory_mb = bench.ingest.mark().memory_mb
    cpu_us = statistics.median(r.cpu_us for r in singles)
    bare_cpu_us = statistics.median(r.cpu_us for r in bares)
    return Figures(
        commands_per_s=statistics.median(r.per_s for r in singles),
        cpu_us_per_command=cpu_us,
        per_core_s=round(1e6 / cpu_us, 1),
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
        baseline=BASELINE,
        baseline_per_core_s=round(1e6 / bare_cpu_us, 1),
        ratio=round(bare_cpu_us / cpu_us, 3),
        memory_mb=round(memory_mb, 1),
        single=singles,
        bare=bares,
        latency=latency,
        batch=batch,
        machine=watched.summary(),
    )


class _Bench:
    """The processes, and the requests to them."""

    def __init__(
        self, options: Options, chats: Sequence[Chat], generator: Generator, ingest: Service, sequencer: Service
    ) -> None:
        self.ingest = ingest
        self._options = options
        self._chats = chats
        self._generator = generator
        self._sequencer = sequencer
        self._sent = 0
        self._tokens = [[mint_token(SECRET, member) for member in chat.members] for chat in chats]

    @classmethod
    @asynccontextmanager
    async def on(cls, ground: Ground, options: Options) -> AsyncIterator[_Bench]:
        log = await ground.log(partitions=PARTITIONS)
        chats = await made_chats(ground, log, options.chats)
        async with (
            Generator.started() as generator,
            ground.service("sequencer", log) as sequencer,
            ground.service("ingest", log) as ingest,
        ):
            await sequencer.until_ready()
            await ingest.until_ready()
            yield cls(options, chats, generator, ingest, sequencer)

    async def warm_up(self, bare: Service) -> None:
        """Open the connections, fill the caches, and send to every chat once; none of it is measured."""
        for server in (self.ingest, bare):
            await self._ask(server, self._sends(server, max(len(self._chats), self._options.sends // 10)))

    async def saturated(self, server: Service) -> Run:
        requests = self._sends(server, self._options.sends)
        marks = [server.mark(), self._sequencer.mark()]
        answers = await self._ask(server, requests)
        return _run(answers, len(requests), marks, [server.mark(), self._sequencer.mark()])

    async def latency(self) -> Latencies:
        per_s = self._options.latency_per_s
        warm_up = per_s
        requests = self._sends(self.ingest, warm_up + per_s * self._options.latency_s)
        answers = await self._generator.ask(
            self.ingest.url, requests, connections=self._options.connections, per_s=per_s
        )
        answers.require(_CREATED)
        return Latencies.of(answers.waits_s[warm_up:], per_s)

    async def batches(self) -> Run | None:
        """Measure a producer that sends for the chats' members, eight requests at a time.

        Returns None if this ingest has no batch route.
        """
        requests = [self._batch() for _ in range(self._options.batches + 2)]
        probe = await self._generator.ask(self.ingest.url, requests[:1], connections=1)
        if set(probe.statuses) & {404, 405}:
            return None
        probe.require(200)
        marks = [self.ingest.mark(), self._sequencer.mark()]
        answers = await self._generator.ask(self.ingest.url, requests[2:], connections=8)
        answers.require(200)
        items = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
        if len(items) != BATCH_ITEMS or any(item["status"] != _CREATED for item in items):
            raise RuntimeError(f"a batch was not taken whole: {items[:2]}")
        messages = self._options.batches * BATCH_ITEMS
        return _run(answers, messages, marks, [self.ingest.mark(), self._sequencer.mark()])

    async def _ask(self, server: Service, requests: Sequence[bytes]) -> Answers:
        answers = await self._generator.ask(server.url, requests, connections=self._options.connections)
        answers.require(_CREATED)
        return answers

    def _sends(self, server: Service, count: int) -> list[bytes]:
        """Return sends to all chats in turn, by their members in turn, each with its own idempotency key."""
        host = host_of(server.url)
        return [self._send(host, number) for number in self._numbers(count)]

    def _send(self, host: str, number: int) -> bytes:
        chat = self._chats[number % len(self._chats)]
        tokens = self._tokens[number % len(self._chats)]
        return post(
            host,
            f"/v1/chats/{chat.chat_id}/messages",
            tokens[number // len(self._chats) % len(tokens)],
            message_body(number),
            Idempotency_Key=f"send-{number}",
        )

    def _batch(self) -> bytes:
        items = []
        for number in self._numbers(BATCH_ITEMS):
            chat = self._chats[number % len(self._chats)]
            items.append(
                {
                    "chat_id": chat.chat_id,
                    "sender_id": chat.members[0],
                    "client_generated_id": f"send-{number}",
                    **json.loads(message_body(number)),
                }
            )
        token = mint_token(SECRET, str(uuid.uuid4()), scopes=["producer"])
        return post(host_of(self.ingest.url), "/v1/messages:batch", token, json.dumps(items).encode())

    def _numbers(self, count: int) -> range:
        first, self._sent = self._sent, self._sent + count
        return range(first, self._sent)


async def made_chats(ground: Ground, log: Log, count: int) -> list[Chat]:
    """Return `count` chats spread over all partitions, after writing their creations to chat.commands."""
    by_partition = [chats_of(p, log.partitions, chats_in(log.partitions, count, p)) for p in range(log.partitions)]
    loads = [built(chat.creation for chat in chats) for chats in by_partition]
    await fill(ground.connection, log.names.commands, loads)
    return [chat for chats in by_partition for chat in chats]


def _run(answers: Answers, messages: int, before: Sequence[Mark], after: Sequence[Mark]) -> Run:
    cpu_s, sequencer_s = (cpu_between(a, b) for a, b in zip(before, after, strict=True))
    latencies = Latencies.of(answers.waits_s, 0)
    return Run(
        per_s=round(messages / answers.seconds, 1),
        cpu_us=round(1e6 * cpu_s / messages, 1),
        cores=round(cpu_s / answers.seconds, 2),
        sequencer_us=round(1e6 * sequencer_s / messages, 1),
        generator_us=round(1e6 * answers.cpu_s / messages, 1),
        p50_ms=latencies.p50_ms,
        p99_ms=latencies.p99_ms,
    )


def _told(run: Run) -> str:
    return (
        f"{run.per_s:,.0f}/s, {run.cpu_us} µs CPU each ({1e6 / run.cpu_us:,.0f}/s a core; sequencer"
        f" {run.sequencer_us}, generator {run.generator_us}), p50 {run.p50_ms} ms"
    )
