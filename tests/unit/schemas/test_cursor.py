"""The reader of the log, compared with the table of the validity rule in the tests' own reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import cursor as cursor_module
from schemas import ids
from schemas.cursor import Decided, LogCursor, LogEvent, Opened, Stop, Void
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import AcceptedOutcome, OtherOutcome, Outcome, TermOpened, encode_term_opened
from schemas.log import Head, Stamp
from schemas.types import EventType
from schemas.wire.encoding import Encoded, Record, Undecodable, encode_outcome, event_source, opening_outcome
from tests.support.any_records import CHAT, SENDER
from tests.support.chat_log import ANNA, BEN, ChatLog, LogRecord
from tests.support.record_batches import as_read
from tests.support.reference_rule import Claimed, Row, rows

NEWER_TYPE: Final = "message.pinned.v9"
MESSAGE: Final = AcceptedOutcome(
    type=EventType.MESSAGE_SENT.value,
    at_ms=0,
    body=b'{"text":"hello"}',
    chat_id=CHAT,
    command_id=ids.command_id(CHAT, SENDER, "k-1"),
    client_generated_id="k-1",
    sender_id=SENDER,
    position=2,
    seq=1,
)


# --- any log: who claims what, and what its records hold ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A record to be encoded. `holds` is one of CONTENTS."""

    claimed: Claimed
    holds: str
    at_ms: int


CONTENTS: Final = (
    "a plain message", "a message with metadata", "a receipt", "a newer type", "a seq that is no number",
    "no stamp", "nothing that can be decoded",
)  # fmt: skip
"""Contents of an outcome. For the fourth and the fifth, an opening has a newer type or an unreadable body."""
UNREADABLE: Final = ("a seq that is no number",)
LOST: Final = ("no stamp", "nothing that can be decoded")
"""Contents whose place no reader can determine."""
STEPS: Final = ("next", "open", "open from", "copy", "fenced", "late opening", "skipped", "same command")

steps = st.tuples(
    st.sampled_from([*["next"] * 12, *STEPS]),
    st.integers(1, 3),
    st.sampled_from([*CONTENTS[:1] * 12, *CONTENTS[:3] * 3, *CONTENTS]),
    st.integers(0, 5),
)


def written(drawn: Sequence[tuple[str, int, str, int]]) -> list[Written]:
    """Return a log by these steps, the first of which is always an opening."""
    found = [Written(Claimed(1, 0, -1), CONTENTS[0], 3)]
    term, index, command = 1, 0, -1
    for step, by, holds, at_ms in drawn:
        match step:
            case "next":
                index, command = index + 1, command + by
                claimed = Claimed(term, index, command)
            case "open":
                term += by
                claimed = Claimed(term, 0, -1)
            case "open from":
                term, command = term + by, by - 1
                claimed = Claimed(term, 0, -1, commands_from=by)
            case "copy":
                claimed = Claimed(term, max(1, index + 1 - by), command)
            case "fenced":
                claimed = Claimed(max(0, term - by), index + by, command + 1)
            case "late opening":
                claimed = Claimed(max(0, term + 1 - by), 0, -1, commands_from=by)
            case "skipped":
                claimed = Claimed(term, index + 1 + by, command + 1)
            case "same command":
                claimed = Claimed(term, index + 1, command)
        found.append(Written(claimed, holds, at_ms))
    return found


logs = st.lists(steps, max_size=40).map(written)
splits = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def records_of(log: Sequence[Written], *, compiled: bool) -> list[Record]:
    """Return the log as a client returns it or, with `compiled`, as our own reader does, which parses batches."""
    made = [_encoded(each) for each in log]
    plain = [
        LogRecord(offset=at, timestamp=each.at_ms, key=record.key, value=record.value, headers=record.headers)
        for at, (each, record) in enumerate(zip(log, made, strict=True))
    ]
    records: list[Record] = list(as_read(plain) if compiled else plain)
    for at, each in enumerate(log):
        if each.holds == "nothing that can be decoded":
            records[at] = Undecodable(at, "a CRC that is wrong")
    return records


def _encoded(it: Written) -> Encoded:
    stamp = Stamp(it.claimed.term, it.claimed.index, it.claimed.command_offset)
    if it.claimed.index == 0:
        opened = TermOpened(owner="o", host="h", partitions=1, commands_from=it.claimed.commands_from)
        outcome: Outcome = opening_outcome(encode_term_opened(opened), it.at_ms)
        if it.holds == "a newer type":
            outcome = replace(outcome, type="term.merged.v1")
        elif it.holds in UNREADABLE:
            outcome = replace(outcome, body=b"[]")
    else:
        outcome = replace(MESSAGE, at_ms=it.at_ms)
        if it.holds == "a message with metadata":
            outcome = replace(outcome, body=b'{"text":"hello","metadata":{"n":1}}')
        elif it.holds == "a receipt":
            outcome = replace(outcome, type=EventType.READ_ADVANCED.value, body=b'{"up_to_seq":1}', seq=None)
        elif it.holds == "a newer type":
            outcome = replace(outcome, type=NEWER_TYPE)
    record = encode_outcome(outcome, stamp, event_source(0))
    wrong = {"a seq that is no number": ("ce_seq", b"x"), "no stamp": ("ce_id", b"1")}.get(it.holds)
    headers = [wrong if wrong is not None and name == wrong[0] else (name, value) for name, value in record.headers]
    return Encoded(record.key, record.value, headers, record.timestamp_ms)


# --- what has to come out -------------------------------------------------------------------------------------


def expected(log: Sequence[Written], *, known: Callable[[Written], bool]) -> Iterator[tuple[Written, Any]]:
    """Yield each record with its event's class, or the error of the Stop; `known` says what the reader supports."""
    lost = next((at for at, it in enumerate(log) if it.holds in LOST), len(log))
    table = list(rows([it.claimed for it in log[:lost]]))
    for it, row in zip(log, table, strict=False):
        opening = it.claimed.index == 0
        if row.verdict == "void":
            yield it, Void
        elif row is Row.ANYTHING_ELSE or it.holds in UNREADABLE:
            yield it, LogCorrupt
            return
        elif not ((opening and it.holds != "a newer type") or (not opening and known(it))):
            yield it, UnknownType
            return
        else:
            yield it, Opened if opening else Decided
    if len(table) == lost < len(log):
        yield log[lost], LogCorrupt


def head_of(told: Sequence[tuple[Written, Any]]) -> Head:
    counting = [it for it, kind in told if kind in (Opened, Decided)]
    commands = [-1]
    for it in counting:
        if it.claimed.index:
            commands.append(it.claimed.command_offset)
        elif it.claimed.commands_from is not None:
            commands.append(it.claimed.commands_from - 1)
    return Head(
        term=max([0, *(it.claimed.term for it in counting if it.claimed.index == 0)]),
        index=sum(it.claimed.index > 0 for it in counting),
        command_offset=commands[-1],
        last_timestamp_ms=max([0, *(it.at_ms for it in counting)]),
    )


def pieces(records: Sequence[Record], split: Sequence[int]) -> Iterator[Sequence[Record]]:
    """Yield the records in pieces of these sizes, in turn."""
    at = turn = 0
    while at < len(records):
        size = split[turn % len(split)]
        yield records[at : at + size]
        at, turn = at + size, turn + 1


def assert_stands(cursor: LogCursor, told: Sequence[tuple[Written, Any]]) -> None:
    """Check that head, offset, voids and Stop match the table."""
    error = told[-1][1] if told[-1][1] in (LogCorrupt, UnknownType) else None
    assert cursor.head == head_of(told)
    assert cursor.next_offset == len(told) - (error is not None)
    assert cursor.voids == sum(kind is Void for _, kind in told)
    assert (type(cursor.stopped.error) if cursor.stopped is not None else None) is error


readers = pytest.mark.parametrize(
    ("of_batches", "compiled"), [(True, True), (True, False), (False, True)], ids=["fast", "verifiers'", "of a client"]
)


@readers
@settings(deadline=None, max_examples=150)
@given(logs, splits)
@example(written([("next", 1, CONTENTS[0], 5), ("next", 1, CONTENTS[0], 1), ("open from", 3, CONTENTS[0], 0)] * 3), [2])
def test_any_log_has_the_events_and_the_head_of_the_table_however_it_is_split(
    of_batches: bool, compiled: bool, log: list[Written], split: list[int]
) -> None:
    told = list(expected(log, known=lambda _: True))
    cursor = LogCursor(compiled=compiled)
    events: list[LogEvent] = []
    for piece in pieces(records_of(log, compiled=of_batches), split):
        events += cursor.read(piece)
        if cursor.stopped is not None:
            break
    assert_stands(cursor, told)
    for offset, (event, (it, kind)) in enumerate(zip(events, told, strict=True)):
        assert event.offset == offset
        if isinstance(event, Stop):
            assert type(event.error) is kind
            assert event is cursor.stopped
            continue
        assert type(event) is kind
        assert event.stamp == Stamp(it.claimed.term, it.claimed.index, it.claimed.command_offset)
        if isinstance(event, Opened):
            assert (event.term, event.opening.commands_from) == (it.claimed.term, it.claimed.commands_from)
        elif isinstance(event, Decided):
            assert encode_outcome(event.outcome, event.stamp, event_source(0)) == _encoded(it)


def known_type(decided: Decided) -> Decided:
    if decided.outcome.type == NEWER_TYPE:
        raise UnknownType(NEWER_TYPE)
    return decided


@readers
@settings(deadline=None, max_examples=150)
@given(logs, splits)
def test_outcomes_alone_are_those_of_the_table_up_to_one_that_is_not_known(
    of_batches: bool, compiled: bool, log: list[Written], split: list[int]
) -> None:
    told = list(expected(log, known=lambda it: it.holds != "a newer type"))
    cursor = LogCursor(compiled=compiled)
    found: list[Any] = []
    for piece in pieces(records_of(log, compiled=of_batches), split):
        found += cursor.read_outcomes(piece, known_type)
        if cursor.stopped is not None:
            break
    assert_stands(cursor, told)
    decided = [it for it, kind in told if kind is Decided]
    for one, it in zip(found, decided, strict=True):
        if isinstance(one, Decided):
            assert encode_outcome(one.outcome, one.stamp, event_source(0)) == _encoded(it)
        else:
            assert compiled, "the verifiers decode by encoding.py alone"
            assert it.holds == "a plain message"
            assert (one.index, one.command_offset, one.at_ms) == (it.claimed.index, it.claimed.command_offset, it.at_ms)
            assert (one.chat_id, one.sender_id, one.text) == (MESSAGE.chat_id, MESSAGE.sender_id, "hello")
            assert (one.message_id, one.client_generated_id) == (MESSAGE.command_id, MESSAGE.client_generated_id)
            assert (one.position, one.seq) == (MESSAGE.position, MESSAGE.seq)


# --- single cases ---------------------------------------------------------------------------------------------


def test_a_cursor_goes_on_from_the_head_and_the_offset_of_another() -> None:
    log = _conversation()
    first = LogCursor()
    before = first.read(log.events[:4])
    second = LogCursor(first.head, next_offset=first.next_offset)
    whole = LogCursor()
    assert before + second.read(log.events[4:]) == whole.read(log.events)
    assert (second.head, second.next_offset) == (whole.head, whole.next_offset) == (whole.head, len(log.events))


def test_nothing_read_changes_nothing() -> None:
    cursor = LogCursor(Head(2, 5, 7, 11), next_offset=9)
    assert cursor.read([]) == []
    assert (cursor.head, cursor.next_offset, cursor.voids) == (Head(2, 5, 7, 11), 9, 0)


def test_a_cursor_that_has_stopped_reads_no_further() -> None:
    log = _conversation()
    bad = Undecodable(2, "a CRC that is wrong")
    cursor = LogCursor()
    stop = cursor.read([*log.events[:2], bad, *log.events[3:]])[-1]
    assert isinstance(stop, Stop)
    assert (stop.offset, str(stop.error)) == (2, "the record cannot be decoded: a CRC that is wrong")
    for read in (cursor.read, lambda records: cursor.read_outcomes(records, known_type)):
        with pytest.raises(LogCorrupt, match="a CRC that is wrong"):
            read(log.events[3:])
    with pytest.raises(LogCorrupt, match="a CRC that is wrong"):
        cursor.read_one(log.events[3])
    assert cursor.next_offset == 2


def test_a_void_record_is_read_no_further_than_its_stamp() -> None:
    log = _conversation()
    nonsense = encode_outcome(
        OtherOutcome(type="of.tomorrow.v9", at_ms=1, body=b"\xff"), Stamp(0, 7, 99), event_source(0)
    )
    unreadable = [(name, b"\xff" if name == "ce_type" else value) for name, value in nonsense.headers]
    log.append(Encoded(b"\xff", b"[" * 100_000, unreadable, 1))
    cursor = LogCursor()
    assert cursor.read(log.events)[-1] == Void(len(log.events) - 1, Stamp(0, 7, 99))


def test_one_record_at_a_time_is_the_same() -> None:
    log = _conversation()
    assert [event for cursor in [LogCursor()] for event in map(cursor.read_one, log.events)] == LogCursor().read(
        log.events
    )


def test_a_cursor_without_compiled_decoders_reads_by_the_plain_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stamp_of", "outcome_of", "messages_from"):
        monkeypatch.setattr(cursor_module, name, None)
    events = LogCursor(compiled=False).read(_conversation().events)
    assert len(LogCursor(compiled=False).read_outcomes(_conversation().events, known_type)) == len(events) - 2


def test_a_decoded_error_of_another_kind_is_not_taken_for_the_logs() -> None:
    def decode(decided: Decided) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        LogCursor().read_outcomes(_conversation().events, decode)


def _conversation() -> ChatLog:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    log.read(chat, BEN, 1)
    log.open()
    log.send(chat, BEN, json.dumps({"a": 1}))
    return log
