"""Record batches in Kafka's format v2: parsed for the reader, built for the appender.

A batch is a header of 61 bytes and its records. A producer writes both, and the broker checks and sets only parts of
them. A reader trusts only what the broker guarantees: where the batch begins and how many records it has (Kafka refuses
a batch whose count and last offset delta disagree). See docs/log-protocol.md, "Offsets are not believed".
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import google_crc32c
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from msgspec import Struct

from schemas.events import Outcome
from schemas.log import Stamp
from schemas.wire.encoding import Record, Undecodable, encode_outcome
from schemas.wire.extensions import extension
from services.runtime.kafka.decompression import decompressed
from services.runtime.kafka.plain_records import plain_records

_framing: Final = extension("services.runtime.kafka._framing")
split_records: Callable[..., Iterator[Record]] = _framing.Records if _framing is not None else plain_records
"""Splits the content of a batch into records."""

BATCH_BYTES: Final = 1_000_000
"""Maximum size of a batch for the client: below Kafka's default of 1,048,588, above the size at which the writer closes
an append."""

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_FORMAT: Final = 2
_BEFORE_CHECKED: Final = 21
"""Bytes of the header not covered by the checksum, the checksum included: a broker writes some of them."""
_BEFORE_LENGTH: Final = 12
"""Bytes not counted by a batch's length field."""
_COMPRESSION: Final = 0x07
_APPEND_TIME: Final = 0x08
NO_PRODUCER: Final = (-1, -1, -1)
_CONTROL: Final = 0x20


class _Header(NamedTuple):
    base_offset: int
    length: int
    leader_epoch: int
    format: int
    checksum: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int


class BatchBody(Struct, frozen=True):
    """The content of a record batch, whatever it is: it need not be decodable."""

    count: int
    """Number of offsets that it takes."""
    codec: int
    """The compression of `data`, as in the batch's attributes."""
    first_timestamp: int
    max_timestamp: int
    data: bytes


class RecordBatch:
    """A record batch from a broker's response."""

    def __init__(self, raw: bytes, start: int, end: int, header: _Header) -> None:
        """Wrap the batch `raw[start:end]`, header included."""
        self._raw = raw
        self._start = start
        self._end = end
        self._header = header
        self._count = max(1, header.last_offset_delta + 1)
        self.base_offset = header.base_offset
        self.next_offset = header.base_offset + self._count
        """The offset after the last record."""
        self.size_bytes = end - start
        self.is_control_batch = bool(header.attributes & _CONTROL)
        """Whether this is a transaction marker, which only a broker can write."""

    def validate_crc(self) -> bool:
        # google_crc32c uses the CPU's instruction: twenty times as fast as aiokafka's.
        checked = self._raw[self._start + _BEFORE_CHECKED : self._end]
        return bool(google_crc32c.value(checked) == self._header.checksum)

    def records(self, split: Callable[..., Iterator[Record]] | None = None) -> Iterator[Record]:
        """Yield one record for each offset from `base_offset` up to `next_offset` (exclusive), in order. A record that
        cannot be decoded or claims another offset is an `Undecodable`. Never raises.

        `split`: `split_records`, or another implementation of it.
        """
        header = self._header
        if header.format != _FORMAT:
            return self.undecodable(f"a batch of format {header.format}, not {_FORMAT}")
        data, start, end = self._raw, self._start + _HEADER.size, self._end
        codec = header.attributes & _COMPRESSION
        if codec:
            try:
                data = decompressed(codec, data[start:end])
            except ValueError as error:
                return self.undecodable(str(error))
            start, end = 0, len(data)
        return (split or split_records)(
            data,
            start,
            end,
            count=self._count,
            base_offset=header.base_offset,
            base_timestamp=header.first_timestamp,
            appended_at=header.max_timestamp if header.attributes & _APPEND_TIME else -1,
        )

    def body(self) -> BatchBody:
        """Return what its producer wrote, without what belongs to a topic, a broker or a producer's session."""
        header = self._header
        return BatchBody(
            count=self._count,
            codec=header.attributes & _COMPRESSION,
            first_timestamp=header.first_timestamp,
            max_timestamp=header.max_timestamp,
            data=self._raw[self._start + _HEADER.size : self._end],
        )

    def undecodable(self, reason: str) -> Iterator[Record]:
        """Yield an `Undecodable` for each offset of the batch."""
        return (Undecodable(offset, reason) for offset in range(self.base_offset, self.next_offset))


def batches_in(raw: bytes) -> deque[RecordBatch]:
    """Return the complete batches of a broker's response, which may end within one.

    Raises aiokafka's CorruptRecordException if a batch is shorter than its header: then the next one cannot be found.
    """
    batches: deque[RecordBatch] = deque()
    start = 0
    while start + _HEADER.size <= len(raw):
        header = _Header._make(_HEADER.unpack_from(raw, start))
        end = start + _BEFORE_LENGTH + header.length
        if end < start + _HEADER.size:
            raise CorruptRecordException(f"a batch at {header.base_offset} of {header.length} bytes")
        if end > len(raw):
            break
        batches.append(RecordBatch(raw, start, end, header))
        start = end
    return batches


class OutcomeBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka's is untyped
    """A record batch under construction. Outcomes are encoded as they are added."""

    _relative_offset: int
    writer: Any = None
    """The compiled encoder, if this batch has one."""

    def __init__(self) -> None:
        super().__init__(BATCH_BYTES, 0)

    def add(self, outcome: Outcome, stamp: Stamp, source: bytes) -> None:
        """Add an outcome. `source` is `encoding.event_source` of the partition."""
        # Like BatchBuilder.append, which spends as much time on absent serializers as the codec on the record.
        number, record = self._relative_offset, encode_outcome(outcome, stamp, source)
        added = self._builder.append(number, record.timestamp_ms, record.key, record.value, record.headers)
        if added is None:
            raise AssertionError(_TOO_LONG)
        self._relative_offset = number + 1

    def __len__(self) -> int:
        return self._relative_offset


_TOO_LONG: Final = "an append is closed by bytes before it outgrows a record batch"


def whole_batch(body: BatchBody, producer: tuple[int, int, int] = NO_PRODUCER) -> bytes:
    """Return the bytes of a batch, to be appended. `producer` is its id, its epoch and its next sequence number."""
    length = _HEADER.size - _BEFORE_LENGTH + len(body.data)
    times = (body.first_timestamp, body.max_timestamp)
    header = _Header(0, length, -1, _FORMAT, 0, body.codec, body.count - 1, *times, *producer, body.count)
    checked = _HEADER.pack(*header)[_BEFORE_CHECKED:] + body.data
    header = header._replace(checksum=google_crc32c.value(checked))
    return _HEADER.pack(*header)[:_BEFORE_CHECKED] + checked


class CopiedBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka's is untyped
    """A record batch that is appended as it was read elsewhere, decodable or not."""

    def __init__(self, body: BatchBody) -> None:
        super().__init__(BATCH_BYTES, 0)
        self.body = body
        self._producer = NO_PRODUCER
        self._whole: bytes | None = None

    # The interface that aiokafka's sender uses.

    def record_count(self) -> int:
        return self.body.count

    def size(self) -> int:
        return _HEADER.size + len(self.body.data)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> Any:
        """Return the whole batch, always the same bytes: it may be sent again."""
        self.close()
        if self._whole is None:
            self._whole = whole_batch(self.body, self._producer)
        return self._whole


class CompiledOutcomeBatch(OutcomeBatch):
    """Builds the same bytes with a compiled encoder."""

    def __init__(self, framing: Any) -> None:
        """`framing` is the compiled module."""
        super().__init__()
        self.writer = framing.OutcomeWriter(BATCH_BYTES - _HEADER.size)
        self.add = self.writer.add  # type: ignore[method-assign]  # saves one call per outcome
        self._producer = NO_PRODUCER
        self._whole: bytes | None = None

    def __len__(self) -> int:
        return len(self.writer)

    # The interface that aiokafka's sender uses.

    def record_count(self) -> int:
        return len(self.writer)

    def size(self) -> int:
        return _HEADER.size + int(self.writer.size)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> Any:
        """Return the whole batch, always the same bytes: it may be sent again."""
        self.close()
        if self._whole is None:
            first_ms, last_ms = self.writer.timestamps
            body = BatchBody(len(self.writer), 0, first_ms, last_ms, self.writer.written_bytes())
            self._whole = whole_batch(body, self._producer)
        return self._whole


def new_outcome_batch() -> OutcomeBatch:
    return CompiledOutcomeBatch(_framing) if _framing is not None else OutcomeBatch()
