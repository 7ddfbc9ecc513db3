"""A place in the whole log, for one reader: how far they have seen it in each partition that has chats of theirs.

What a client brings back to learn what it missed. It names a log and outcomes in it, nothing of a server or a session:
it stays valid as long as the log, for every server and every rebuild of the read model.

    version     one byte, 1
    log         16 bytes: the id of the topic `chat.events`
    runs        of partitions whose numbers follow each other, ascending:
                    gap      partitions left out before the run; at least 1, except before the first
                    length   number of partitions in the run
                    index    for each of them

The numbers are LEB128 (seven bits a byte, the lowest first, the high bit on all but the last byte), and the whole is
base64url without padding. There is one spelling of each cursor: clients may compare them as texts.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final, final

from msgspec import Struct

from schemas.ids import is_uuid, uuid_bytes, uuid_text

MAX_CHARACTERS: Final = 16_384
"""Maximum length of a cursor: enough for a reader with chats in a thousand partitions."""
_INDEX_BITS: Final = 63
MAX_INDEX: Final = 2**_INDEX_BITS - 1

_VERSION: Final = b"\x01"
_LOG_END: Final = 17


@final
class SyncCursor(Struct, frozen=True):
    """How far a reader has seen a log.

    The partitions are those of the chats that the reader is or was a member of. A missing partition means the same as
    index 0: the reader has seen nothing of it.
    """

    log_id: str
    """Id of the topic `chat.events`, a UUID in wire form: `topic_id` of `projection_positions`."""
    indexes: Mapping[int, int]
    """Partition → index of the last outcome seen there."""


def encode_sync_cursor(cursor: SyncCursor) -> str:
    """Return the text of a cursor.

    :raises ValueError: the log's id is not a UUID, a number is out of range, or there are too many partitions.
    """
    if not is_uuid(cursor.log_id):
        raise ValueError("the id of a log is a UUID in wire form")
    raw = bytearray(_VERSION + uuid_bytes(cursor.log_id))
    next_partition = 0
    for run in _runs(sorted(cursor.indexes)):
        _append(raw, run.start - next_partition)
        _append(raw, len(run))
        for partition in run:
            _append(raw, cursor.indexes[partition])
        next_partition = run.stop
    text = urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
    if len(text) > MAX_CHARACTERS:
        raise ValueError("too many partitions for one cursor")
    return text


def decode_sync_cursor(text: str) -> SyncCursor:
    """Return the cursor with this text. Raises ValueError for anything but what encode_sync_cursor returns."""
    if len(text) > MAX_CHARACTERS or not text.isascii():
        raise ValueError("no sync cursor")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if raw[:1] != _VERSION or len(raw) < _LOG_END:
        raise ValueError("no sync cursor")
    numbers = _numbers(raw[_LOG_END:])
    indexes: dict[int, int] = {}
    partition = 0
    for gap in numbers:
        partition += gap
        for _ in range(_next_of(numbers)):
            indexes[partition] = _next_of(numbers)
            partition += 1
    cursor = SyncCursor(uuid_text(raw[1:_LOG_END]), indexes)
    # The decoder reads more than the encoder writes: characters that base64 skips, runs that touch, leading zeros.
    if encode_sync_cursor(cursor) != text:
        raise ValueError("no sync cursor")
    return cursor


def _runs(partitions: list[int]) -> list[range]:
    """Return the ascending partitions as runs of numbers that follow each other."""
    if not partitions:
        return []
    breaks = [(last, first) for last, first in pairwise(partitions) if first != last + 1]
    starts = [partitions[0], *(first for _, first in breaks)]
    ends = [*(last for last, _ in breaks), partitions[-1]]
    return [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]


def _append(raw: bytearray, number: int) -> None:
    if not 0 <= number <= MAX_INDEX:
        raise ValueError("partitions and indexes are numbers from 0 to 2^63 - 1")
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    raw.append(number)


def _numbers(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte <= 0x7F:
            yield number
            number = shift = 0
        elif shift > _INDEX_BITS:
            break
    if shift:
        raise ValueError("no sync cursor")


def _next_of(numbers: Iterator[int]) -> int:
    number = next(numbers, None)
    if number is None:
        raise ValueError("no sync cursor")
    return number
