"""One idempotent producer for one partition: appends a record batch whole and learns its base offset, or nothing.

Used by the sequencer's writer, one for each term. It never retries on its own account beyond what the idempotent
producer does inside the deadline; what the deadline cuts off is unknown, and the appender is of no use after it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.encoding import Encoded
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable

BATCH_BYTES: Final = 1_000_000
"""What the client accepts in one batch: under Kafka's default of 1,048,588, above what the writer closes at."""
START_TIMEOUT_S: Final = 15.0


class RecordBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka's is untyped
    """One record batch in the making: bytes, as soon as a record is added."""

    _relative_offset: int

    def __init__(self) -> None:
        super().__init__(BATCH_BYTES, 0)

    def add(self, record: Encoded) -> None:
        # As BatchBuilder.append, which spends as long on serializers that are not there as the codec on the record.
        number = self._relative_offset
        added = self._builder.append(number, record.timestamp_ms, record.key, record.value, record.headers)
        if added is None:
            raise AssertionError("an append is closed by bytes before it outgrows a record batch")
        self._relative_offset = number + 1

    def __len__(self) -> int:
        return self._relative_offset


class PartitionAppender:
    """Appends to one partition. One append in flight at a time; after any error only `discard` is left to call."""

    def __init__(self, *, bootstrap_servers: str, topic: str, partition: int, client_id: str) -> None:
        self._topic = topic
        self._partition = partition
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
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
            await within(START_TIMEOUT_S, f"open a producer for {self._topic}", self._producer.start())
        except BaseException:
            await discard(self._producer)
            raise

    def new_batch(self) -> RecordBatch:
        return RecordBatch()

    async def append(self, batch: object, timeout_s: float) -> int:
        """Appends a batch of `new_batch` as ONE record batch with acks=all; the base offset it was acknowledged at.

        Raises AppendUnknown for anything else: a miss of the deadline, an error, an acknowledgement that does not
        say where (−1). The batch may land later.
        """
        assert isinstance(batch, RecordBatch)
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
