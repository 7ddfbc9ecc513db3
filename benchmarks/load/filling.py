"""Fills a long chat.commands in seconds: record batches are built once by aiokafka's Cython builder, and sent whole.

A built batch is just bytes: without a producer id in it, it can be sent to any topic, repeatedly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.topics import COMMAND_RECORD_BYTES
from schemas.wire.encoding import Encoded
from services.runtime.kafka.connection import KafkaConnection

BATCH_BYTES: Final = COMMAND_RECORD_BYTES - 1_000
"""Maximum size of a batch for chat.commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The records of one partition, ready to be sent repeatedly."""

    batches: Sequence[Any]
    records: int


def built(records: Iterable[Encoded]) -> Load:
    """Encode the records into batches as large as the topic accepts."""
    batches = []
    batch = BatchBuilder(BATCH_BYTES, 0)
    count = 0
    for record in records:
        while batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
            batch._build()
            batches.append(batch)
            batch = BatchBuilder(BATCH_BYTES, 0)
        count += 1
    batch._build()
    batches.append(batch)
    return Load(batches=batches, records=count)


async def fill(kafka: KafkaConnection, topic: str, loads: Sequence[Load]) -> None:
    """Send each load to the partition with its index, and wait until all are acknowledged."""
    # Not idempotent: a producer id would have to be written into each batch. A retry could only repeat commands.
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all", max_request_size=4_000_000)
    await producer.start()
    try:

        async def send(partition: int, load: Load) -> None:
            under_way = [await producer.send_batch(batch, topic, partition=partition) for batch in load.batches]
            await asyncio.gather(*under_way)

        await asyncio.gather(*(send(partition, load) for partition, load in enumerate(loads)))
    finally:
        await producer.stop()
