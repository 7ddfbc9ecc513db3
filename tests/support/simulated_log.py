"""A partition of a topic as Kafka presents it to us, and what can go wrong on the way to it, drawn from a seed.

The log keeps what the protocol assumes of Kafka and no more: one order of records, a batch whole or not at all, and
acknowledged records stay. Everything else depends on the network: an append may land any time later, even after its
appender is gone, twice, or never; its acknowledgement may be lost, late or without an offset; reads are slow, short or
fail.

tests/integration/kafka/test_log_conformance.py shows that readers and appenders here behave like those of
services/runtime/kafka on a real broker.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from msgspec import structs

from schemas.events import Outcome
from schemas.log import Stamp
from schemas.wire.encoding import Encoded, Record, Undecodable, encode_outcome
from services.runtime.kafka.batches import OutcomeBatch as ProductionBatch
from services.runtime.kafka.batches import new_outcome_batch
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable, OffsetMissing
from services.sequencer.ports import OutcomeBatch
from tests.support.record_batches import batch_of, parsed

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRecord:
    """A record as a reader gets it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class SimulatedLog:
    """One partition. Offsets are dense except for those that `skip` takes (the markers of a transaction)."""

    def __init__(self, *, of_bytes: bool = False) -> None:
        """If `of_bytes`, records are parsed by our own code from the bytes of a batch, as in production."""
        self.of_bytes = of_bytes
        self.first = 0
        self.end = 0
        self.records: list[Record] = []
        self._waiting: dict[asyncio.Future[None], None] = {}

    def append(self, records: Sequence[Encoded], *, timestamp_ms: int = 0) -> int:
        """Append all records as one batch and return its base offset."""
        base = self.end
        timed = [
            structs.replace(record, timestamp_ms=timestamp_ms) if record.timestamp_ms is None else record
            for record in records
        ]
        if self.of_bytes:
            self.records += parsed(batch_of(timed, base_offset=base))
        else:
            self.records += [
                SimulatedRecord(
                    offset=offset,
                    timestamp=record.timestamp_ms or 0,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                )
                for offset, record in enumerate(timed, base)
            ]
        self.end = base + len(records)
        self._wake()
        return base

    def append_undecodable(self) -> int:
        """Append a record that the client cannot parse, and return its offset."""
        self.records.append(Undecodable(self.end, "by the simulation"))
        self.end += 1
        self._wake()
        return self.end - 1

    def skip(self) -> None:
        """Take an offset that holds no record."""
        self.end += 1
        self._wake()

    def trim(self, before: int) -> None:
        """Delete the records before the offset."""
        self.first = max(self.first, min(before, self.end))

    def cut(self, end: int) -> None:
        """Lose the records from the offset on, as when Kafka is restored from an older copy."""
        self.records = [record for record in self.records if record.offset < end]
        self.end = min(self.end, end)
        self._wake()

    def read(self, offset: int, most: int) -> tuple[list[Record], int]:
        """Return records from `offset` on, and the offset to continue at."""
        found: list[Record] = []
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.records[middle].offset < offset else (low, middle)
        for record in self.records[low : low + most]:
            found.append(record)
            offset = record.offset + 1
        if low + most >= len(self.records):
            offset = self.end
        return found, offset

    async def grown_beyond(self, offset: int, timeout_s: float) -> None:
        """Wait until there is a record at `offset`, or until the timeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.end == offset and (left := deadline - loop.time()) > 0:
            waiting: asyncio.Future[None] = loop.create_future()
            self._waiting[waiting] = None
            timer = loop.call_later(left, _resolve, waiting)
            try:
                await waiting
            finally:
                timer.cancel()
                self._waiting.pop(waiting, None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            _resolve(future)


@dataclass(slots=True)
class Network:
    """The faults between a client and the log. Chances are per call; all zero means no faults."""

    random: Random
    latency_s: float = 0.002
    slow: float = 0.0
    """Chance of a call that takes up to `slow_s`."""
    slow_s: float = 3.0
    unavailable: float = 0.0
    """Chance of a call that fails without any effect."""
    reads_short: float = 0.0
    """Chance of a read that ends early: at any record, or empty although there are records."""
    refused: float = 0.0
    """Chance of an append that fails at once; half of them still land some time later."""
    lost: float = 0.0
    """Chance of an append that never lands and is never acknowledged."""
    unacknowledged: float = 0.0
    """Chance of an append whose acknowledgement is lost; it lands in time or late."""
    misplaced: float = 0.0
    """Chance of an append acknowledged without an offset, or with an earlier append's offset."""
    copied: float = 0.0
    """Chance of an append that lands twice, the second time any time later; either copy may be acknowledged."""
    late_s: float = 20.0
    """Maximum delay of a late landing."""
    healed: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    """How often each fault happened."""

    def heal(self) -> None:
        """End all faults; what is in flight still lands."""
        self.slow = self.unavailable = self.reads_short = 0.0
        self.refused = self.lost = self.unacknowledged = self.misplaced = self.copied = 0.0
        self.healed = True

    async def pass_by(self) -> None:
        """Wait for a call's round trip.

        Raises KafkaUnavailable if it fails.
        """
        if self.latency_s or self.slow:
            await _sleep(self.delay())
        if self.happens("unavailable", self.unavailable):
            raise KafkaUnavailable("by the simulation")

    def delay(self) -> float:
        if self.slow and self.happens("slow", self.slow):
            return self.random.random() * self.slow_s
        return self.random.random() * self.latency_s

    def happens(self, what: str, chance: float) -> bool:
        if chance and self.random.random() < chance:
            self.counts[what] = self.counts.get(what, 0) + 1
            return True
        return False


class SimulatedReader:
    """Simulates services.runtime.kafka.reader.PartitionReader."""

    def __init__(self, log: SimulatedLog, network: Network, offset: int) -> None:
        self._log = log
        self._network = network
        self._position = offset

    @property
    def position(self) -> int:
        return self._position

    async def seek(self, offset: int) -> None:
        self._position = offset

    async def read(self, *, max_records: int, timeout_s: float) -> list[Record]:
        await self._network.pass_by()
        if not self._log.first <= self._position <= self._log.end:
            raise OffsetMissing(f"the log does not hold offset {self._position}")
        if self._network.happens("read nothing", self._network.reads_short):
            await _sleep(timeout_s)
            return []
        if self._log.end <= self._position:
            await self._log.grown_beyond(self._position, timeout_s)
        if self._network.happens("read short", self._network.reads_short):
            max_records = self._network.random.randint(1, 3)
        if not self._log.first <= self._position <= self._log.end:
            raise OffsetMissing(f"the log does not hold offset {self._position}")
        records, self._position = self._log.read(self._position, max_records)
        return records

    async def bounds(self) -> tuple[int, int]:
        await self._network.pass_by()
        return self._log.first, self._log.end

    async def close(self) -> None:
        await _sleep(0.0)


class RecordList(list[Encoded]):
    """Simulates services.runtime.kafka.batches.OutcomeBatch."""

    writer = None

    def add(self, outcome: Outcome, stamp: Stamp, source: bytes) -> None:
        self.append(encode_outcome(outcome, stamp, source))


def _written(batch: OutcomeBatch) -> list[Encoded]:
    """Return the content of an append, fixed from now on even if the process changes its batch later."""
    if isinstance(batch, RecordList):
        return list(batch)
    assert isinstance(batch, ProductionBatch)
    return [Encoded(r.key, r.value, r.headers, r.timestamp) for r in parsed(bytes(batch._build()))]


class SimulatedAppender:
    """Simulates services.runtime.kafka.appender.PartitionAppender: one append in flight, unusable after an error."""

    def __init__(
        self,
        log: SimulatedLog,
        network: Network,
        *,
        land: Callable[[Sequence[Encoded]], int] | None = None,
    ) -> None:
        """`land` appends to the log; a test can pass one that observes."""
        self._log = log
        self._network = network
        self._land = land if land is not None else log.append
        self._closed = False
        self._told: int | None = None
        # What has left the process continues, whatever happens to the process.
        self._world = contextvars.Context()

    def new_batch(self) -> OutcomeBatch:
        return new_outcome_batch() if self._log.of_bytes else RecordList()

    async def append(self, batch: OutcomeBatch, timeout_s: float) -> int:
        if self._closed:
            raise AppendUnknown("the producer is closed")
        network, random = self._network, self._network.random
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[int] = loop.create_future()
        append = _written(batch)
        if network.happens("refused", network.refused):
            if random.random() < 0.5:
                self._later(random.random() * network.late_s, lambda: self._land(append))
            await _sleep(network.delay())
            raise AppendUnknown("refused, by the simulation")
        if network.happens("lost", network.lost):
            return await _within(acknowledged, timeout_s)
        tells = not network.happens("unacknowledged", network.unacknowledged)
        late = not tells and random.random() < 0.5
        misplaced = network.happens("misplaced", network.misplaced)
        told_of_copy = False
        there_s = random.random() * network.late_s if late else network.delay()
        if network.happens("copied", network.copied):
            told_of_copy = tells and random.random() < 0.3
            again_s = network.delay() if told_of_copy else random.random() * network.late_s
            self._later(there_s + again_s, lambda: self._arrive(append, acknowledged, told_of_copy, misplaced))
        self._later(there_s, lambda: self._arrive(append, acknowledged, tells and not told_of_copy, misplaced))
        return await _within(acknowledged, timeout_s)

    async def discard(self) -> bool:
        self._closed = True
        await _sleep(self._network.delay())
        return True

    async def stop(self) -> None:
        self._closed = True
        await _sleep(self._network.delay())

    def _arrive(self, append: list[Encoded], told: asyncio.Future[int], tells: bool, misplaced: bool) -> None:
        offset = self._land(append)
        if tells:
            random = self._network.random
            # An earlier offset is one that this producer already got: a broker that recognises an old batch.
            if misplaced and (self._told is None or random.random() < 0.5):
                self._later(self._network.delay(), lambda: _fail(told, "acknowledged without an offset"))
                return
            told_offset = self._told if misplaced and self._told is not None else offset
            self._told = told_offset
            self._later(self._network.delay(), lambda: _resolve_with(told, told_offset))

    def _later(self, delay_s: float, what: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(delay_s, what, context=self._world)


async def _within(acknowledged: asyncio.Future[int], timeout_s: float) -> int:
    timer = asyncio.get_running_loop().call_later(
        timeout_s, _fail, acknowledged, f"no acknowledgement within {timeout_s:g} s"
    )
    try:
        return await acknowledged
    finally:
        timer.cancel()


async def _sleep(delay_s: float) -> None:
    await asyncio.sleep(delay_s)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _resolve_with(future: asyncio.Future[int], offset: int) -> None:
    if not future.done():
        future.set_result(offset)


def _fail(future: asyncio.Future[int], why: str) -> None:
    if not future.done():
        future.set_exception(AppendUnknown(why))
