"""Reads a batch of the log as events of this projector. Pure.

The classified batch ends before the first record that cannot be applied, so that everything before it is still written
and the partition stops exactly there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.cursor import Decided, LogCursor
from schemas.errors import LogCorrupt, SchemaError
from schemas.log import EMPTY, Head, Verdict, classify
from schemas.wire.encoding import Record
from schemas.wire.records import stamp_of
from services.projector.mapping.decode import AnyEvent, Event, decode_event


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPosition:
    """How far a reader of one partition has read: all it needs to continue."""

    next_offset: int = 0
    head: Head = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """The part of a batch that can be applied."""

    events: Sequence[AnyEvent]
    end: ReaderPosition
    """The position after that part."""
    voids: int
    """Number of records of a replaced writer and of repeated copies, which count for nothing."""
    stop: SchemaError | None = None
    """Why the record at `end.next_offset` cannot be applied."""


def classify_records(start: ReaderPosition, records: Sequence[Record], *, read_up_to: int) -> Classified:
    """Read the records that follow `start`. `read_up_to` is the consumer's position after them, which also skips
    offsets without a record."""
    cursor = LogCursor(start.head, next_offset=start.next_offset)
    events = cursor.read_outcomes(records, _event_of)
    stop = cursor.stopped.error if cursor.stopped is not None else None
    next_offset = cursor.next_offset if stop is not None else max(cursor.next_offset, read_up_to)
    return Classified(
        events=events, end=ReaderPosition(next_offset=next_offset, head=cursor.head), voids=cursor.voids, stop=stop
    )


def _event_of(decided: Decided) -> Event:
    return decode_event(decided.stamp, decided.outcome)


def belongs_before(start: ReaderPosition, record: Record) -> bool:
    """Return whether a record can precede the position: the check of a stored position.

    Seen from a head, everything at or before it is void; any other verdict shows that the head is of another log.
    """
    try:
        stamp = stamp_of(record)
        if classify(start.head, stamp) is not Verdict.VOID:
            return False
    except LogCorrupt:
        return False
    is_head = stamp.index > 0 and (stamp.term, stamp.index) == (start.head.term, start.head.index)
    return not is_head or stamp.command_offset == start.head.command_offset
