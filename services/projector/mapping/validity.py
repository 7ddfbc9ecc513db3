"""Which records of a batch count: the validity rule applied to what came from Kafka. Pure.

The judged batch ends before the first record that cannot be gone past, so that everything before it is still
written and the partition stops exactly there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from schemas.errors import LogCorrupt, SchemaError, UnknownType
from schemas.events import EventType, decode_term_opened
from schemas.log import EMPTY, Head, Stamp, Verdict, after, judge
from schemas.wire.encoding import Record
from schemas.wire.records import messages_from, outcome_of, stamp_of
from services.projector.mapping.decode import AnyEvent, decode_event, usual_event


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a reader of one partition stands: all it needs to go on."""

    next_offset: int = 0
    head: Head = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The part of a batch that can be gone past."""

    events: tuple[AnyEvent, ...]
    end: Position
    """After that part."""
    voids: int
    """Records of a replaced writer, or repeated copies: they count for nothing."""
    stop: SchemaError | None = None
    """Why the record at `end.next_offset` cannot be gone past."""


def judge_records(start: Position, records: Sequence[Record], *, read_up_to: int) -> Judged:
    """Applies the rule to records that follow `start`. `read_up_to` is the reader's position after them: it also
    passes offsets that hold no record."""
    head, next_offset = start.head, start.next_offset
    events: list[AnyEvent] = []
    voids = 0
    at = 0
    try:
        while True:
            head, at = _judge_usual(head, records, at, events)
            if at:
                next_offset = records[at - 1].offset + 1
            if at == len(records):
                break
            record = records[at]
            stamp = stamp_of(record)
            verdict = judge(head, stamp)
            if verdict is Verdict.VOID:
                voids += 1
            elif verdict is Verdict.OPENS:
                head = _opened(head, stamp, record)
            else:
                events.append(decode_event(stamp, outcome_of(record)))
                head = after(head, stamp, record.timestamp)
            next_offset = record.offset + 1
            at += 1
    except (LogCorrupt, UnknownType) as error:
        end = Position(next_offset=next_offset, head=head)
        return Judged(events=tuple(events), end=end, voids=voids, stop=error)
    end = Position(next_offset=max(next_offset, read_up_to), head=head)
    return Judged(events=tuple(events), end=end, voids=voids)


def _judge_usual(head: Head, records: Sequence[Record], at: int, events: list[AnyEvent]) -> tuple[Head, int]:
    """Goes from record `at` past all that are the next outcome and a message or a mark: nearly every record. The rule
    would find them valid; at any other it stops.

    Gives the head after them and the first record that is not among them; appends their events.
    """
    term, index, command_offset, timestamp_ms = structs.astuple(head)
    while at < len(records):
        messages = messages_from(records, at, Head(term, index, command_offset, timestamp_ms))
        if messages:
            events += messages
            index += len(messages)
            command_offset = messages[-1].command_offset
            timestamp_ms = max(timestamp_ms, max([message.at_ms for message in messages]))
            at += len(messages)
            continue
        record = records[at]
        try:
            stamp = stamp_of(record)
            if stamp.term != term or stamp.index != index + 1 or stamp.command_offset <= command_offset:
                break
            event = usual_event(stamp, outcome_of(record))
        except LogCorrupt:
            break  # the rule says first whether it counts
        if event is None:
            break
        events.append(event)
        index += 1
        command_offset = stamp.command_offset
        timestamp_ms = max(timestamp_ms, event.at_ms)
        at += 1
    return Head(term, index, command_offset, timestamp_ms), at


def _opened(head: Head, stamp: Stamp, record: Record) -> Head:
    outcome = outcome_of(record)
    if outcome.type != EventType.TERM_OPENED:
        raise UnknownType(f"{outcome.type} opens a term; deploy a projector that knows it")
    return after(head, stamp, record.timestamp, decode_term_opened(outcome.body).commands_from)


def belongs_before(start: Position, record: Record) -> bool:
    """Whether a record can stand before the position: what a stored position is checked by.

    Seen from a head, everything at or before it is void; anything else shows that the head is of another log.
    """
    try:
        stamp = stamp_of(record)
        if judge(start.head, stamp) is not Verdict.VOID:
            return False
    except LogCorrupt:
        return False
    is_head = stamp.index > 0 and (stamp.term, stamp.index) == (start.head.term, start.head.index)
    return not is_head or stamp.command_offset == start.head.command_offset
