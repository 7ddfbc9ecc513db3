"""Record batches as a hostile producer writes them, every byte its choice. A broker checks only some of it.

`Forged` describes a batch by its fields, `raw` returns its bytes with the right checksum, `any_batch` returns a random
one. A batch that a broker accepts has one correct reading: record i is at the base offset + i.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import google_crc32c
from aiokafka import codec
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from schemas.wire.encoding import Encoded

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
CODECS: Final[dict[int, Callable[[bytes], bytes]]] = {
    0: bytes,
    1: codec.gzip_encode,
    2: codec.snappy_encode,
    3: codec.lz4_encode,
    4: codec.zstd_encode,
}
APPEND_TIME, TRANSACTIONAL, CONTROL, DELETE_HORIZON = 0x08, 0x10, 0x20, 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgedRecord:
    """A record; None in a derived field means the value that an honest producer writes."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    delta: int | None = None
    timestamp_delta: int = 0
    attributes: int = 0
    size: int | None = None
    key_size: int | None = None
    value_size: int | None = None
    header_count: int | None = None
    longer_numbers: bool = False
    """Whether each number has more bytes than it needs, which varints allow."""
    high_bits: bool = False
    """Whether each size has bits set above the 32nd, which Kafka's Java code drops."""
    more: bytes = b""
    """Bytes after the headers."""
    touched: bool = False
    """Whether `any_batch` changed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """A batch; see `ForgedRecord`."""

    records: Sequence[ForgedRecord]
    base_offset: int = 0
    leader_epoch: int = -1
    magic: int = 2
    attributes: int = 0
    last_offset_delta: int | None = None
    first_timestamp: int = field(default_factory=lambda: int(time.time() * 1000))
    max_timestamp: int | None = None
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    count: int | None = None
    more: bytes = b""
    """Bytes after the records, added before compression."""
    wrong_checksum: bool = False


def honest(record: Encoded) -> ForgedRecord:
    """Return one of our records, to be forged by `replace`."""
    headers = [(name.encode(), value) for name, value in record.headers]
    return ForgedRecord(key=record.key, value=record.value, headers=headers)


def raw(forged: Forged) -> bytes:
    """Return its bytes, with the right length and, unless `wrong_checksum` is set, the right checksum."""
    body = b"".join(_record(record, i) for i, record in enumerate(forged.records)) + forged.more
    body = CODECS.get(forged.attributes & 7, bytes)(body)
    n = len(forged.records)
    checked = (
        struct.pack(
            ">hiqqqhii",
            forged.attributes,
            n - 1 if forged.last_offset_delta is None else forged.last_offset_delta,
            forged.first_timestamp,
            forged.first_timestamp if forged.max_timestamp is None else forged.max_timestamp,
            forged.producer_id,
            forged.producer_epoch,
            forged.base_sequence,
            n if forged.count is None else forged.count,
        )
        + body
    )
    crc = google_crc32c.value(checked) ^ (1 if forged.wrong_checksum else 0)
    return struct.pack(">qiibI", forged.base_offset, 9 + len(checked), forged.leader_epoch, forged.magic, crc) + checked


def _record(record: ForgedRecord, index: int) -> bytes:
    def number(value: int, given: int | None = None, bits: int = 32) -> bytes:
        found = _varint(value if given is None else given, bits)
        if record.longer_numbers and len(found) < 5:
            found = bytes([byte | 0x80 for byte in found]) + b"\x80" * (4 - len(found)) + b"\0"
        if record.high_bits and bits == 32:
            found = (
                bytes([byte | 0x80 for byte in found[:4]])
                + b"\x80" * (4 - len(found))
                + bytes([(found[4] if len(found) > 4 else 0) | 0x70])
            )
        return found

    def sized(value: bytes | None, given: int | None = None) -> bytes:
        return number(-1 if value is None else len(value), given) + (value or b"")

    body = struct.pack(">B", record.attributes & 0xFF)
    body += number(record.timestamp_delta, bits=64)
    body += number(index if record.delta is None else record.delta)
    body += sized(record.key, record.key_size) + sized(record.value, record.value_size)
    body += number(len(record.headers), record.header_count)
    for name, value in record.headers:
        body += sized(name) + sized(value)
    body += record.more
    return number(len(body), record.size) + body


def _varint(value: int, bits: int) -> bytes:
    left = ((value << 1) ^ (value >> (bits - 1))) & ((1 << bits) - 1)
    found = bytearray()
    while left >= 0x80:
        found.append((left & 0x7F) | 0x80)
        left >>= 7
    return bytes([*found, left])


# --- by chance ------------------------------------------------------------------------------------------------------

_INT_MAX: Final = (1 << 31) - 1
_LONG_MAX: Final = (1 << 63) - 1


def any_batch(rng: random.Random, commands: Sequence[Encoded], of_a_record: Sequence[str] | None = None) -> Forged:
    """Return a batch of these commands with zero or more defects. A broker accepts most of them.

    `of_a_record` limits the defects of a record; by default all are possible.
    """
    of_a_record = of_a_record or _OF_A_RECORD
    records = [honest(command) for command in commands]
    n = len(records)
    batch = Forged(records=records)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        i = rng.randrange(n)
        of_its_record = rng.random() < 0.75
        what = rng.choice(of_a_record if of_its_record else _OF_A_BATCH)
        if of_its_record:
            records[i] = replace(_forged_record(rng, records[i], what, n), touched=True)
        else:
            batch = _forged_batch(rng, batch, what, n)
    if rng.random() < 0.15:  # all deltas at once, as in a batch assembled from others
        deltas = rng.choice(
            [[0] * n, [5 + i for i in range(n)], [*range(n)][::-1], [rng.randrange(-9, 9) for _ in records]]
        )
        records = [replace(record, delta=delta, touched=True) for record, delta in zip(records, deltas, strict=True)]
    return replace(batch, records=records)


_OF_A_RECORD: Final = (
    "delta", "delta", "attributes", "timestamp", "header name", "null header", "key size", "value size", "size",
    "header count", "longer numbers", "high bits", "more", "no key", "no value", "many headers", "twice",
)  # fmt: skip
_OF_A_BATCH: Final = (
    "codec", "base offset", "epoch", "append time", "transactional", "control", "horizon", "last delta", "count",
    "both counts", "times", "producer", "sequence", "more", "checksum", "magic",
)  # fmt: skip


def _forged_record(rng: random.Random, record: ForgedRecord, what: str, n: int) -> ForgedRecord:
    odd = rng.choice([-(1 << 31), -2, -1, 0, 1, 2, n, 1_000, _INT_MAX])
    match what:
        case "delta":
            return replace(record, delta=odd)
        case "attributes":
            return replace(record, attributes=rng.choice([1, 0x80, 0xFF, rng.randrange(256)]))
        case "timestamp":
            return replace(record, timestamp_delta=rng.choice([-1, 1, -_LONG_MAX, _LONG_MAX, rng.getrandbits(62)]))
        case "header name":
            return replace(record, headers=[*record.headers, (rng.choice([b"\xff\xfe", b"", b"x" * 300]), b"v")])
        case "null header":
            at = rng.randrange(len(record.headers) or 1)
            return replace(record, headers=[(k, None if i == at else v) for i, (k, v) in enumerate(record.headers)])
        case "key size":
            return replace(record, key_size=odd)
        case "value size":
            return replace(record, value_size=odd)
        case "size":
            return replace(record, size=odd)
        case "header count":
            return replace(record, header_count=odd)
        case "longer numbers":
            return replace(record, longer_numbers=True)
        case "high bits":
            return replace(record, high_bits=True)
        case "more":
            return replace(record, more=b"\0" * rng.randrange(1, 9))
        case "no key":
            return replace(record, key=None)
        case "no value":
            return replace(record, value=None)
        case "many headers":
            return replace(record, headers=[*record.headers, *[(b"h", b"")] * rng.randrange(1_000)])
        case _:
            return replace(record, headers=[*record.headers, *record.headers])


def _forged_batch(rng: random.Random, batch: Forged, what: str, n: int) -> Forged:
    odd = rng.choice([-(1 << 31), -1, 0, 1, n, n + 1, 1_000, _INT_MAX])
    match what:
        case "codec":
            return replace(batch, attributes=batch.attributes | rng.randrange(8))
        case "base offset":
            return replace(batch, base_offset=rng.choice([-1, 1, 7, _LONG_MAX]))
        case "epoch":
            return replace(batch, leader_epoch=odd)
        case "append time":
            return replace(batch, attributes=batch.attributes | APPEND_TIME)
        case "transactional":
            return replace(batch, attributes=batch.attributes | TRANSACTIONAL)
        case "control":
            return replace(batch, attributes=batch.attributes | CONTROL)
        case "horizon":
            return replace(batch, attributes=batch.attributes | rng.choice([DELETE_HORIZON, 0x80, 0x4000]))
        case "last delta":
            return replace(batch, last_offset_delta=odd)
        case "count":
            return replace(batch, count=odd)
        case "both counts":
            return replace(batch, last_offset_delta=max(odd, -(1 << 31) + 1) - 1, count=odd)
        case "times":
            return replace(
                batch,
                first_timestamp=rng.choice([-1, 0, 1, _LONG_MAX, -_LONG_MAX]),
                max_timestamp=rng.choice([-1, 0, _LONG_MAX]),
            )
        case "producer":
            return replace(batch, producer_id=rng.choice([0, 5, _LONG_MAX]), producer_epoch=rng.choice([-1, 0, 7]))
        case "sequence":
            return replace(batch, base_sequence=odd)
        case "more":
            return replace(batch, more=bytes(rng.randrange(1, 99)))
        case "checksum":
            return replace(batch, wrong_checksum=True)
        case _:
            return replace(batch, magic=rng.choice([0, 1, 3, 127, -1]))


# --- into a broker --------------------------------------------------------------------------------------------------


class BatchRefused(Exception):
    """The broker refused the batch."""


class RawProducer:
    """Writes bytes into a partition as they are."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    @classmethod
    async def open(cls, kafka: str, topic: str) -> tuple[RawProducer, Callable[[], Awaitable[None]]]:
        """Return a producer and the function that closes it."""
        client = AIOKafkaClient(bootstrap_servers=kafka, client_id="hostile", request_timeout_ms=20_000)
        await client.bootstrap()
        await client.set_topics([topic])
        return cls(client), client.close

    @classmethod
    @asynccontextmanager
    async def on(cls, kafka: str, topic: str) -> AsyncIterator[RawProducer]:
        producer, close = await cls.open(kafka, topic)
        try:
            yield producer
        finally:
            await close()

    async def put(self, topic: str, partition: int, batch: bytes) -> int:
        """Append a batch and return the offset of its first record.

        Raises BatchRefused if the broker refuses it.
        """
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(None, -1, 15_000, [(topic, [(partition, batch)])])
        try:
            response: Any = await self._client.send(leader, request)
        except kafka_errors.KafkaError as error:
            raise BatchRefused(repr(error)) from error
        ((_, ((_, code, offset, *_),)),) = response.topics
        if code:
            raise BatchRefused(kafka_errors.for_code(code).__name__)
        return int(offset)
