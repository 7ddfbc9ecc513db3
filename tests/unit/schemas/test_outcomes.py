"""Outcomes, openings and replies are read back as they were written; other records are reported, never guessed at."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import LogCorrupt, Reason
from schemas.events import (
    AcceptedOutcome,
    Duplicate,
    OtherOutcome,
    Outcome,
    OutcomeKind,
    Rejected,
    TermOpened,
    decode_accepted,
    decode_duplicate,
    decode_rejected,
    decode_term_opened,
    decode_unchanged,
    encode_duplicate,
    encode_rejected,
    encode_term_opened,
    encode_unchanged,
)
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp, read_stamp
from schemas.types import COMMAND_OF, EVENT_OF, EventType
from schemas.wire.encoding import Encoded, encode_outcome, event_source, opening_outcome, outcome_size, read_outcome
from schemas.wire.replies import Reply, decode_replies, encode_replies
from tests.support.any_records import CHAT, SENDER
from tests.support.chat_log import LogRecord
from tests.support.examples import examples
from tests.support.outcomes import outcome_of_parts
from tests.support.wire_strategies import seqs, storable, uuids

figures = st.integers(1, 2**53)
ascii_keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
stamps = st.builds(Stamp, st.integers(1, 10**9), st.integers(1, 10**15), st.integers(0, 10**15))
reasons = st.sampled_from(Reason)


def _record(encoded: Encoded) -> LogRecord:
    return LogRecord(
        offset=3, timestamp=encoded.timestamp_ms or 0, key=encoded.key, value=encoded.value, headers=encoded.headers
    )


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """Return any outcome that a writer can append; parts that a command did not have are absent."""
    outcome_type = draw(st.sampled_from([event.value for event in EventType]))
    may_lack = st.nothing() if outcome_type in COMMAND_OF else st.none()
    chat = draw(may_lack | uuids)
    return outcome_of_parts(
        outcome_type,
        draw(st.integers(0, 2**42)),
        draw(st.binary(max_size=200)),
        key=chat.encode() if chat is not None else draw(st.none() | st.binary(max_size=128)),
        chat_id=ChatId(chat) if chat is not None else None,
        command_id=draw(st.none() | uuids.map(CommandId)),
        client_generated_id=draw(st.none() | ascii_keys),
        sender_id=draw(may_lack | uuids.map(UserId)),
        position=draw(may_lack | seqs),
        seq=draw(st.none() | seqs),
        traceparent=draw(st.sampled_from([None, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])),
    )


@examples(300)
@given(outcomes(), stamps, st.integers(0, 999))
def test_an_outcome_comes_back_at_its_place(outcome: Outcome, stamp: Stamp, partition: int) -> None:
    record = _record(encode_outcome(outcome, stamp, event_source(partition)))
    assert read_stamp(record.headers) == stamp
    assert read_outcome(record) == outcome
    assert dict(record.headers)["ce_source"] == b"/gapless/chat.events/%d" % partition


@given(
    st.integers(1, 10**9), uuids, st.text(storable, max_size=20), st.integers(1, 999), st.none() | st.integers(0, 99)
)
def test_an_opening_has_no_key_and_answers_no_command(
    term: int, owner: str, host: str, partitions: int, commands_from: int | None
) -> None:
    body = TermOpened(owner=owner, host=host, partitions=partitions, commands_from=commands_from)
    encoded = encode_outcome(opening_outcome(encode_term_opened(body), 7), Stamp(term, 0, -1), event_source(0))
    assert encoded.key is None
    assert "ce_command" not in dict(encoded.headers)
    assert read_stamp(encoded.headers) == Stamp(term, 0, -1)
    assert decode_term_opened(read_outcome(_record(encoded)).body) == body


@given(st.none() | seqs, figures, figures, reasons, st.none() | ascii_keys, st.text(storable, max_size=50))
def test_the_bodies_of_other_outcomes_come_back(
    seq: int | None, position: int, sent_at_ms: int, reason: Reason, command_type: str | None, detail: str
) -> None:
    duplicate = Duplicate(seq=seq, position=position, sent_at_ms=sent_at_ms)
    assert decode_duplicate(encode_duplicate(duplicate)) == duplicate
    rejected = Rejected(command_type=command_type, reason=reason, detail=detail)
    assert decode_rejected(encode_rejected(rejected)) == rejected
    assert decode_unchanged(encode_unchanged(seq)) == seq


def test_each_type_is_of_one_kind() -> None:
    kinds = {event: OtherOutcome(type=event.value, at_ms=0, body=b"").kind for event in EventType}
    expected = dict.fromkeys(EVENT_OF.values(), OutcomeKind.ACCEPTED) | {
        EventType.DUPLICATE: OutcomeKind.DUPLICATE,
        EventType.UNCHANGED: OutcomeKind.UNCHANGED,
        EventType.REJECTED: OutcomeKind.REJECTED,
    }
    assert {event: kind for event, kind in kinds.items() if event is not EventType.TERM_OPENED} == expected


def test_absent_parts_are_left_out() -> None:
    assert encode_unchanged(None) == b"{}"
    assert encode_duplicate(Duplicate(seq=None, position=2, sent_at_ms=3)) == b'{"position":2,"sent_at_ms":3}'
    rejected = Rejected(command_type=None, reason=Reason.INVALID, detail="x")
    assert encode_rejected(rejected) == b'{"reason":"invalid","detail":"x"}'


# --- what no writer of ours appends -----------------------------------------------------------------------------------

DECODERS: Final[list[Any]] = [decode_duplicate, decode_unchanged, decode_rejected, decode_term_opened]
VALID: Final[dict[Any, dict[str, Any]]] = {
    decode_duplicate: {"seq": 1, "position": 2, "sent_at_ms": 3},
    decode_unchanged: {"position": 2},
    decode_rejected: {"command_type": "message.send.v1", "reason": "invalid", "detail": "x"},
    decode_term_opened: {"owner": "o", "host": "h", "partitions": 8, "commands_from": 5},
}
OPTIONAL: Final[dict[Any, set[str]]] = {
    decode_duplicate: {"seq"},
    decode_unchanged: {"position"},
    decode_rejected: {"command_type"},
    decode_term_opened: {"commands_from"},
}
BROKEN = [b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("raw", BROKEN, ids=lambda raw: repr(raw[:6]))
def test_a_body_that_is_no_object_is_corruption(decode: Any, raw: bytes) -> None:
    with pytest.raises(LogCorrupt):
        decode(raw)


@pytest.mark.parametrize("decode", DECODERS)
def test_a_body_with_a_wrong_part_is_corruption(decode: Any) -> None:
    valid = VALID[decode]
    decode(json.dumps(valid).encode())
    decode(json.dumps(valid | {"of_a_later_version": 1}).encode())
    for name, value in valid.items():
        without = {other: part for other, part in valid.items() if other != name}
        if name in OPTIONAL[decode]:
            decode(json.dumps(without).encode())
        else:
            with pytest.raises(LogCorrupt, match=name):
                decode(json.dumps(without).encode())
        others: list[Any] = [None, True, 1.5, [], {}, 7 if isinstance(value, str) else "7"]
        for wrong in others:
            with pytest.raises(LogCorrupt, match=name):
                decode(json.dumps(valid | {name: wrong}).encode())


def test_a_reason_outside_the_closed_list_is_corruption() -> None:
    with pytest.raises(LogCorrupt, match="no known reason: 'mood'"):
        decode_rejected(b'{"reason":"mood","detail":"x"}')


@examples(200)
@given(st.sampled_from(DECODERS), st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["seq", "position", "sent_at_ms", "reason", "detail", "owner", "host", "partitions"]), inner
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_body_or_corruption(decode: Any, raw: bytes) -> None:
    try:
        decode(raw)
    except LogCorrupt:
        pass


@pytest.mark.parametrize(
    "raw", [*BROKEN, b"{}", b'{"text":7}', b'{"text":"x","colour":1}'], ids=lambda raw: repr(raw[:9])
)
def test_an_accepted_body_that_no_longer_parses_is_corruption(raw: bytes) -> None:
    with pytest.raises(LogCorrupt, match=r"message\.sent\.v1"):
        decode_accepted(replace(WHOLE, body=raw))


WHOLE = AcceptedOutcome(EventType.MESSAGE_SENT.value, 7, b"{}", CHAT, SENDER, position=1, seq=1)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_type", None),
        ("ce_type", b"\xff"),
        ("ce_position", b"one"),
        ("ce_position", b""),
        ("ce_seq", b"1.0"),
        ("ce_seq", b"9" * 5_000),
        ("ce_sender", b"\xff"),
        ("ce_clientid", b"\xff"),
        ("ce_commandid", b"\xff"),
        ("traceparent", b"\xff"),
    ],
)
def test_a_header_that_no_writer_wrote_is_corruption(header: str, value: bytes | None) -> None:
    record = _record(encode_outcome(WHOLE, Stamp(1, 1, 1), event_source(0)))
    headers: Any = {**dict(record.headers), header: value}
    with pytest.raises(LogCorrupt, match="offset 3 is no outcome"):
        read_outcome(dataclasses.replace(record, headers=list(headers.items())))


@pytest.mark.parametrize("missing", ["key", "ce_sender", "ce_position"])
@pytest.mark.parametrize("outcome_type", COMMAND_OF)
def test_an_accepted_outcome_without_chat_sender_or_position_is_corruption(outcome_type: str, missing: str) -> None:
    record = _record(encode_outcome(replace(WHOLE, type=outcome_type), Stamp(1, 1, 1), event_source(0)))
    assert isinstance(read_outcome(record), AcceptedOutcome)
    without = dataclasses.replace(
        record,
        key=None if missing == "key" else record.key,
        headers=[(name, value) for name, value in record.headers if name != missing],
    )
    with pytest.raises(LogCorrupt, match=f"offset 3 is a {outcome_type} without chat, sender or position"):
        read_outcome(without)


def test_an_outcome_of_a_newer_type_may_lack_anything() -> None:
    newer = OtherOutcome("message.pinned.v9", 7, b"{}")
    assert read_outcome(_record(encode_outcome(newer, Stamp(1, 1, 1), event_source(0)))) == newer


def test_an_outcome_without_a_type_is_corruption() -> None:
    with pytest.raises(LogCorrupt, match="offset 3 is no outcome"):
        read_outcome(LogRecord(offset=3, timestamp=0, key=None, value=b"", headers=[]))


NAMES = ["ce_type", "ce_position", "ce_seq", "ce_sender", "ce_clientid", "ce_commandid", "traceparent", "x"]


@examples(300)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.binary(max_size=10) | st.just(b"7")), max_size=8),
    st.none() | st.binary(max_size=40) | st.binary(min_size=36, max_size=36),
    st.none() | st.binary(max_size=10),
)
def test_any_record_is_an_outcome_or_corruption(headers: Any, key: bytes | None, value: bytes | None) -> None:
    try:
        outcome = read_outcome(LogRecord(offset=3, timestamp=0, key=key, value=value, headers=headers))
    except LogCorrupt:
        return
    assert outcome.chat_id is None or outcome.chat_id.encode() == key


# --- sizes ------------------------------------------------------------------------------------------------------


_ANY = "e3e70682-c209-4cac-829f-6fbed82c07cd"
_LONGEST = AcceptedOutcome(
    type=EventType.MEMBER_ROLE_CHANGED.value,
    at_ms=10**15,
    body=b"",
    chat_id=CHAT,
    command_id=CommandId(_ANY),
    client_generated_id="k" * 128,
    sender_id=UserId(_ANY),
    position=10**18 - 1,
    seq=10**18 - 1,
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


@examples(200)
@given(st.lists(st.tuples(outcomes(), stamps), min_size=1, max_size=5), st.integers(0, 300_000))
@example([(_LONGEST, Stamp(10**18 - 1, 10**18 - 1, 10**18 - 1))], 0)
def test_the_size_of_a_record_is_never_underestimated(parts: list[tuple[Outcome, Stamp]], longest: int) -> None:
    """Appends are closed by it: one that turned out larger than the broker accepts would stop its partition."""
    first, stamp = parts[0]
    longer: dict[str, Any] = {} if isinstance(first, AcceptedOutcome) else {"key": b"k" * 128, "chat_id": None}
    parts[0] = (replace(first, body=b"x" * longest, **longer), stamp)
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10**9)
    empty = builder.size()
    estimated = 0
    for number, (outcome, place) in enumerate(parts):
        encoded = encode_outcome(outcome, place, event_source(63))
        estimated += outcome_size(outcome)
        assert encoded.size <= outcome_size(outcome)
        appended = builder.append(
            number, timestamp=encoded.timestamp_ms, key=encoded.key, value=encoded.value, headers=encoded.headers
        )
        assert appended is not None
    assert builder.size() - empty <= estimated


# --- replies ------------------------------------------------------------------------------------------------------

replies = st.builds(
    Reply,
    request_id=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    outcome=st.sampled_from(OutcomeKind),
    partition=st.integers(0, 999),
    index=figures,
    command_offset=figures,
    command_id=st.none() | uuids,
    reason=st.none() | reasons,
    detail=st.none() | st.text(storable, max_size=30),
    seq=st.none() | seqs,
    position=st.none() | seqs,
    sent_at_ms=st.none() | figures,
    updated_count=st.none() | st.integers(0, 99),
    read_seq=st.none() | st.integers(0, 99),
)


@examples()
@given(st.lists(replies, max_size=4))
def test_replies_come_back(told: list[Reply]) -> None:
    raw = encode_replies(told)
    assert decode_replies(raw) == told
    assert b"null" not in raw or any(b"null" in str(reply).encode() for reply in told)


def test_a_field_of_a_later_version_is_passed_over() -> None:
    (reply,) = decode_replies(
        b'[{"request_id":"r","outcome":"accepted","partition":0,"index":1,"command_offset":2,"mood":"good"}]'
    )
    assert (reply.request_id, reply.index) == ("r", 1)


@pytest.mark.parametrize(
    "raw",
    [
        *(raw for raw in BROKEN if raw != b"[]"),
        b"[null]",
        b"[[]]",
        b"[{}]",
        b'[{"request_id":"r"}]',
        b'[{"request_id":"r","outcome":"mood","partition":0,"index":1,"command_offset":2}]',
        b'[{"request_id":"r","outcome":"rejected","reason":"mood","partition":0,"index":1,"command_offset":2}]',
    ],
    ids=lambda raw: repr(raw[:9]),
)
def test_what_is_no_record_of_replies_is_named(raw: bytes) -> None:
    with pytest.raises(ValueError):
        decode_replies(raw)


@examples(200)
@given(st.binary(max_size=60))
def test_any_bytes_are_replies_or_a_value_error(raw: bytes) -> None:
    try:
        decode_replies(raw)
    except ValueError:
        pass
