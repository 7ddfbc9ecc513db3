"""The fast path of reading and writing records matches the slow path, for all possible records.

The slow path is schemas/wire/encoding.py on records that plain Python parsed; aiokafka's codec checks both.
"""

from __future__ import annotations

import struct
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids
from schemas.errors import LogCorrupt
from schemas.events import AcceptedOutcome, OtherOutcome, Outcome
from schemas.ids import ChatId, CommandId
from schemas.log import Stamp, read_stamp
from schemas.types import COMMAND_OF, CommandType, EventType
from schemas.wire import encoding, records
from schemas.wire.encoding import (
    Command,
    Encoded,
    ReplyTo,
    Undecodable,
    Unreadable,
    encode_command,
    encode_outcome,
    event_source,
    read_command,
)
from schemas.wire.records import Decoders
from services.runtime.kafka.batches import OutcomeBatch, batches_in
from tests.support.any_records import CHAT, KNOWN_HEADERS, SENDER, TRACEPARENT, WORDS, any_headers, any_keys, any_values
from tests.support.examples import examples
from tests.support.record_batches import batch_of, by_client, parsed, plain
from tests.support.ways import DECODERS, SPLITS, WAYS, compares, compiled_batch
from tests.support.wire_strategies import uuids

PARTITIONS = 8
HERE = 5

each_way = pytest.mark.parametrize("decoders", DECODERS, ids=WAYS)


class Plain:
    """The content of a record, whatever code parsed it."""

    def __init__(self, record: Any) -> None:
        self.offset, self.timestamp = record.offset, record.timestamp
        self.key, self.value, self.headers = record.key, record.value, list(record.headers)

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __repr__(self) -> str:
        return repr((self.offset, self.timestamp, self.key, self.value, self.headers))


any_record = st.builds(
    lambda key, value, headers, at: Encoded(key, value, headers, at),
    any_keys, any_values, any_headers, st.integers(0, 2**41),
)  # fmt: skip


@examples(500)
@given(st.lists(any_record, min_size=1, max_size=5), st.integers(0, 2**50), st.sampled_from([0, 8]))
def test_records_are_taken_apart_as_by_the_client(written: list[Encoded], base_offset: int, attributes: int) -> None:
    raw = batch_of(written, base_offset=base_offset, attributes=attributes)
    assert [Plain(r) for r in parsed(raw)] == [Plain(r) for r in by_client(raw)]
    assert [Plain(r) for r in plain(raw)] == [Plain(r) for r in by_client(raw)]
    (batch,) = batches_in(raw)
    assert (batch.base_offset, batch.next_offset) == (base_offset, base_offset + len(written))
    assert not batch.is_control_batch


def test_an_answer_may_hold_several_batches_compressed_ones_and_an_end_that_is_cut_off() -> None:
    first, last = batch_of([_encoded(1)]), batch_of([_encoded(2)], base_offset=9)
    zipped = DefaultRecordBatchBuilder(2, 1, 0, -1, -1, -1, 10_000)
    for n in (3, 4):
        record = _encoded(n)
        zipped.append(n - 3, record.timestamp_ms, record.key, record.value, record.headers)
    middle = bytearray(zipped.build())
    struct.pack_into(">q", middle, 0, 5)
    raw = first + bytes(middle) + last
    assert [r.offset for r in parsed(raw + last[:-1])] == [0, 5, 6, 9]
    assert [Plain(r) for r in parsed(raw)] == [Plain(r) for r in plain(raw)]
    assert all(batch.validate_crc() for batch in batches_in(raw))
    spoilt = bytearray(first)
    spoilt[-1] ^= 1
    assert [batch.validate_crc() for batch in batches_in(bytes(spoilt))] == [False]
    assert not batches_in(b"")
    assert not batches_in(first[:40])


@pytest.mark.parametrize("length", [-(1 << 31), -13, -1, 0, 48])
def test_a_batch_that_is_shorter_than_its_header_is_not_gone_past(length: int) -> None:
    raw = bytearray(batch_of([_encoded(1)]) + batch_of([_encoded(2)], base_offset=1) + batch_of([_encoded(3)]))
    struct.pack_into(">i", raw, len(batch_of([_encoded(1)])) + 8, length)
    with pytest.raises(CorruptRecordException):
        batches_in(bytes(raw))


@examples(2_000)
@given(st.lists(any_record, min_size=1, max_size=3), st.data())
def test_a_broken_batch_has_a_record_for_each_of_its_offsets_the_same_by_both_ways(
    written: list[Encoded], data: st.DataObject
) -> None:
    raw = bytearray(batch_of(written, base_offset=7))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(61, len(raw) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from([255, 128, 127])
        )
    found = parsed(bytes(raw))
    assert [r.offset for r in found] == list(range(7, 7 + len(written)))
    assert [Plain(r) for r in found] == [Plain(r) for r in plain(bytes(raw))]
    assert sum(len(r.key or b"") + len(r.value or b"") for r in found) < len(raw)


def _encoded(n: int) -> Encoded:
    return encode_command(_send(f"k-{n}"), "/test")


def _send(key: str = "k-1") -> Command:
    return Command(
        offset=0,
        type=CommandType.MESSAGE_SEND.value,
        body=b'{"text":"hello"}',
        chat_id=CHAT,
        sender_id=SENDER,
        client_generated_id=key,
        command_id=ids.command_id(CHAT, SENDER, key),
    )


MARK = replace(
    _send(),
    type=CommandType.READ_MARK.value,
    client_generated_id=None,
    command_id=CommandId("55555555-5555-4555-8555-555555555555"),
)
WHOLE = replace(_send("k"), reply_to=ReplyTo(31, "r-1"), traceparent=TRACEPARENT)


@st.composite
def near_commands(draw: st.DrawFn) -> Encoded:
    """Return valid commands, and ones that are wrong somewhere."""
    good = encode_command(draw(st.sampled_from([_send(), _send("k" * 128), MARK, WHOLE])), "/test")
    if draw(st.booleans()):
        return good
    broken = draw(st.lists(st.sampled_from(KNOWN_HEADERS), max_size=2))
    others = st.sampled_from([*WORDS, b"3/r1", b"123456/r1", b"/r1", b"1/", b"99999/" + b"r" * 65]) | st.binary(
        max_size=40
    )
    headers = [(name, draw(others) if name in broken else value) for name, value in good.headers]
    headers += draw(st.lists(st.sampled_from(headers), max_size=1))
    key = draw(st.sampled_from([good.key, good.key, CHAT.upper().encode()]))
    return Encoded(key, draw(st.none() | st.just(good.value)), headers, 7)  # type: ignore[arg-type]


@each_way
@examples(1_000)
@given(written=st.lists(near_commands() | any_record, min_size=1, max_size=6), elsewhere=st.integers(0, 2))
def test_a_command_is_read_as_the_plain_way_reads_it(
    decoders: Decoders, written: list[Encoded], elsewhere: int
) -> None:
    """Read each twice: the second time its chat and sender are known, and the fast path applies."""
    raw = batch_of(written)
    for partition in (HERE, HERE + elsewhere):
        read = decoders.command_reader(partition, PARTITIONS)
        for _ in range(2):
            for command, as_client in zip(read(parsed(raw)), plain(raw), strict=True):
                assert repr(command.command()) == repr(read_command(as_client, partition, PARTITIONS))


def _wrong(**changed: bytes) -> Encoded:
    """Return a command whose headers are all right except these."""
    good = encode_command(WHOLE, "/test")
    return Encoded(good.key, good.value, [(name, changed.get(name, value)) for name, value in good.headers])


def _twice(name: str, value: bytes) -> list[Encoded]:
    """Return a command with a second header of that name, before and after the right one."""
    good = encode_command(WHOLE, "/test")
    return [
        Encoded(good.key, good.value, [(name, value), *good.headers]),
        Encoded(good.key, good.value, [*good.headers, (name, value)]),
    ]


NEARLY = [
    *(_wrong(traceparent=TRACEPARENT.replace("00-", f"{version}-", 1).encode()) for version in ("01", "ff", "FF", "0")),
    _wrong(traceparent=b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"),
    _wrong(traceparent=b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01"),
    *(
        _wrong(ce_replyto=told)
        for told in (b"1/", b"/r", b"123456/r", b"12345/r", b"1/" + b"r" * 65, b"-1/r", b"1/r r")
    ),
    *(_wrong(ce_specversion=told) for told in (b"1.1", b"1.00", b"")),
    *(
        _wrong(ce_clientid=key.encode(), ce_id=ids.command_id(CHAT, SENDER, key).encode())
        for key in ("a b", "é", "", "k" * 128, "k" * 129, "\x7f")
    ),
    *(both for name, value in encode_command(WHOLE, "/test").headers for both in _twice(name, value)),
    *(both for name, _ in encode_command(WHOLE, "/test").headers for both in _twice(name, b"x")),
]


@each_way
@pytest.mark.parametrize("number", range(len(NEARLY)))
def test_a_command_that_is_nearly_as_we_send_it_is_read_as_the_plain_way_reads_it(
    decoders: Decoders, number: int
) -> None:
    raw = batch_of([encode_command(WHOLE, "/test"), NEARLY[number]])
    read = decoders.command_reader(HERE, PARTITIONS)
    for command, as_client in zip(read(parsed(raw)), plain(raw), strict=True):
        assert repr(command.command()) == repr(read_command(as_client, HERE, PARTITIONS))


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
@pytest.mark.parametrize("lengths", [(1 << 30, 0), (0, 1 << 30), (-1, 0), (3, 0), (0, 3)])
def test_a_record_whose_header_ends_behind_it_is_undecodable_and_the_next_is_read(
    split: Any, lengths: tuple[int, int]
) -> None:
    """Even if what follows still belongs to the batch: here, the other record."""

    def record(place: int, name_size: int, value_size: int) -> bytes:
        body = b"\0" + b"".join(_varint(n) for n in (0, place, -1, -1, 1, name_size)) + _varint(value_size)
        return _varint(len(body)) + body

    raw = record(0, *lengths) + record(1, 0, 0)
    found: list[Any] = [*split(raw, 0, len(raw), count=2, base_offset=5, base_timestamp=0, appended_at=-1)]
    assert [(record.offset, type(record) is Undecodable) for record in found] == [(5, True), (6, False)]
    assert found[1].headers == [("", b"")]


def _varint(number: int) -> bytes:
    left, written = (number << 1) ^ (number >> 63), bytearray()
    while left >= 0x80:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])


@compares
def test_the_compiled_way_answers_for_what_our_own_code_sends() -> None:
    """Otherwise this whole file would test nothing."""
    decoders = DECODERS[-1]
    met = [_send(), _send("other"), MARK, WHOLE]
    raw = batch_of([encode_command(command, "/test") for command in met])
    plain_read = encoding.CommandReader.read
    with mock.patch.object(encoding.CommandReader, "read", autospec=True, side_effect=plain_read) as plain_way:
        read = decoders.command_reader(HERE, PARTITIONS)
        read(parsed(raw)[:1])
        found = read(parsed(raw))
    assert plain_way.call_count == 1, "the first time, when nothing had been met"
    assert [each.command() for each in found] == [replace(command, offset=n) for n, command in enumerate(met)]
    sends = [each for each in found if not isinstance(each, Command | Unreadable)]
    assert [send.command_id for send in sends] == [command.command_id for command in met if command is not MARK]
    for send in sends:
        command = send.command()
        assert (send.chat_id, send.sender_id, send.body) == (command.chat_id, command.sender_id, command.body)
        assert command.command_id is not None
        assert send.command_key == decoders.command_key(send.chat_id, command.command_id) == command.command_key
        assert (send.offset, send.command_id) == (command.offset, command.command_id)
        assert send.reply_to == command.reply_to


numbers = st.none() | st.integers(0, 10**18 - 1)
accepted_outcome = st.builds(
    AcceptedOutcome,
    type=st.sampled_from([*COMMAND_OF]),
    at_ms=st.integers(0, 2**41),
    body=st.binary(max_size=60),
    chat_id=uuids,
    sender_id=uuids,
    position=st.integers(0, 10**18 - 1),
    seq=numbers,
    command_id=st.none() | uuids,
    client_generated_id=st.none() | st.text(max_size=128),
    traceparent=st.none() | st.just(TRACEPARENT),
)
any_outcome = accepted_outcome | st.builds(
    OtherOutcome,
    type=st.sampled_from([each.value for each in EventType]) | st.text(min_size=1, max_size=20),
    at_ms=st.integers(0, 2**41),
    body=st.sampled_from([b"", b"{}", b"x" * 200_000]) | st.binary(max_size=60),
    key=any_keys,
    command_id=st.none() | uuids,
    client_generated_id=st.none() | st.text(max_size=128),
    sender_id=st.none() | uuids,
    position=numbers,
    seq=numbers,
    traceparent=st.none() | st.just(TRACEPARENT) | st.text(max_size=60),
)
any_stamp = st.builds(Stamp, st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(-1, 10**18 - 1))
EVERYTHING: tuple[Outcome, Stamp] = (
    AcceptedOutcome(
        "message.sent.v1", 1_700_000_000_000, b"{}", CHAT, SENDER, 2**53 - 1, 2**53 - 1,
        ids.command_id(CHAT, SENDER, "k"), "k", TRACEPARENT,
    ),
    Stamp(10**18 - 1, 10**18 - 1, 10**18 - 1),
)  # fmt: skip


@compares
@examples(500)
@given(st.lists(st.tuples(any_outcome, any_stamp), min_size=1, max_size=4), st.integers(-1, 2**40))
@example([EVERYTHING] * 300, 7)
def test_outcomes_become_the_same_bytes_as_by_the_client(outcomes: list[tuple[Outcome, Stamp]], producer: int) -> None:
    source, batches = event_source(3), (OutcomeBatch(), compiled_batch())
    for batch in batches:
        for each in outcomes:
            batch.add(*each, source)
        batch._set_producer_state(producer, 3, 4)
    assert [len(batch) for batch in batches] == [batch.record_count() for batch in batches] == [len(outcomes)] * 2
    assert batches[0].size() == batches[1].size()
    written = [bytes(batch._build()) for batch in batches]
    assert written[0] == written[1]
    assert batches[1]._build() == written[1], "it may be sent again"


@compares
@examples(1_000)
@given(st.lists(st.tuples(any_outcome, any_stamp), max_size=3), st.lists(any_record, min_size=1, max_size=3), st.data())
@example([EVERYTHING], [Encoded(None, b"", [])], mock.MagicMock(draw=lambda _strategy: []))
def test_stamps_and_outcomes_are_read_as_the_plain_way_reads_them(
    outcomes: list[tuple[Outcome, Stamp]], others: list[Encoded], data: st.DataObject
) -> None:
    written = [encode_outcome(*each, event_source(3)) for each in outcomes] + others
    for n, record in enumerate(list(written)):
        broken = data.draw(st.lists(st.sampled_from(KNOWN_HEADERS), max_size=2))
        headers = [
            (name, data.draw(st.sampled_from(WORDS)) if name in broken else value) for name, value in record.headers
        ]
        written[n] = Encoded(record.key, record.value, headers, record.timestamp_ms)
    decoders = DECODERS[-1]
    raw = batch_of(written)
    for record, as_client in zip(parsed(raw), plain(raw), strict=True):
        assert _told(lambda r=record: decoders.stamp_of(r)) == _told(lambda r=as_client: read_stamp(r.headers))
        assert _told(lambda r=record: decoders.outcome_of(r)) == _told(lambda r=as_client: encoding.read_outcome(r))


def _told(read: Any) -> str:
    try:
        return repr(read())
    except LogCorrupt as error:
        return str(error)


@compares
def test_the_compiled_way_reads_what_a_writer_appends() -> None:
    decoders = DECODERS[-1]
    stamp_of, outcome_of = decoders.stamp_of, decoders.outcome_of
    opening: tuple[Outcome, Stamp] = OtherOutcome(EventType.TERM_OPENED.value, 7, b"{}"), Stamp(3, 0, -1)
    refused = OtherOutcome(EventType.REJECTED.value, 8, b"{}", key=b"f89e858f"), Stamp(3, 1, 0)
    raw = batch_of([encode_outcome(*each, event_source(3)) for each in (EVERYTHING, opening)])
    with (
        mock.patch.object(records, "read_stamp", side_effect=AssertionError("the slow path")),
        mock.patch.object(records, "read_outcome", side_effect=AssertionError("the slow path")),
    ):
        assert [(outcome_of(record), stamp_of(record)) for record in parsed(raw)] == [EVERYTHING, opening]
    (record,) = parsed(batch_of([encode_outcome(*refused, event_source(3))]))
    assert outcome_of(record) == refused[0], "its key is nobody's id: the slow path says so"


@each_way
@given(chat=uuids, command=uuids)
def test_the_key_of_a_command_is_the_bytes_of_its_ids(decoders: Decoders, chat: str, command: str) -> None:
    key = b"r" + UUID(chat).bytes + UUID(command).bytes
    chat_id, command_id = ChatId(chat), CommandId(command)
    assert decoders.command_key(chat_id, command_id) == key


@each_way
@pytest.mark.parametrize("text", ["", "x" * 36, SENDER.upper().replace("1", "A"), SENDER[:-1], SENDER + "1"])
def test_what_is_no_uuid_has_no_bytes(decoders: Decoders, text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        decoders.command_key(CHAT, CommandId(text))


@each_way
def test_each_character_of_an_id_is_looked_at(decoders: Decoders) -> None:
    """Eight are checked at a time, so one must not pass because of its neighbours."""
    for at in range(36):
        for character in [chr(code) for code in range(128)]:
            text = SENDER[:at] + character + SENDER[at + 1 :]
            right = character == "-" if SENDER[at] == "-" else character in "0123456789abcdef"
            if right:
                assert decoders.command_key(CHAT, CommandId(text))[17:] == UUID(text).bytes
            else:
                with pytest.raises(ValueError, match="UUID"):
                    decoders.command_key(CHAT, CommandId(text))
        with pytest.raises(ValueError, match="UUID"):  # 36 bytes of UTF-8
            decoders.command_key(CHAT, CommandId((SENDER[:at] + "é" + SENDER[at + 2 :])[:35]))
