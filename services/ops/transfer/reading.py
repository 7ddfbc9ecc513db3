"""Reads a partition's batches as entries, from an offset to an end that is known in advance."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from schemas.wire.encoding import Record, Undecodable
from services.ops.errors import FaultFound
from services.ops.transfer.entries import Entry, KeptBatch, kept
from services.ops.verify.reading import READ_TIMEOUT_S, SILENCE_LIMIT_S
from services.runtime.kafka.batches import RecordBatch
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.kafka.reader import PartitionReader


async def batches_until(
    reader: PartitionReader, end: int
) -> AsyncGenerator[tuple[Sequence[Entry], Sequence[Record], int]]:
    """Yield `(entries, records, offsets)` of each batch from the reader's position to `end`, where a batch has to end.

    `offsets` is by how many the reader has advanced. Records before its first position are left out, but a batch that
    cannot be decoded is whole.
    Raises KafkaUnavailable if nothing arrives for SILENCE_LIMIT_S, OffsetMissing, FaultFound.
    """
    silent_s = 0.0
    while reader.position < end:
        before = reader.position
        for batch, records in await reader.read_batches(timeout_s=READ_TIMEOUT_S):
            if batch.base_offset >= end:
                break
            fresh = [record for record in records if record.offset >= before]
            yield _entries(reader, batch, records, fresh), fresh, batch.next_offset - max(before, batch.base_offset)
        silent_s = 0.0 if reader.position > before else silent_s + READ_TIMEOUT_S
        if silent_s >= SILENCE_LIMIT_S:
            raise KafkaUnavailable(
                f"{reader.topic}-{reader.partition} gave nothing from offset {before} on for {SILENCE_LIMIT_S:g} s"
            )


def _entries(
    reader: PartitionReader, batch: RecordBatch, records: Sequence[Record], fresh: Sequence[Record]
) -> Sequence[Entry]:
    if not any(isinstance(record, Undecodable) for record in records):
        return kept(fresh)
    if not batch.validate_crc():
        raise FaultFound(
            f"{reader.topic}-{reader.partition} has a batch with a wrong checksum at offset {batch.base_offset}: the"
            " broker's copy is damaged. Move the partition's leader to another broker, and export again."
        )
    body = batch.body()
    return [KeptBatch(batch.base_offset, body.max_timestamp, body.first_timestamp, body.count, body.codec, body.data)]


class EntryStream:
    """The entries of a partition, taken range by range."""

    def __init__(self, reader: PartitionReader, end: int) -> None:
        self._batches = batches_until(reader, end)
        self._waiting: list[Entry] = []

    async def until(self, offset: int) -> list[Entry]:
        """Return the next entries that end at or before `offset`."""
        found: list[Entry] = []
        while True:
            taken = 0
            for entry in self._waiting:
                if entry.next_offset > offset:
                    break
                taken += 1
            found += self._waiting[:taken]
            self._waiting = self._waiting[taken:]
            if self._waiting or (found and found[-1].next_offset == offset):
                return found
            batch = await anext(self._batches, None)
            if batch is None:
                return found
            self._waiting.extend(batch[0])
