"""Bisection finds places in a log with records that do not count, and an anchor is a head that the log had there."""

from __future__ import annotations

import random

import pytest

from schemas.cursor import Decided, LogCursor
from schemas.events import AcceptedOutcome
from schemas.log import Head, Stamp
from schemas.wire.encoding import encode_outcome, event_source
from services.ops.inspect.places import (
    NEAR,
    PIECE_RECORDS,
    Bisection,
    Reached,
    anchor_in,
    by_command,
    by_index,
    by_term,
    by_time,
)
from tests.support.chat_log import ANNA, ChatLog, LogRecord


def _log(seed: int, records: int = 6_000) -> tuple[list[LogRecord], list[Decided]]:
    """Return a log of many terms, in which replaced writers go on for a while, and its outcomes that count."""
    chance, log = random.Random(seed), ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    while len(log.events) < records:
        chosen = chance.random()
        if chosen < 0.01:
            before, index = log.term, log.index
            log.open()
            for n in range(chance.choice((0, 1, 40))):
                outcome = AcceptedOutcome("message.sent.v1", log.at_ms - 500, b"{}", chat, ANNA, 1)
                stamp = Stamp(before, index + 1 + n, len(log.commands) + n)
                log.append(encode_outcome(outcome, stamp, event_source(0)))
        elif chosen < 0.02:
            log.append(log.events[-1].encoded())
        else:
            log.send(chat, ANNA)
    events = LogCursor().read(log.events)
    return log.events, [event for event in events if isinstance(event, Decided)]


def _found(records: list[LogRecord], reached: Reached) -> tuple[int, int]:
    """Return where bisection leaves off, and how many pieces it read."""
    bisection, pieces = Bisection(0, len(records), reached), 0
    while (probe := bisection.probe) is not None:
        bisection.take(records[probe : probe + PIECE_RECORDS])
        pieces += 1
    return bisection.low, pieces


@pytest.mark.parametrize("seed", range(5))
def test_bisection_ends_shortly_before_every_place_it_is_asked_for(seed: int) -> None:
    records, outcomes = _log(seed)
    for wanted in random.Random(seed).sample(outcomes, 60):
        stamp, at_ms = wanted.stamp, wanted.outcome.at_ms
        for reached in (by_index(stamp.index), by_command(stamp.command_offset), by_time(at_ms)):
            low, pieces = _found(records, reached)
            assert low <= wanted.offset < low + NEAR + PIECE_RECORDS, (stamp, low)
            assert pieces < 20
        low, _ = _found(records, by_term(stamp.term))
        assert low <= next(each.offset for each in outcomes if each.stamp.term == stamp.term)


@pytest.mark.parametrize("seed", range(5))
def test_an_anchor_is_a_head_that_the_log_had_there_or_the_cursor_notices(seed: int) -> None:
    records, outcomes = _log(seed)
    heads = {each.offset + 1: each.stamp for each in outcomes}
    exact = 0
    for begin in range(0, len(records) - 300, 37):
        anchor = anchor_in(records[begin : begin + 200])
        if anchor is None:
            continue
        offset, head = anchor
        if heads.get(offset) == Stamp(head.term, head.index, head.command_offset):
            exact += 1
            events = LogCursor(head, next_offset=offset).read(records[offset : offset + 300])
            valid = [event.offset for event in events if isinstance(event, Decided)]
            assert valid == [each.offset for each in outcomes if offset <= each.offset < offset + 300]
    assert exact > 100


def test_an_outcome_behind_the_opening_of_a_higher_term_is_no_anchor() -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.open()
    outcome = AcceptedOutcome("message.sent.v1", log.at_ms, b"{}", chat, ANNA, 1)
    log.append(encode_outcome(outcome, Stamp(1, 2, 1), event_source(0)))
    assert anchor_in(log.events[2:]) is None
    expected = Head(1, 1, 0, log.events[1].timestamp)
    assert anchor_in(log.events[1:]) == (2, expected)
