"""Parses the records of a batch without compiled code; same results as _framing.pyx:Records.

A producer writes these bytes and a broker checks little of them. The broker knows only where the batch is and how many
records it has, so a reader trusts only that: record i of a batch is at base offset + i. A record that claims another
offset, or cannot be decoded, is an `Undecodable` at its true offset, and the next record is read as usual.

Numbers are read as Kafka's Java code reads them: sizes, counts and offset deltas in at most five bytes, with bits above
the 32nd dropped. So a reader here and a broker that accepted a record agree on where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from schemas.wire.encoding import Record, Undecodable

_INT: Final = 32
_LONG: Final = 64


_NAMES: Final = {
    name.encode(): name
    for name in (
        "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_sender", "ce_clientid", "content-type", "ce_replyto",
        "traceparent", "ce_command", "ce_commandid", "ce_position", "ce_seq",
    )
}  # fmt: skip
"""Encoded name → name of the usual headers, so that they need not be decoded."""


class PlainRecord(Struct, frozen=True):
    """A record of a batch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def plain_records(
    data: bytes, start: int, end: int, *, count: int, base_offset: int, base_timestamp: int, appended_at: int
) -> Iterator[Record]:
    """Yield exactly `count` records, decodable or not, from `data[start:end]`, which follows the batch's header.

    `appended_at` is the time of every record if the broker set it; otherwise −1, and each has its own. Never raises.
    """
    at, broken = start, ""
    for index in range(count):
        offset = base_offset + index
        if not broken:
            try:
                size, at = _number(data, at, end, _INT)
                if not 0 < size <= end - at:
                    raise ValueError("a record ends behind its batch")
            except ValueError as error:
                broken = str(error)  # the start of the next record is unknown too
        if broken:
            yield Undecodable(offset, broken, max(appended_at, 0))
            continue
        begin, at = at, at + size
        try:
            yield _record(data, begin, at, index, offset, base_timestamp, appended_at)  # type: ignore[misc]
        except ValueError as error:  # includes UnicodeDecodeError of a header's name
            yield Undecodable(offset, str(error), max(appended_at, 0))


def _record(
    data: bytes, at: int, end: int, index: int, offset: int, base_timestamp: int, appended_at: int
) -> PlainRecord:
    at += 1  # the attributes byte is unused, and ignored as by Kafka's clients
    later, at = _number(data, at, end, _LONG)
    delta, at = _number(data, at, end, _INT)
    if delta != index:
        raise ValueError("a record's offset is not its place in the batch")
    key, at = _nullable(data, at, end)
    value, at = _nullable(data, at, end)
    count, at = _number(data, at, end, _INT)
    if count < 0:
        raise ValueError("a record has less than no headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        # Fast paths for one-byte sizes, which nearly all are. Same results as `_nullable`.
        if at < end and (byte := data[at]) < 0x80 and not byte & 1 and (after := at + 1 + (byte >> 1)) <= end:
            raw, at = data[at + 1 : after], after
            name = _NAMES.get(raw) or raw.decode()
        else:
            name, at = _text(data, at, end)
        if at < end and (byte := data[at]) < 0x80 and not byte & 1 and (after := at + 1 + (byte >> 1)) <= end:
            headers.append((name, data[at + 1 : after]))
            at = after
        else:
            value_of, at = _nullable(data, at, end)
            headers.append((name, value_of))
    if at != end:
        raise ValueError("a record has more bytes than headers")
    timestamp = appended_at if appended_at >= 0 else _wrapped(base_timestamp + later, _LONG)
    return PlainRecord(offset, timestamp, key, value, headers)


def _text(data: bytes, at: int, end: int) -> tuple[str, int]:
    raw, at = _nullable(data, at, end)
    if raw is None:
        raise ValueError("a header has no name")
    return raw.decode(), at


def _nullable(data: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    size, at = _number(data, at, end, _INT)
    if size < 0:
        return None, at
    if size > end - at:
        raise ValueError("a record ends before what it holds")
    return data[at : at + size], at + size


def _number(data: bytes, at: int, end: int, bits: int) -> tuple[int, int]:
    """Return a zigzag varint and the position after it. Raises ValueError if it does not end before `end`."""
    if at < end and (byte := data[at]) < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value = shift = 0
    while True:
        if at >= end or shift >= bits:
            raise ValueError("a number in a record has no end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
    value &= (1 << bits) - 1
    return (value >> 1) ^ -(value & 1), at


def _wrapped(number: int, bits: int) -> int:
    """Return the number wrapped to a signed integer of `bits` bits."""
    half = 1 << (bits - 1)
    return (number + half) % (1 << bits) - half
