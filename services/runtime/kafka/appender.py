"""One idempotent producer for one partition: appends a whole record batch and returns its base offset, or fails.

Used by the sequencer's writer, one per term. It does not retry beyond what the idempotent producer does within the
deadline. An append that misses the deadline has an unknown result, and the appender cannot be used afterwards.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder

from services.runtime.kafka.batches import BATCH_BYTES, OutcomeBatch, new_outcome_batch
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.runtime.kafka.refusals import opened

START_TIMEOUT_S: Final = 15.0


class PartitionAppender:
    """Appends to one partition, one append at a time. After any error only `discard` may be called."""

    def __init__(self, *, kafka: KafkaConnection, topic: str, partition: int, client_id: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._partition = partition
        self._producer = AIOKafkaProducer(
            **kafka.client_options(),
            client_id=client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=BATCH_BYTES + 48_000,
            request_timeout_ms=10_000,
        )

    async def start(self) -> None:
        """Connect and get a producer id. Raises KafkaUnavailable, and then leaves nothing open."""
        try:
            await opened(self._kafka, START_TIMEOUT_S, f"open a producer for {self._topic}", self._producer.start())
        except BaseException:
            await discard(self._producer)
            raise

    def new_batch(self) -> OutcomeBatch:
        return new_outcome_batch()

    async def append(self, batch: object, timeout_s: float) -> int:
        """Append a batch as ONE record batch with acks=all. Returns its acknowledged base offset.

        The batch is one of `new_batch`, or another of aiokafka's BatchBuilders.
        Raises AppendUnknown in any other case: a missed deadline, an error, an acknowledgement without an offset (−1).
        The batch may still land later.
        """
        assert isinstance(batch, BatchBuilder)
        batch.close()
        try:
            async with asyncio.timeout(timeout_s):
                done = await self._producer.send_batch(batch, self._topic, partition=self._partition)
                metadata = await done
        except TimeoutError:
            raise AppendUnknown(f"no acknowledgement within {timeout_s:g} s") from None
        except (kafka_errors.KafkaError, OSError, AssertionError) as error:
            raise AppendUnknown(f"{error!r:.300}") from error
        offset: int = metadata.offset
        if offset < 0:
            raise AppendUnknown("acknowledged without an offset")
        return offset

    async def discard(self) -> bool:
        """Make further writes impossible, after an unknown result. Returns whether all its tasks have ended."""
        return await discard(self._producer)

    async def stop(self) -> None:
        """Close the producer after a known result, in bounded time. There is nothing to flush."""
        try:
            await within(3.0, "close a producer", self._producer.stop())
        except KafkaUnavailable:
            await discard(self._producer)
