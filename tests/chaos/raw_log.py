"""Reads a topic's record batches as they are in the log, without trusting any offset that a producer wrote.

A Kafka client trusts the offsets inside a batch, so it cannot check a run that has a hostile producer. This reader is
independent of the system's own: a record that does not state its true place in the batch, or cannot be decoded, is kept
without key, headers and value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from tests.chaos.evidence import Record

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CODEC: Final = 7
_CONTROL: Final = 0x20
_FETCH_BYTES: Final = 4 * 1024 * 1024


async def read_raw(kafka: str, topic: str, ends: dict[int, int]) -> list[Record]:
    """Return all records before the given end of each partition."""
    client = AIOKafkaClient(bootstrap_servers=kafka, client_id="chaos-checker")
    await client.bootstrap()
    try:
        await client.set_topics([topic])
        found: list[Record] = []
        for partition, end in ends.items():
            position = 0
            while position < end:
                for base, count, batch in _batches(await _fetch(client, topic, partition, position)):
                    found += [record for record in _records(partition, base, count, batch) if record.offset >= position]
                    position = base + count
        return found
    finally:
        await client.close()


async def _fetch(client: AIOKafkaClient, topic: str, partition: int, offset: int) -> bytes:
    request = FetchRequest(500, 1, _FETCH_BYTES, 0, [(topic, [(partition, offset, _FETCH_BYTES)])])
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    response: Any = await client.send(leader, request)
    ((_, ((_, code, *_, raw),)),) = response.topics
    if code:
        raise kafka_errors.for_code(code)(topic)
    return bytes(raw or b"")


def _batches(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (base offset, number of offsets, bytes) of each whole batch."""
    at = 0
    while at + _HEADER.size <= len(raw):
        header = _HEADER.unpack_from(raw, at)
        end = at + 12 + header[1]
        if end > len(raw):
            return
        yield header[0], header[6] + 1, raw[at:end]
        at = end


def _records(partition: int, base: int, count: int, batch: bytes) -> Iterator[Record]:
    _, _, _, _, _, attributes, _, _, max_timestamp, *_ = _HEADER.unpack_from(batch)
    if attributes & _CONTROL:
        return
    assert not attributes & _CODEC, "the topic's setting makes the broker keep records uncompressed"
    at = _HEADER.size
    for place in range(count):
        size, at = _number(batch, at)
        content = _content(batch[at : at + size], place)
        at += size
        key, value, headers = content if content is not None else (None, b"", ())
        yield Record(
            partition=partition, offset=base + place, timestamp_ms=max_timestamp, key=key, value=value, headers=headers
        )


Content = tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]


def _content(raw: bytes, place: int) -> Content | None:
    try:
        _, at = _number(raw, 1, bits=64)
        delta, at = _number(raw, at)
        if delta != place:
            return None
        key, at = _bytes(raw, at)
        value, at = _bytes(raw, at)
        count, at = _number(raw, at)
        headers = []
        for _ in range(count):
            name, at = _bytes(raw, at)
            header, at = _bytes(raw, at)
            headers.append(((name or b"").decode(), header or b""))
    except (IndexError, UnicodeDecodeError):
        return None
    return (key, value or b"", tuple(headers)) if at == len(raw) and count >= 0 else None


def _bytes(raw: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _number(raw, at)
    return (None, at) if size < 0 else (raw[at : at + size], at + size)


def _number(raw: bytes, at: int, bits: int = 32) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (raw[at] & 0x7F) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 0x80:
            value &= (1 << bits) - 1
            return (value >> 1) ^ -(value & 1), at
