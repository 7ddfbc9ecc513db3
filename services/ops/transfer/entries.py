"""What is kept of a partition: every record, byte for byte, and each batch with one that cannot be decoded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from schemas.wire.encoding import Record

Headers = Sequence[tuple[str, bytes | None]]


class KeptRecord(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def next_offset(self) -> int:
        return self.offset + 1

    @property
    def size(self) -> int:
        """Upper bound of its bytes in a record batch: each length has at most five bytes, each time ten."""
        size = len(self.key or b"") + len(self.value or b"") + 36
        for name, value in self.headers:
            size += (len(name) if name.isascii() else 4 * len(name)) + len(value or b"") + 10
        return size


class KeptBatch(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A whole record batch, as its producer wrote it, because a record in it cannot be decoded."""

    offset: int
    """That of its first record."""
    timestamp: int
    """The largest of its records, as its header says."""
    first_timestamp: int
    count: int
    """Number of offsets that it takes."""
    codec: int
    data: bytes

    @property
    def next_offset(self) -> int:
        return self.offset + self.count


Entry = KeptRecord | KeptBatch


class EntriesBroken(Exception):
    """The bytes are not those of packed entries."""


YOUNG_OBJECTS: Final = 500_000
"""For `infrequent_gc`: the entries of a segment, with their headers."""
_LENGTH_BYTES: Final = 4
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Entry)


def kept(records: Iterable[Record]) -> list[KeptRecord]:
    """Return decodable records as they are kept."""
    return [KeptRecord(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


def pack_entry(entry: Entry) -> bytes:
    """Return an entry's bytes: its length, and its fields in MessagePack. The content of a segment is a row of these,
    so that a digest over several segments does not depend on where they were cut."""
    packed = _encoder.encode(entry)
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


def unpack(content: bytes) -> list[Entry]:
    """Return the entries of a segment's content. Raises EntriesBroken."""
    entries: list[Entry] = []
    view, at = memoryview(content), 0
    try:
        while at < len(view):
            begin = at + _LENGTH_BYTES
            at = begin + int.from_bytes(view[at:begin], "big")
            if at > len(view):
                raise EntriesBroken("an entry ends behind its segment")
            entries.append(_decoder.decode(view[begin:at]))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EntriesBroken(f"an entry cannot be decoded: {error}") from None
    return entries


def without_time(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries of chat.commands as they compare: the broker stamps them with the time of each append."""
    return [msgspec.structs.replace(entry, timestamp=0) for entry in entries]
