"""One idempotent producer for one partition: appends a record batch whole and learns its base offset, or nothing.

Used by the sequencer's writer, one for each term. It never retries on its own account beyond what the idempotent
producer does inside the deadline; what the deadline cuts off is unknown, and the appender is of no use after it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors

from services.runtime.kafka.batches import BATCH_BYTES, OutcomeBatch, new_outcome_batch
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.runtime.kafka.refusals import opened

START_TIMEOUT_S: Final = 15.0


class PartitionAppender:
    """Appends to one partition. One append in flight at a time; after any error only `discard` is left to call."""

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
        """Connects and gets a producer id. Raises KafkaUnavailable, with nothing left behind."""
        try:
            await opened(self._kafka, START_TIMEOUT_S, f"open a producer for {self._topic}", self._producer.start())
        except BaseException:
            await discard(self._producer)
            raise

    def new_batch(self) -> OutcomeBatch:
        return new_outcome_batch()

    async def append(self, batch: object, timeout_s: float) -> int:
        """Appends a batch of `new_batch` as ONE record batch with acks=all; the base offset it was acknowledged at.

        Raises AppendUnknown for anything else: a miss of the deadline, an error, an acknowledgement that does not
        say where (−1). The batch may land later.
        """
        assert isinstance(batch, OutcomeBatch)
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
        """After an unknown result: take every means to write from it. True when nothing of it is left running."""
        return await discard(self._producer)

    async def stop(self) -> None:
        """After a known result: flush nothing, leave politely; in bounded time."""
        try:
            await within(3.0, "close a producer", self._producer.stop())
        except KafkaUnavailable:
            await discard(self._producer)
