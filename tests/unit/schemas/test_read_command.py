"""The writer trusts nothing: any record of `chat.commands` can be read, and its outcome fits and is valid."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids, limits
from schemas.bodies import Body, canonical_body
from schemas.commands import parse_body
from schemas.errors import Reason, Refused
from schemas.events import Outcome, Rejected, decode_rejected, encode_rejected
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp, read_stamp
from schemas.types import EVENT_OF, MARKS, CommandType, EventType
from schemas.wire import encoding
from schemas.wire.encoding import (
    Command,
    CommandReader,
    Encoded,
    ReplyTo,
    Undecodable,
    Unreadable,
    encode_command,
    encode_outcome,
    event_source,
    is_traceparent,
    read_command,
    read_outcome,
)
from tests.support.any_records import CHAT, KNOWN_HEADERS, SENDER, TRACEPARENT, WORDS, any_headers, any_keys, any_values
from tests.support.chat_log import LogRecord
from tests.support.examples import examples
from tests.support.outcomes import outcome_of_parts
from tests.support.wire_strategies import bodies, uuids

PARTITIONS = 8
HERE = 5
FAR = Stamp(10**18 - 1, 10**18 - 1, 10**18 - 1)
REPEATED = ("key", "chat_id", "command_id", "client_generated_id", "sender_id", "traceparent")
"""The parts of a record that its outcome repeats."""


def _record(encoded: Encoded, **changed: str | bytes | None) -> LogRecord:
    """Return a command's record with other headers; None removes one. `key` and `value` replace the record's own."""
    headers = dict(encoded.headers)
    for name, value in changed.items():
        if name in ("key", "value"):
            continue
        wire_name = "content-type" if name == "content_type" else name
        if value is None:
            headers.pop(wire_name)
        else:
            headers[wire_name] = value.encode() if isinstance(value, str) else value
    key = changed.get("key", encoded.key)
    value = changed.get("value", encoded.value)
    assert not isinstance(key, str)
    assert not isinstance(value, str)
    return LogRecord(offset=42, timestamp=0, key=key, value=value, headers=list(headers.items()))


def _send(key: str = "k-1", body: bytes = b'{"text":"hello"}') -> Command:
    return Command(
        offset=42,
        type=CommandType.MESSAGE_SEND.value,
        body=body,
        chat_id=CHAT,
        sender_id=SENDER,
        client_generated_id=key,
        command_id=ids.command_id(CHAT, SENDER, key),
    )


def _mark() -> Command:
    return replace(
        _send(),
        type=CommandType.READ_MARK.value,
        body=b'{"up_to_seq":1}',
        client_generated_id=None,
        command_id=CommandId("55555555-5555-4555-8555-555555555555"),
    )


def _outcome(command: Command | Unreadable) -> Outcome:
    """Return what a writer appends: accepted if possible, as that carries most."""
    parts = {name: getattr(command, name) for name in REPEATED}
    try:
        if isinstance(command, Unreadable):
            raise Refused(command.reason, command.detail)
        if command.type not in EVENT_OF:
            raise Refused(Reason.UNKNOWN_TYPE, "no such type")
        parse_body(command.type, command.body)
    except Refused as refused:
        body = Rejected(command_type=command.type, reason=refused.reason, detail=refused.detail)
        return outcome_of_parts(EventType.REJECTED.value, 2**62, encode_rejected(body), **parts)
    figures = {"position": 2**53 - 1, "seq": 2**53 - 1}
    return outcome_of_parts(EVENT_OF[command.type].value, 2**62, command.body, **parts, **figures)


def _assert_sound(command: Command | Unreadable, partition: int) -> None:
    """Check that its outcome fits a batch whatever the command carried, and that every reader reads it back
    unchanged.
    """
    outcome = _outcome(command)
    encoded = encode_outcome(outcome, FAR, event_source(partition))
    rejected = outcome.type == EventType.REJECTED
    assert encoded.size <= (0 if rejected else limits.COMMAND_BYTES) + 2_000
    record = LogRecord(offset=7, timestamp=outcome.at_ms, key=encoded.key, value=encoded.value, headers=encoded.headers)
    assert read_stamp(record.headers) == FAR
    assert read_outcome(record) == outcome
    for name, value in encoded.headers:
        assert value.isascii(), f"{name}: {value!r}"
        assert value.decode().isprintable(), f"{name}: {value!r}"
    if rejected:
        read = decode_rejected(outcome.body)
        assert read.detail.isprintable()
        assert read.command_type is None or (read.command_type.isascii() and read.command_type.isprintable())


# --- what is well formed --------------------------------------------------------------------------------------------


@examples(200)
@given(
    bodies(),
    uuids,
    uuids,
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128),
    st.none() | st.builds(ReplyTo, st.integers(0, 99_999), st.from_regex(r"\A[!-~]{1,64}\Z")),
    st.sampled_from([None, TRACEPARENT]),
)
def test_a_command_comes_back_as_it_was_sent(
    typed: tuple[CommandType, Body], chat: str, sender: str, key: str, reply_to: ReplyTo | None, trace: str | None
) -> None:
    command_type, body = typed
    mark = command_type in MARKS
    command = Command(
        offset=42,
        type=command_type.value,
        body=canonical_body(body),
        chat_id=ChatId(chat),
        sender_id=UserId(sender),
        client_generated_id=None if mark else key,
        command_id=CommandId(sender) if mark else ids.command_id(ChatId(chat), UserId(sender), key),
        reply_to=reply_to,
        traceparent=trace,
    )
    partition = ids.partition_of(chat, PARTITIONS)
    read = read_command(_record(encode_command(command, "/test")), partition, PARTITIONS)
    assert read == command
    _assert_sound(read, partition)


@pytest.mark.parametrize("header", ["ce_source", "ce_specversion", "content_type"])
def test_what_a_plain_producer_may_forget_is_forgiven(header: str) -> None:
    record = _record(encode_command(_send(), "/test"), **{header: None})
    assert read_command(record, HERE, PARTITIONS) == _send()


# --- what is not --------------------------------------------------------------------------------------------------

FAULTS: dict[str, dict[str, str | bytes | None]] = {
    "no key": {"key": None},
    "an empty key": {"key": b""},
    "a key that is no uuid": {"key": b"x" * 36},
    "an upper case key": {"key": CHAT.upper().encode()},
    "a key with a line end": {"key": CHAT.encode() + b"\n"},
    "a key that is not UTF-8": {"key": b"\xff" * 36},
    "a key of 900 kB": {"key": b"x" * 900_000},
    "no type": {"ce_type": None},
    "an empty type": {"ce_type": ""},
    "a type with a space": {"ce_type": "message send"},
    "a type of 129 characters": {"ce_type": "x" * 129},
    "a type that is not ASCII": {"ce_type": "méssage"},
    "a type with a line end": {"ce_type": "message.send.v1\n"},
    "no sender": {"ce_sender": None},
    "a sender that is no uuid": {"ce_sender": "me"},
    "an upper case sender": {"ce_sender": "ABCDEFAB-1111-4111-8111-111111111111"},
    "a sender with a line end": {"ce_sender": SENDER + "\n"},
    "another specversion": {"ce_specversion": "2.0"},
    "no client_generated_id": {"ce_clientid": None},
    "an empty client_generated_id": {"ce_clientid": ""},
    "a client_generated_id of 129": {"ce_clientid": "x" * 129},
    "a client_generated_id with a space": {"ce_clientid": "k 1"},
    "another client_generated_id": {"ce_clientid": "k-2"},
    "no id": {"ce_id": None},
    "a foreign id": {"ce_id": "55555555-5555-4555-8555-555555555555"},
    "an id in upper case": {"ce_id": str(ids.command_id(CHAT, SENDER, "k-1")).upper()},
    "an id that is not UTF-8": {"ce_id": b"\xff" * 36},
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_the_command_is_answered(name: str) -> None:
    record = _record(encode_command(replace(_send(), reply_to=ReplyTo(3, "r1")), "/test"), **FAULTS[name])
    read = read_command(record, HERE, PARTITIONS)
    assert isinstance(read, Unreadable)
    assert read.reason is Reason.MALFORMED
    assert read.command_id is None
    assert (read.offset, read.reply_to) == (42, ReplyTo(3, "r1"))
    _assert_sound(read, HERE)


def test_a_null_value_is_a_body_that_is_none() -> None:
    read = read_command(_record(encode_command(_send(), "/test"), value=None), HERE, PARTITIONS)
    assert isinstance(read, Command)
    assert read.body == b""
    assert _outcome(read).type == EventType.REJECTED
    _assert_sound(read, HERE)


@pytest.mark.parametrize("partition", [p for p in range(PARTITIONS) if p != HERE])
def test_a_chat_lives_in_its_own_partition_only(partition: int) -> None:
    read = read_command(_record(encode_command(_send(), "/test")), partition, PARTITIONS)
    assert isinstance(read, Unreadable)
    assert read.reason is Reason.WRONG_PARTITION
    assert read.command_id is None
    assert f"partition {HERE} of {PARTITIONS}" in read.detail
    _assert_sound(read, partition)


def test_a_wrong_partition_is_named_before_any_other_fault() -> None:
    record = _record(encode_command(_send(), "/test"), ce_type=None, ce_sender="me", ce_id=None)
    read = read_command(record, 0, PARTITIONS)
    assert isinstance(read, Unreadable)
    assert read.reason is Reason.WRONG_PARTITION


def test_a_mark_with_a_key_does_not_use_up_the_key_of_another() -> None:
    """Its ce_id is not checked: with a key, it would be remembered as the command that it names."""
    victim = ids.command_id(CHAT, SENDER, "k-1")
    forged = _record(encode_command(replace(_mark(), command_id=victim), "/test"), ce_clientid="k-1")
    read = read_command(forged, HERE, PARTITIONS)
    assert isinstance(read, Command)
    assert read.client_generated_id is None


@pytest.mark.parametrize("ce_id", ["", "x", "not-a-uuid-but-thirty-six-characters", b"\xff" * 36, None])
def test_the_id_of_a_mark_may_be_anything(ce_id: str | bytes | None) -> None:
    read = read_command(_record(encode_command(_mark(), "/test"), ce_id=ce_id), HERE, PARTITIONS)
    assert read == replace(_mark(), command_id=None)
    _assert_sound(read, HERE)


@pytest.mark.parametrize(
    ("reply_to", "expected"),
    [
        ("3/r1", ReplyTo(3, "r1")),
        ("0/" + "x" * 64, ReplyTo(0, "x" * 64)),
        ("99999/a/b", ReplyTo(99_999, "a/b")),
        ("0/" + "x" * 65, None),
        ("100000/r", None),
        ("3/", None),
        ("/r", None),
        ("-1/r", None),
        ("3", None),
        ("3/r 1", None),
        ("3/r\n", None),
        ("٣/r", None),
        ("x" * 100_000, None),
        (b"\xff/r", None),
    ],
)
def test_a_reply_address_that_cannot_be_read_means_no_reply(reply_to: str | bytes, expected: ReplyTo | None) -> None:
    read = read_command(_record(encode_command(_send(), "/test"), ce_replyto=reply_to), HERE, PARTITIONS)
    assert read == replace(_send(), reply_to=expected)


@pytest.mark.parametrize(
    ("traceparent", "passed_on"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT.upper(), False),
        ("ff" + TRACEPARENT[2:], False),
        ("00-" + "0" * 32 + TRACEPARENT[35:], False),
        (TRACEPARENT[:36] + "0" * 16 + "-01", False),
        (TRACEPARENT + "\n", False),
        (TRACEPARENT + "-x", False),
        ("x" * 100_000, False),
        ("", False),
        ("٠٠" + TRACEPARENT[2:], False),
    ],
)
def test_only_a_w3c_trace_context_is_passed_on(traceparent: str, *, passed_on: bool) -> None:
    assert is_traceparent(traceparent) is passed_on
    read = read_command(_record(encode_command(_send(), "/test"), traceparent=traceparent), HERE, PARTITIONS)
    assert read == replace(_send(), traceparent=traceparent if passed_on else None)
    _assert_sound(read, HERE)


@pytest.mark.parametrize(("size", "repeated"), [(128, True), (129, False), (900_000, False)])
def test_a_key_is_repeated_only_if_it_is_short(size: int, *, repeated: bool) -> None:
    read = read_command(_record(encode_command(_send(), "/test"), key=b"x" * size), HERE, PARTITIONS)
    assert read.key == (b"x" * size if repeated else None)
    _assert_sound(read, HERE)


def test_of_a_header_that_is_there_twice_the_last_counts() -> None:
    encoded = encode_command(_send("k-2"), "/test")
    first = [("ce_id", b"x"), ("ce_clientid", b"k-1"), ("ce_type", b"y")]
    record = LogRecord(offset=42, timestamp=0, key=encoded.key, value=encoded.value, headers=first + encoded.headers)
    assert read_command(record, HERE, PARTITIONS) == _send("k-2")


def test_what_cannot_be_taken_apart_is_answered_all_the_same() -> None:
    command = read_command(Undecodable(42, "no such codec"), 0, 1)
    assert isinstance(command, Unreadable)
    assert (command.offset, command.reason) == (42, Reason.MALFORMED)
    _assert_sound(command, HERE)


# --- anything -------------------------------------------------------------------------------------------------


@examples(1_000)
@given(any_headers, any_keys, any_values, st.integers(0, PARTITIONS - 1))
def test_any_record_is_read_and_its_outcome_is_sound(
    headers: Sequence[tuple[str, bytes]], key: bytes | None, value: bytes | None, partition: int
) -> None:
    read = read_command(LogRecord(offset=42, timestamp=0, key=key, value=value, headers=headers), partition, PARTITIONS)
    assert read.offset == 42
    if isinstance(read, Command):
        assert read.type
        assert read.type in MARKS or (
            read.client_generated_id is not None
            and read.command_id == ids.command_id(read.chat_id, read.sender_id, read.client_generated_id)
        )
    _assert_sound(read, partition)


@examples(300)
@given(st.data())
def test_a_good_command_with_anything_in_some_headers_is_read(data: st.DataObject) -> None:
    """Closer to valid than arbitrary records: most parts are right, some are not."""
    encoded = encode_command(data.draw(st.sampled_from([_send(), _mark()])), "/test")
    broken = data.draw(st.lists(st.sampled_from(KNOWN_HEADERS), max_size=3))
    headers = [
        (name, data.draw(st.sampled_from(WORDS) | st.binary(max_size=40)) if name in broken else value)
        for name, value in encoded.headers
    ]
    record = LogRecord(offset=42, timestamp=0, key=encoded.key, value=encoded.value, headers=headers)
    _assert_sound(read_command(record, HERE, PARTITIONS), HERE)


@examples(200)
@given(st.lists(st.tuples(any_headers, any_keys), max_size=6), st.integers(1, 3))
def test_what_a_reader_has_met_changes_nothing(
    drawn: list[tuple[Sequence[tuple[str, bytes]], bytes | None]], met: int
) -> None:
    """One reader for many commands, some of them good, reads each like a reader that has read nothing before."""
    records = [LogRecord(offset=42, timestamp=0, key=key, value=b"{}", headers=headers) for headers, key in drawn]
    other = ids.group_chat_id(SENDER, "another")
    for key in ("k-1", "k-2"):
        good = encode_command(_send(key), "/test")
        records += [
            _record(good),
            _record(good, key=other.encode()),
            _record(good, ce_sender="22222222-2222-4222-8222-222222222222"),
            _record(good, ce_sender=SENDER.upper()),
        ]
    with mock.patch.object(encoding, "_MET", met):
        for partition in range(PARTITIONS):
            reader = CommandReader(partition, PARTITIONS)
            for record in records * 2:
                found, alone = reader.read(record), read_command(record, partition, PARTITIONS)
                assert repr(found) == repr(alone)
