"""The baseline of everything that reads the log: only reading it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.runtime.kafka.connection import KafkaConnection

NAME = "reading the same records by aiokafka, and nothing else"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """One pass over a topic."""

    seconds: float
    cpu_s: float
    records: int


async def read_all(kafka: KafkaConnection, topics: list[str], partitions: int) -> LogRead:
    """Read all partitions concurrently from offset 0 to their current ends; the clock starts at the first fetch."""
    consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=None, max_partition_fetch_bytes=4 * 1024 * 1024)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
        ends = await consumer.end_offsets(tps)
        wanted, found = sum(ends.values()), 0
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        began_s, cpu_before_s = time.monotonic(), time.process_time()
        while found < wanted:
            batches = await consumer.getmany(timeout_ms=1_000)
            found += sum(len(batch) for batch in batches.values())
        return LogRead(seconds=time.monotonic() - began_s, cpu_s=time.process_time() - cpu_before_s, records=found)
    finally:
        await consumer.stop()
