"""Appends to one partition, each record at the offset that it had where it was exported.

Offsets cannot be chosen in Kafka: they follow from what is there. So whatever had an offset is written again: records,
transaction markers, and empty records in place of commands that had been trimmed, which are then deleted.
"""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import uuid4

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from services.ops.errors import FaultFound
from services.ops.transfer.plan import Alone, Markers, Piece, Together
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.batches import BATCH_BYTES, BatchBody, CopiedBatch
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.refusals import opened

APPEND_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.01
EMPTY_RECORDS: Final = 40_000
"""Number of empty records in a batch: below 400,000 bytes, the limit of chat.commands."""


class KnownOffsets:
    """Appends to a partition that no other program writes, from its end on. Use it as a context manager."""

    def __init__(self, kafka: KafkaConnection, topic: str, partition: int, *, at: int, client_id: str) -> None:
        self._kafka = kafka
        self._tp = TopicPartition(topic, partition)
        self._client_id = client_id
        self._appender = PartitionAppender(kafka=kafka, topic=topic, partition=partition, client_id=client_id)
        self._empty = empty_records(EMPTY_RECORDS)
        self.at = at
        """The partition's end, as far as only this import writes."""

    async def __aenter__(self) -> KnownOffsets:
        await self._appender.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._appender.stop()

    async def append(self, piece: Piece) -> None:
        """Append a piece at its offset. Raises FaultFound if another program wrote meanwhile, KafkaUnavailable."""
        if isinstance(piece, Markers):
            if self.at < piece.next_offset:
                await self._mark(piece.next_offset)
        elif isinstance(piece, Alone):
            kept = piece.batch
            body = BatchBody(kept.count, kept.codec, kept.first_timestamp, kept.timestamp, kept.data)
            await self._append(CopiedBatch(body), kept.count)
        else:
            await self._append(_batch_of(piece), len(piece.records))

    async def fill(self, until: int) -> None:
        """Append empty records up to an offset (exclusive)."""
        while self.at < until:
            count = min(until - self.at, EMPTY_RECORDS)
            data = self._empty if count == EMPTY_RECORDS else empty_records(count)
            await self._append(CopiedBatch(BatchBody(count, 0, 0, 0, data)), count)

    async def _append(self, batch: BatchBuilder, count: int) -> None:
        try:
            offset = await self._appender.append(batch, APPEND_TIMEOUT_S)
        except AppendUnknown as error:
            await self._appender.discard()
            raise KafkaUnavailable(f"{self._name} took no records ({error}); run the import again") from error
        if offset != self.at:
            raise FaultFound(
                f"Another program writes into {self._name}: offset {self.at} was expected and {offset} came. Stop every"
                " service of that cluster, create the topics anew, and import again."
            )
        self.at += count

    async def _mark(self, until: int) -> None:
        """End empty transactions up to an offset (exclusive): each leaves a marker, and no record."""
        producer = AIOKafkaProducer(
            **self._kafka.client_options(),
            client_id=self._client_id,
            acks="all",
            transactional_id=f"gapless-import-{uuid4()}",
        )
        reader = PartitionReader(
            kafka=self._kafka, topic=self._tp.topic, partition=self._tp.partition, client_id=self._client_id
        )
        what = f"end a transaction on {self._name}"
        try:
            await opened(self._kafka, APPEND_TIMEOUT_S, f"open a transaction on {self._name}", producer.start())
            await reader.start(self.at)
            while self.at < until:
                await within(APPEND_TIMEOUT_S, what, _empty_transaction(producer, self._tp))
                await within(APPEND_TIMEOUT_S, what, self._until_marked(reader))
        finally:
            await discard(producer)
            await reader.close()

    async def _until_marked(self, reader: PartitionReader) -> None:
        """Wait for the marker: the coordinator answers before the partition has it."""
        while True:
            _, end = await reader.bounds()
            if end > self.at:
                break
            await asyncio.sleep(POLL_S)
        self.at += 1

    @property
    def _name(self) -> str:
        return f"{self._tp.topic}-{self._tp.partition}"


async def _empty_transaction(producer: AIOKafkaProducer, tp: TopicPartition) -> None:
    """Abort a transaction with this partition and no record. In the client's public interface only a send adds one."""
    await producer.begin_transaction()
    producer._txn_manager.maybe_add_partition_to_txn(tp)
    await producer.abort_transaction()


def _batch_of(piece: Together) -> BatchBuilder:
    batch = BatchBuilder(BATCH_BYTES, 0)
    for record in piece.records:
        added = batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers)
        assert added is not None, "a piece is closed by bytes before it outgrows a record batch"
    return batch


def empty_records(count: int) -> bytes:
    """Return the content of a batch of records without key, value and headers, in Kafka's format v2."""
    return b"".join([_empty_record(delta) for delta in range(count)])


def _empty_record(offset_delta: int) -> bytes:
    delta, number = bytearray(), offset_delta << 1
    while number >= 0x80:
        delta.append(number & 0x7F | 0x80)
        number >>= 7
    delta.append(number)
    # No attributes, no time after the batch's, the delta, −1 for a missing key and value, no headers.
    record = b"\x00\x00" + bytes(delta) + b"\x01\x01\x00"
    return bytes([len(record) << 1]) + record
