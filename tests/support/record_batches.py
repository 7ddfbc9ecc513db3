"""Record batches as a broker stores them, made by aiokafka's codec and parsed by ours."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from schemas.wire.encoding import Encoded, Record
from services.runtime.kafka.batches import batches_in
from services.runtime.kafka.plain_records import plain_records
from tests.support.chat_log import LogRecord


def batch_of(written: Sequence[Encoded], *, base_offset: int = 0, attributes: int = 0) -> bytes:
    """Return a batch of at least one record and at most 4 MB."""
    builder = BatchBuilder(4_000_000, 0)
    for record in written:
        added = builder.append(
            timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers
        )
        assert added is not None
    raw = bytearray(builder._build())
    struct.pack_into(">q", raw, 0, base_offset)
    raw[22] |= attributes
    return bytes(raw)


def parsed(raw: bytes, split: Callable[..., Iterator[Record]] | None = None) -> list[Any]:
    return [record for batch in batches_in(raw) for record in batch.records(split)]


def as_read(records: Sequence[LogRecord]) -> list[Record]:
    """Return the records as a reader gets them from a broker, with consecutive offsets."""
    return parsed(batch_of([record.encoded() for record in records], base_offset=records[0].offset))


def plain(raw: bytes) -> list[Any]:
    return parsed(raw, plain_records)


def by_client(raw: bytes) -> list[Any]:
    """Parse a batch with aiokafka, which trusts what a producer wrote."""
    found = MemoryRecords(raw)
    records: list[Any] = []
    while found.has_next():
        records += found.next_batch()
    return records
