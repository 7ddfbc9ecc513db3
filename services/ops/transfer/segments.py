"""A segment: a run of entries of one partition, packed and compressed, with digests of both forms. Pure.

The digest of the content is what the copies of a log are compared by. That of the stored bytes finds every damage to a
file, even one that decompresses to the same content.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import cramjam
from msgspec import Struct

from services.ops.transfer.entries import EntriesBroken, Entry, pack_entry, unpack

DIGEST_BYTES: Final = 32
COMPRESSION_LEVEL: Final = 3


class Segment(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A segment, as the manifest names it."""

    first: int
    """Offset of its first record."""
    last: int
    """Offset of its last record. Offsets in between may be missing: transaction markers have them."""
    records: int
    bytes: int
    """Length of its content."""
    digest: str
    """BLAKE2b-256 of its content."""
    last_digest: str
    """The same of its last entry, which a log has to hold to be the one that was exported."""
    stored_bytes: int
    stored_digest: str
    """The same of its file."""


class SegmentBroken(Exception):
    """The stored bytes are not those of the segment. The message ends a sentence that begins with the file's name."""


def digest_of(data: bytes) -> str:
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


class SegmentBuilder:
    """Collects entries, and makes a segment of them."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._first = self._last = -1
        self.bytes = 0
        self.records = 0

    def add(self, entry: Entry) -> None:
        packed = pack_entry(entry)
        if not self._packed:
            self._first = entry.offset
        self._last = entry.next_offset - 1
        self.records += entry.next_offset - entry.offset
        self._packed.append(packed)
        self.bytes += len(packed)

    def seal(self) -> tuple[Segment, bytes]:
        """Return the segment and the bytes to store. There has to be an entry."""
        content = b"".join(self._packed)
        stored = bytes(cramjam.zstd.compress(content, level=COMPRESSION_LEVEL))
        segment = Segment(
            first=self._first,
            last=self._last,
            records=self.records,
            bytes=len(content),
            digest=digest_of(content),
            last_digest=digest_of(self._packed[-1]),
            stored_bytes=len(stored),
            stored_digest=digest_of(stored),
        )
        return segment, stored


def content_of(segment: Segment, stored: bytes) -> bytes:
    """Return the content of a stored segment. Raises SegmentBroken if a single bit of it is not what was stored."""
    if len(stored) != segment.stored_bytes:
        raise SegmentBroken(f"has {len(stored)} bytes, not {segment.stored_bytes}")
    if digest_of(stored) != segment.stored_digest:
        raise SegmentBroken("has another digest than the manifest says: it was changed")
    content = bytearray(segment.bytes)
    try:
        size = cramjam.zstd.decompress_into(stored, content)
    except cramjam.DecompressionError as error:
        raise SegmentBroken(f"cannot be decompressed: {error}") from None
    if size != segment.bytes or digest_of(bytes(content)) != segment.digest:
        raise SegmentBroken("has another content than the manifest says")
    return bytes(content)


def entries_in(segment: Segment, content: bytes) -> list[Entry]:
    """Return the entries of a segment, in the order of their offsets. Raises SegmentBroken if they are not its own."""
    try:
        entries = unpack(content)
    except EntriesBroken as error:
        raise SegmentBroken(f"holds no entries: {error}") from None
    at = segment.first
    for entry in entries:
        if entry.offset < at:
            raise SegmentBroken(f"holds offset {entry.offset} twice or out of order")
        at = entry.next_offset
    records = sum(entry.next_offset - entry.offset for entry in entries)
    if not entries or (entries[0].offset, at - 1, records) != (segment.first, segment.last, segment.records):
        raise SegmentBroken(f"does not hold the records {segment.first} to {segment.last}")
    return entries
