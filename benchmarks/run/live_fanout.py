"""Fan-out of `gapless live` over server-sent events: one chat of a thousand readers, a hundred chats of ten, readers
who come back, idle streams.

    gapless bench live-fanout

One sequencer, one projector, one live process. Messages are appended to chat.commands in an open loop, so that each
goes all the way: decided, in the log, read from it, written to its readers. A reader times it from just before the
append. Fifty users hold the streams; each stream follows one chat.

`one_chat` and `hundred_chats` run at rates at which Centrifuge, the engine of Centrifugo, was measured on a machine of
this kind; `ladder` raises the rate of one chat until the median of the last third of a run is 20 ms above that of the
first.

The baseline is the least that a delivery needs: one system call that writes the same bytes to a loopback connection.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaProducer

from benchmarks.load.filling import built, fill
from benchmarks.load.http_load import get, host_of
from benchmarks.load.open_loop import Latencies
from benchmarks.load.stream_readers import Readers, Received
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground, Log, Positions
from benchmarks.servers.processes import Service
from schemas import ids
from schemas.bodies import ChatCreate, MessageSend, canonical_body
from schemas.ids import ChatId, UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command, Encoded, encode_command
from services.runtime.access.auth import mint_token

PARTITIONS: Final = 8
USERS: Final = 50
TEXT_BYTES: Final = 40
"""Short, because ids, times and JSON are most of a frame."""
SOURCE: Final = "/gapless/benchmarks"
DEADLINE_S: Final = 120.0
STEADY_MS: Final = 20.0
BASELINE: Final = "one send() of as many bytes to a loopback connection"
BARE_CONNECTIONS: Final = 100
BARE_ROUNDS: Final = 200
PARTS: Final = frozenset({"one_chat", "hundred_chats", "ladder", "returned", "idle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    streams: int = 1_000
    """Readers, of one chat or of ten in a hundred each."""
    seconds: int = 15
    ladder: Sequence[int] = (25, 50, 75, 100, 150, 200, 300, 400)
    """Messages per second to one chat of all the readers."""
    missed: int = 100
    idle: int = 10_000
    warm_up_s: int = 3
    idle_s: float = 25.0
    """One heartbeat of each."""
    only: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One run at one rate."""

    chats: int
    readers: int
    """Number of readers of each chat."""
    deliveries_per_s: float
    cpu_us: float
    """CPU of the live process for each delivery."""
    busy: float
    """Cores that it used."""
    latency: Latencies
    steady: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results."""

    one_chat: Delivery | None
    hundred_chats: Delivery | None
    ladder: Sequence[Delivery]
    returned_s: float
    """Seconds until all readers, who missed `missed` messages each, are open again and have them, from memory."""
    returned_cpu_us: float
    """CPU of the live process for each of them."""
    missed: int
    idle: int
    idle_kib: float
    """Memory of an idle stream in the live process."""
    idle_busy: float
    """Cores that the live process uses while all are idle."""
    frame_bytes: int
    baseline: str
    baseline_us: float
    """CPU of the baseline for each write."""
    ratio: float
    """The baseline's CPU divided by ours for one chat; 0 if that was not measured."""
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark. Raises RuntimeError if a reader misses a message."""
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    room = Room(101)
    await fill_creations(ground, log, room)
    settings = {
        "GAPLESS_LIVE_CONNECTIONS_PER_USER": str(options.idle + options.streams),
        "GAPLESS_HTTP_MAX_CONNECTIONS": str(options.idle + 2 * options.streams),
    }
    wanted = (
        set(options.only.split(",")) if options.only else {"one_chat", "hundred_chats", "ladder", "returned", "idle"}
    )
    one = hundred = None
    ladder: list[Delivery] = []
    returned_s = returned_cpu_us = idle_kib = idle_busy = 0.0
    async with (
        Readers.started() as readers,
        ground.service("sequencer", log) as sequencer,
        ground.service("projector", log) as projector,
    ):
        await sequencer.until_ready()
        await projector.until_ready()
        async with Positions.of(log) as positions:
            deadline_s = time.monotonic() + DEADLINE_S
            while await positions.total() < len(room.chats):
                projector.refuse_to_wait(deadline_s, "the chats in the tables")
                await asyncio.sleep(0.05)
        async with ground.service("live", log, settings=settings) as live, producer_of(ground) as producer:
            await live.until_ready()
            bench = Bench(ground, log, live, readers, producer, room, options.streams)
            await bench.deliver(room.chats[:1], per_s=50, seconds=options.warm_up_s)
            if "one_chat" in wanted:
                one = await bench.deliver(room.chats[:1], per_s=50, seconds=options.seconds)
                on_step(_told("one chat", one))
            if "hundred_chats" in wanted:
                hundred = await bench.deliver(room.chats[1:], per_s=500, seconds=options.seconds)
                on_step(_told("a hundred chats", hundred))
            if "ladder" in wanted:
                for per_s in options.ladder:
                    ladder.append(await bench.deliver(room.chats[:1], per_s=per_s, seconds=min(5, options.seconds)))
                    on_step(_told(f"ladder, {per_s} messages/s", ladder[-1]))
                    if not ladder[-1].steady:
                        break
            if "returned" in wanted:
                returned_s, returned_cpu_us = await bench.come_back(options.missed)
                on_step(f"{options.streams} come back: {returned_s:.2f} s, {returned_cpu_us:.0f} µs CPU each")
            if "idle" in wanted:
                idle_kib, idle_busy = await bench.idle(options.idle, options.idle_s)
                on_step(f"{options.idle} idle: {idle_kib:.1f} KiB each, {idle_busy:.1%} of a core")
            frame_bytes = bench.frame_bytes
    baseline_us = bare_writes(frame_bytes)
    on_step(f"a bare write: {baseline_us:.1f} µs")
    return Figures(
        one_chat=one,
        hundred_chats=hundred,
        ladder=ladder,
        returned_s=round(returned_s, 3),
        returned_cpu_us=round(returned_cpu_us, 1),
        missed=options.missed,
        idle=options.idle,
        idle_kib=round(idle_kib, 1),
        idle_busy=round(idle_busy, 3),
        frame_bytes=frame_bytes,
        baseline=BASELINE,
        baseline_us=round(baseline_us, 2),
        ratio=round(baseline_us / one.cpu_us, 2) if one is not None else 0.0,
        machine=watched.summary(),
    )


def _told(name: str, found: Delivery) -> str:
    return (
        f"{name}: {found.deliveries_per_s:,.0f}/s, {found.cpu_us:.1f} µs each, {found.busy:.0%} of a core,"
        f" p50 {found.latency.p50_ms} ms, p99 {found.latency.p99_ms} ms{'' if found.steady else ', not steady'}"
    )


def bare_writes(size: int) -> float:
    """Return the CPU of writing this many bytes to one loopback connection, in µs."""
    data = bytes(size)
    used_s = 0.0
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        writers, readers = [], []
        for _ in range(BARE_CONNECTIONS):
            writers.append(stack.enter_context(socket.create_connection(listener.getsockname())))
            readers.append(stack.enter_context(listener.accept()[0]))
        for _ in range(BARE_ROUNDS):
            before_s = time.process_time()
            for writer in writers:
                writer.send(data)
            used_s += time.process_time() - before_s
            for reader in readers:
                reader.recv(size)
    return 1e6 * used_s / BARE_CONNECTIONS / BARE_ROUNDS


class Room:
    """Chats of all the users."""

    def __init__(self, chats: int) -> None:
        self.users = [UserId(str(UUID(int=number + 1, version=4))) for number in range(USERS)]
        self.tokens = [mint_token(SECRET, user) for user in self.users]
        self.creations: dict[ChatId, Encoded] = {}
        for number in range(chats):
            owner, key = self.users[0], f"create-{number}"
            chat_id = ids.keyed_chat_id(owner, key)
            body = ChatCreate(kind="group", name=f"chat {number}", members=list(self.users[1:]))
            self.creations[chat_id] = encode_command(
                Command(
                    offset=-1,
                    type=CommandType.CHAT_CREATE.value,
                    body=canonical_body(body),
                    chat_id=chat_id,
                    sender_id=owner,
                    client_generated_id=key,
                    command_id=ids.command_id(chat_id, owner, key),
                ),
                SOURCE,
            )
        self.chats = list(self.creations)

    def send(self, chat_id: ChatId, number: int) -> Encoded:
        """Return a message whose text says when it was made."""
        sender, key = self.users[number % USERS], f"m{number}"
        text = f"@{time.monotonic_ns()}@".ljust(TEXT_BYTES, "x")
        return encode_command(
            Command(
                offset=-1,
                type=CommandType.MESSAGE_SEND.value,
                body=canonical_body(MessageSend(text=text)),
                chat_id=chat_id,
                sender_id=sender,
                client_generated_id=key,
                command_id=ids.command_id(chat_id, sender, key),
            ),
            SOURCE,
        )


async def fill_creations(ground: Ground, log: Log, room: Room) -> None:
    loads = [
        built(record for chat, record in room.creations.items() if ids.partition_of(chat, log.partitions) == partition)
        for partition in range(log.partitions)
    ]
    await fill(ground.connection, log.names.commands, loads)


@asynccontextmanager
async def producer_of(ground: Ground) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**ground.connection.client_options(), acks="all", linger_ms=0)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


class Bench:
    """The live process and its readers."""

    def __init__(
        self,
        ground: Ground,
        log: Log,
        live: Service,
        readers: Readers,
        producer: AIOKafkaProducer,
        room: Room,
        streams: int,
    ) -> None:
        self._streams = streams
        self._log = log
        self._live = live
        self._readers = readers
        self._producer = producer
        self._room = room
        self._ready = ground.fresh_folder() / "ready"
        self._sent = 0
        self.positions = dict.fromkeys(room.chats, 1)
        self.frame_bytes = 0

    async def deliver(self, chats: Sequence[ChatId], *, per_s: int, seconds: int) -> Delivery:
        """Send at this rate, in turn to each chat, to all readers."""
        each = self._streams // len(chats)
        requests = self._requests([(chat, self.positions[chat]) for chat in chats for _ in range(each)])
        messages = per_s * seconds
        expected = messages // len(chats)
        following = self._follow(requests, expected=expected, seconds=seconds + DEADLINE_S)
        await self._opened(following)
        before, began_s = self._live.mark(), time.monotonic()
        for number in range(messages):
            await asyncio.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
            await self._send(chats[number % len(chats)])
        received = await following
        after = self._live.mark()
        _check(received, expected * len(requests))
        waits = received.waits_ms
        third = len(waits) // 3
        early, late = (Latencies.of([ms / 1e3 for ms in part], 0) for part in (waits[:third], waits[-third:]))
        took_s = after.at_s - before.at_s
        self.frame_bytes = round(received.bytes / received.messages)
        return Delivery(
            chats=len(chats),
            readers=each,
            deliveries_per_s=round(received.messages / took_s, 1),
            cpu_us=round(1e6 * (after.cpu_s - before.cpu_s) / received.messages, 2),
            busy=round((after.cpu_s - before.cpu_s) / took_s, 2),
            latency=Latencies.of([ms / 1e3 for ms in waits], per_s),
            steady=late.p50_ms - early.p50_ms <= STEADY_MS,
        )

    async def come_back(self, missed: int) -> tuple[float, float]:
        """Return the seconds until all readers have what they missed, and the CPU for each, in µs."""
        chat = self._room.chats[0]
        position = self.positions[chat]
        follow = self._follow(self._requests([(chat, position)]), expected=missed, seconds=DEADLINE_S)
        await self._opened(follow)
        for _ in range(missed):
            await self._send(chat)
        await follow  # so that the live process has them
        before = self._live.mark()
        received = await self._follow(
            self._requests([(chat, position)] * self._streams), expected=missed, seconds=DEADLINE_S
        )
        after = self._live.mark()
        _check(received, missed * self._streams)
        return received.complete_s, 1e6 * (after.cpu_s - before.cpu_s) / self._streams

    async def idle(self, count: int, seconds: float) -> tuple[float, float]:
        """Return the memory of a stream in KiB, and the cores used, while that many are open and nothing happens."""
        chats = self._room.chats[1:]
        before = self._live.mark()
        wanted = [(chats[number % len(chats)], self.positions[chats[number % len(chats)]]) for number in range(count)]
        follow = self._follow(self._requests(wanted), expected=0, seconds=DEADLINE_S, hold_s=seconds + 5)
        await self._opened(follow)
        opened = self._live.mark()
        await asyncio.sleep(seconds)
        later = self._live.mark()
        await follow
        kib = (later.memory_mb - before.memory_mb) * 1e6 / 1024 / count
        return kib, (later.cpu_s - opened.cpu_s) / (later.at_s - opened.at_s)

    def _requests(self, wanted: Sequence[tuple[ChatId, int]]) -> list[bytes]:
        host, tokens = host_of(self._live.url), self._room.tokens
        return [
            get(host, f"/v1/chats/{chat}/live?after_position={position}", tokens[number % USERS])
            for number, (chat, position) in enumerate(wanted)
        ]

    def _follow(
        self, requests: Sequence[bytes], *, expected: int, seconds: float, hold_s: float | None = None
    ) -> asyncio.Task[Received]:
        self._ready.unlink(missing_ok=True)
        return asyncio.create_task(
            self._readers.follow(
                self._live.url,
                requests,
                expected=expected,
                seconds=seconds,
                ready_path=str(self._ready),
                hold_s=hold_s,
            )
        )

    async def _opened(self, following: asyncio.Task[Received]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not Path(self._ready).exists():
            if following.done():
                following.result()
            self._live.refuse_to_wait(deadline_s, "all streams to be open")
            await asyncio.sleep(0.01)

    async def _send(self, chat: ChatId) -> None:
        record = self._room.send(chat, self._sent)
        self._sent += 1
        self.positions[chat] += 1
        await self._producer.send(
            self._log.names.commands,
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=ids.partition_of(chat, self._log.partitions),
        )


def _check(received: Received, messages: int) -> None:
    if received.incomplete or received.gaps or received.messages != messages:
        raise RuntimeError(
            f"{received.incomplete} readers are incomplete, {received.gaps} gaps, {received.messages} of {messages}"
        )
