"""Which records of a batch count, and which stored position a log may have. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.cursor import Decided, LogCursor
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import OtherOutcome
from schemas.log import EMPTY, Head, Stamp
from schemas.types import EventType
from schemas.wire.encoding import encode_outcome, event_source
from services.projector.mapping.decode import decode_event
from services.projector.mapping.validity import ReaderPosition, belongs_before, classify_records
from tests.support.chat_log import ANNA, BEN, ChatLog, conversation
from tests.support.projection import Action, History, actions

START = ReaderPosition()


def test_everything_before_a_bad_record_counts_and_the_batch_ends_right_before_it() -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    log.index += 1
    log.send(chat, ANNA)
    classified = classify_records(START, log.events, read_up_to=4)
    assert isinstance(classified.stop, LogCorrupt)
    assert len(classified.events) == 2
    assert classified.end.next_offset == 3
    assert classified.end.head == Head(term=1, index=2, command_offset=1, last_timestamp_ms=log.events[2].timestamp)


def test_a_void_record_is_counted_and_gone_past_whatever_it_holds() -> None:
    log = ChatLog()
    log.open()
    log.create(ANNA, "ops")
    log.append(log.events[1].encoded())
    nonsense = OtherOutcome(type="of.tomorrow.v9", at_ms=1, body=b"\xff")
    log.append(encode_outcome(nonsense, Stamp(0, 1, 0), event_source(0)))
    classified = classify_records(START, log.events, read_up_to=4)
    assert (classified.voids, classified.stop, classified.end.next_offset) == (2, None, 4)


def test_an_opening_may_set_where_commands_go_on() -> None:
    log = ChatLog()
    log.open(commands_from=100)
    classified = classify_records(START, log.events, read_up_to=1)
    assert classified.end.head.command_offset == 99


def test_an_opening_of_an_unknown_kind_is_not_gone_past() -> None:
    log = ChatLog()
    log.append(
        encode_outcome(OtherOutcome(type="term.merged.v1", at_ms=1, body=b"{}"), Stamp(1, 0, -1), event_source(0))
    )
    classified = classify_records(START, log.events, read_up_to=1)
    assert isinstance(classified.stop, UnknownType)
    assert classified.end == START


def test_offsets_without_a_record_are_gone_past_with_the_reader() -> None:
    assert classify_records(START, [], read_up_to=7).end == ReaderPosition(next_offset=7, head=EMPTY)


@given(steps=actions, cut=st.integers(0, 200))
def test_the_record_before_a_position_belongs_before_it_and_the_one_after_does_not(
    steps: list[Action], cut: int
) -> None:
    records = History().run(steps)
    at = 1 + cut % len(records)
    position = classify_records(START, records[:at], read_up_to=at).end
    assert belongs_before(position, records[at - 1])
    rest = classify_records(position, records[at:], read_up_to=len(records))
    following = next((r for r in records[at:] if not classify_records(position, [r], read_up_to=0).voids), None)
    if following is not None and rest.events:
        assert not belongs_before(position, following)


def test_a_position_of_another_log_is_found_out() -> None:
    log = ChatLog()
    log.open()
    conversation(log)
    end = classify_records(START, log.events, read_up_to=len(log.events)).end
    last = log.events[-1]
    assert belongs_before(end, last)
    other_command = replace(end, head=structs.replace(end.head, command_offset=end.head.command_offset - 1))
    assert not belongs_before(other_command, last)
    shorter = replace(end, head=structs.replace(end.head, index=end.head.index - 1))
    assert not belongs_before(shorter, last)
    earlier_term = replace(end, head=structs.replace(end.head, term=end.head.term - 1))
    assert not belongs_before(earlier_term, last)
    assert not belongs_before(end, replace(last, headers=[("ce_type", EventType.MESSAGE_SENT.encode())]))


@given(steps=actions)
def test_the_quick_way_gives_the_verdicts_and_events_of_the_rule_itself(steps: list[Action]) -> None:
    """By `decode_event` alone, and without compiled decoders."""
    records = History().run(steps)
    cursor = LogCursor(compiled=False)
    events = [decode_event(each.stamp, each.outcome) for each in cursor.read(records) if isinstance(each, Decided)]
    classified = classify_records(START, records, read_up_to=0)
    assert classified.events == events
    assert classified.end == ReaderPosition(next_offset=len(records), head=cursor.head)


@pytest.mark.parametrize(
    ("stamp", "found"),
    [
        ([("ce_id", b"1/2"), ("ce_command", b"1")], 2),
        ([("ce_id", b"01/2"), ("ce_command", b"1")], 2),
        ([("ce_id", b"1/2"), ("ce_command", b"0001")], 2),
        ([("ce_id", b"1/2"), ("ce_command", b"0")], LogCorrupt),
        ([("ce_id", b"1/3"), ("ce_command", b"1")], LogCorrupt),
        ([("ce_id", b"2/2"), ("ce_command", b"1")], LogCorrupt),
        ([("ce_id", b"1/2"), ("ce_command", b"1" * 19)], LogCorrupt),
        ([("ce_id", b"1/2"), ("ce_command", b"-1")], LogCorrupt),
        ([("ce_id", b"1/2")], LogCorrupt),
    ],
)
def test_every_spelling_of_a_stamp_is_judged_by_the_rule(
    stamp: list[tuple[str, bytes]], found: int | type[Exception]
) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    rest = [header for header in log.events[2].headers if header[0] not in ("ce_id", "ce_command")]
    records = [*log.events[:2], replace(log.events[2], headers=[*stamp, *rest])]
    classified = classify_records(START, records, read_up_to=3)
    if isinstance(found, int):
        assert (len(classified.events), classified.stop) == (found, None)
    else:
        assert isinstance(classified.stop, found)
        assert classified.end.next_offset == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": b'{"text":"a","up_to_seq":1}'}, "body cannot be read"),
        ({"value": b'{"text":1}'}, "body cannot be read"),
        ({"value": b'{"text":"\xff"}'}, "body cannot be read"),
        ({"value": b'{"text":"\\ud800"}'}, "body cannot be read"),
        ({"value": b'{"text":"a","reply_to_message_id":"x"}'}, "body cannot be read"),
        ({"value": b""}, "body cannot be read"),
        ({"key": b"no chat"}, "without chat, sender or position"),
        ({"key": None}, "without chat, sender or position"),
        ({"headers": {"ce_sender": b"somebody"}}, "sender is no UUID"),
        ({"headers": {"ce_seq": b"x"}}, "is no outcome"),
    ],
)
def test_a_message_that_no_writer_appends_stops_the_partition_on_the_quick_way_too(
    changed: dict[str, Any], said: str
) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA)
    good = log.events[2]
    if "headers" in changed:
        changed = {"headers": list((dict(good.headers) | changed["headers"]).items())}
    records = [*log.events[:2], replace(good, **changed)]
    classified = classify_records(START, records, read_up_to=3)
    assert isinstance(classified.stop, LogCorrupt)
    assert said in str(classified.stop)
