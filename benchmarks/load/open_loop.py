"""Latencies of an open loop: every command has a due time, from which its latency is measured.

A load generator that waits for responses sends less while the system is slow, and so omits exactly the slow moments
(coordinated omission). Here nothing waits: the latency of a command that is sent late counts from its due time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.topics import TopicNames
from schemas.wire.encoding import Encoded
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.process.collector import infrequent_gc

LATE_S: Final = 60.0
"""Deadline for the last outcomes, after the last command."""
PERCENTILES: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Latencies of one run at one rate, in milliseconds."""

    per_s: int
    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    distribution: Sequence[tuple[float, float]]
    """`(percentile, ms)`, for the picture."""

    @classmethod
    def of(cls, seconds: Sequence[float], per_s: int) -> Latencies:
        ordered = sorted(1_000 * s for s in seconds)

        def at(percentile: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * percentile / 100))], 3)

        return cls(
            per_s=per_s,
            count=len(ordered),
            p50_ms=at(50),
            p99_ms=at(99),
            p999_ms=at(99.9),
            max_ms=at(100),
            distribution=[(p, at(p)) for p in PERCENTILES],
        )


async def outcome_latencies(
    kafka: KafkaConnection, names: TopicNames, records: Sequence[Encoded], *, per_s: int, warm_up: int
) -> Latencies:
    """Measure the time from a command's due time to its outcome at a consumer; partition 0.

    It includes the append: the time starts before the command is passed to the producer. Commands due at the same
    moment, or during an append, share a batch, as with any producer. The first `warm_up` do not count.
    """
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all", max_batch_size=262_144)
    consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=None, fetch_max_wait_ms=500)
    commands, events = TopicPartition(names.commands, 0), TopicPartition(names.events, 0)
    await producer.start()
    await consumer.start()
    try:
        consumer.assign([events])
        await consumer.seek_to_end(events)
        await consumer.position(events)
        first = (await consumer.end_offsets([commands]))[commands]
        seen_at: dict[int, float] = {}
        with infrequent_gc():  # a pause of this process would be counted as the system's
            watching = asyncio.create_task(_watch(consumer, events, seen_at, first + len(records)))
            due_at = await _send(producer, names.commands, records, per_s, expected_offset=first)
            async with asyncio.timeout(LATE_S):
                await watching
    finally:
        await producer.stop()
        await consumer.stop()
    waits = [seen_at[first + n] - due for n, due in enumerate(due_at) if n >= warm_up]
    return Latencies.of(waits, per_s)


async def arrive(kafka: KafkaConnection, topic: str, records: Sequence[Sequence[Encoded]], *, per_s: int) -> None:
    """Send the records of each partition when they are due, `per_s` of all partitions together."""
    total = sum(map(len, records))
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all", max_batch_size=262_144)
    await producer.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            for partition, of_partition in enumerate(records):
                share = per_s * len(of_partition) / total
                tasks.create_task(_send(producer, topic, of_partition, share, partition=partition))
    finally:
        await producer.stop()


async def _send(
    producer: AIOKafkaProducer,
    topic: str,
    records: Sequence[Encoded],
    per_s: float,
    *,
    partition: int = 0,
    expected_offset: int | None = None,
) -> list[float]:
    """Send each record when it is due and return the due times. Checks that offsets are consecutive, if any is
    expected."""
    begin = time.monotonic() + 0.1
    due_at = [begin + n / per_s for n in range(len(records))]
    sent = 0
    while sent < len(records):
        now = time.monotonic()
        if due_at[sent] > now:
            await asyncio.sleep(due_at[sent] - now)
            continue
        batch = producer.create_batch()
        count = 0
        while sent + count < len(records) and due_at[sent + count] <= now:
            record = records[sent + count]
            if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                break
            count += 1
        metadata = await (await producer.send_batch(batch, topic, partition=partition))
        if expected_offset is not None and metadata.offset != expected_offset + sent:
            raise RuntimeError(f"a command landed at {metadata.offset}, not at {expected_offset + sent}")
        sent += count
    return due_at


async def _watch(consumer: AIOKafkaConsumer, events: TopicPartition, seen_at: dict[int, float], until: int) -> None:
    """Watch until the outcome of the command before `until`; outcomes come in the order of their commands."""
    latest = -1
    while latest < until - 1:
        for record in (await consumer.getmany(events, timeout_ms=1_000)).get(events, []):
            now = time.monotonic()
            for name, value in record.headers:
                if name == "ce_command":
                    latest = int(value)
                    seen_at[latest] = now
