"""A body is read or refused, whatever it is: no sender can exceed the limits or exhaust the reader."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from schemas import limits
from schemas.bodies import MessageSend, canonical_body
from schemas.commands import parse_body
from schemas.errors import Reason, Refused
from schemas.guard import guard_before_parsing
from schemas.topics import COMMAND_RECORD_BYTES
from schemas.types import BODY_OF, CommandType
from tests.support.examples import examples
from tests.support.limit_cases import CASES, Case
from tests.support.wire_strategies import bodies, mangled

TYPES = st.sampled_from(list(BODY_OF))


def _reason(command_type: str, raw: bytes) -> Reason | None:
    """Return the reason why it is refused, or None. Any other exception fails the test."""
    refusal = _refusal(command_type, raw)
    if refusal is None:
        return None
    assert 0 < len(refusal.detail) <= 200, "the detail is a short sentence"
    assert refusal.pointer == "" or refusal.pointer.startswith("/")
    return refusal.reason


def _refusal(command_type: str, raw: bytes) -> Refused | None:
    try:
        parse_body(command_type, raw)
    except Refused as refused:
        return refused
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_limit_holds_at_its_edge(case: Case) -> None:
    assert _reason(case.type, case.raw) == case.refused


def test_every_limit_is_the_contracts() -> None:
    """Limits that the cases above test by their figures, and limits that they cannot reach."""
    assert limits.BODY_DEPTH > limits.METADATA_DEPTH + 1, "the guard lets pass what the limit names better"
    assert len(str(limits.SAFE_INTEGER)) < limits.NUMBER_DIGITS
    assert (limits.CLIENT_GENERATED_ID_CHARACTERS, limits.REQUEST_ID_CHARACTERS, limits.OUTCOME_KEY_BYTES) == (
        128,
        64,
        128,
    )


@examples(300)
@given(TYPES, st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(command_type: str, raw: bytes) -> None:
    _reason(command_type, raw)


@examples(500)
@given(st.data())
def test_any_broken_body_is_read_or_refused(data: st.DataObject) -> None:
    command_type, body = data.draw(bodies())
    _reason(command_type, data.draw(mangled(canonical_body(body))))


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["\0", "\ud800", "22222222-2222-4222-8222-222222222222", "group", "direct", "owner", "https://x"])
)
_ANY_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@examples(500)
@given(TYPES, st.data())
def test_any_json_in_any_field_is_read_or_refused(command_type: str, data: st.DataObject) -> None:
    names = list(BODY_OF[command_type].__struct_fields__)
    fields: dict[str, Any] = {name: data.draw(_ANY_JSON, label=name) for name in names if data.draw(st.booleans())}
    _reason(command_type, json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"text":"first","text":"last"}', {"text": "last"}),
        (b'{"text":"x","metadata":{"k":1,"k":2}}', {"text": "x", "metadata": {"k": 2}}),
        (b'{"text":"x","metadata":{"a":1},"metadata":{"b":2}}', {"text": "x", "metadata": {"b": 2}}),
        (b'{"text":"x","metadata":{"k":"\\u0000","k":2}}', {"text": "x", "metadata": {"k": 2}}),
    ],
)
def test_of_repeated_keys_the_last_counts(raw: bytes, expected: dict[str, object]) -> None:
    body = parse_body(CommandType.MESSAGE_SEND, raw)
    assert json.loads(canonical_body(body)) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b'{"text":"x","text":7}',
        b'{"text":7,"text":"x"}',
        b'{"text":"x","text":"\\u0000"}',
        b'{"text":"x","metadata":{"k":1e400,"k":2}}',
    ],
)
def test_of_repeated_keys_each_must_be_of_its_type(raw: bytes) -> None:
    assert _reason(CommandType.MESSAGE_SEND, raw) is not None


@pytest.mark.parametrize(
    ("command_type", "raw", "pointer"),
    [
        ("message.send.v1", b'{"text":""}', "/text"),
        ("message.send.v1", b'{"text":"x","media_urls":["https://a","b"]}', "/media_urls/1"),
        ("message.send.v1", b'{"text":"x","a/b~c":1}', "/a~1b~0c"),
        ("chat.create.v1", b'{"kind":"group","name":"x","members":["%b",7,8]}' % (b"2" * 8), "/members/0"),
        ("read.mark.v1", b"{}", "/up_to_seq"),
    ],
)
def test_a_refusal_points_at_the_part_at_fault(command_type: str, raw: bytes, pointer: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_body(command_type, raw)
    assert refused.value.pointer == pointer


@examples()
@given(st.text(st.characters(min_codepoint=0x100, codec="utf-8"), min_size=3, max_size=50))
def test_a_refusal_does_not_repeat_the_content(secret: str) -> None:
    for raw in (
        json.dumps({"text": secret, "role": secret}),
        json.dumps({"text": {"x": secret}}),
        json.dumps({"text": "x", "media_urls": [secret]}),
        json.dumps({"text": "x", "original_sent_at": secret}),
        json.dumps({"text": secret}, ensure_ascii=False)[:-1],
    ):
        with pytest.raises(Refused) as refused:
            parse_body("message.send.v1", raw.encode())
        assert secret not in refused.value.detail


_WHOLE = limits.COMMAND_BYTES


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 19 + b'"' + b'\\"' * (_WHOLE // 2 - 10),
        b"[" * 19 + b'"' * (_WHOLE - 19),
        b"[" * 19 + b'"' + b"\\" * (_WHOLE - 20),
        b'{"text":"x","metadata":{"k":[' + b'"",' * (_WHOLE // 3 - 20) + b'""]}}',
        b'{"kind":"group","name":"x","members":[' + b"1," * (_WHOLE // 2 - 30) + b"1]}",
        b'{"text":"x","media_urls":[' + b"1," * (_WHOLE // 2 - 30) + b"1]}",
        b"{" + b",".join(b'"%d":1' % n for n in range(25_000)) + b"}",
        b'{"text":"x","metadata":' + b'{"a":' * 14 + b"[[]" + b",[]" * 80_000 + b"]" + b"}" * 14 + b"}",
        b"1" * 32 + (b" " + b"1" * 32) * (_WHOLE // 33 - 1),
        b'{"text":"x","metadata":{"k":' + b"9" * (_WHOLE - 40) + b"}}",
    ],
    ids=[
        "escaped quotes",
        "quotes",
        "backslashes",
        "strings",
        "members",
        "urls",
        "fields",
        "arrays",
        "numbers",
        "digits",
    ],
)
def test_no_body_costs_more_than_it_is_worth(raw: bytes) -> None:
    """One partition has one writer: a body that takes a minute costs every chat in it a minute."""
    assert len(raw) <= _WHOLE
    began = time.process_time()
    for command_type in (CommandType.MESSAGE_SEND, CommandType.CHAT_CREATE):
        assert _reason(command_type, raw) is not None
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(("depth", "passes"), [(18, True), (19, False), (150, False)])
def test_what_nests_too_deep_is_refused_before_it_is_parsed(depth: int, *, passes: bool) -> None:
    """18: the body, metadata of 16 levels, and one more, so that the limit itself can name what is wrong."""
    raw = b'{"k":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
    if passes:
        guard_before_parsing(raw)
        return
    with pytest.raises(Refused) as refused:
        guard_before_parsing(raw)
    assert refused.value.reason is Reason.INVALID


@pytest.mark.parametrize("item", [b"1", b"[]", b'"a"', b'"k":1'])
def test_more_values_than_any_command_has_are_refused_before_they_are_parsed(item: bytes) -> None:
    def filled(commas: int) -> bytes:
        return b'{"k":[' + b",".join([item] * (commas + 1)) + b"]}"

    guard_before_parsing(filled(limits.BODY_PARTS - 3))
    with pytest.raises(Refused) as refused:
        guard_before_parsing(filled(limits.BODY_PARTS + 1))
    assert refused.value.reason is Reason.TOO_LARGE


@given(
    before=st.integers(0, 40),
    count=st.integers(28, 40),
    digits=st.text("0123456789", min_size=40, max_size=40),
    in_string=st.booleans(),
)
def test_a_number_is_refused_by_its_digits_wherever_it_stands(
    before: int, count: int, digits: str, *, in_string: bool
) -> None:
    quote = '"' if in_string else ""
    raw = f'{{"{"k" * before}":{quote}{digits[:count]}{quote}}}'.encode()
    if count <= limits.NUMBER_DIGITS or in_string:
        guard_before_parsing(raw)
        return
    with pytest.raises(Refused) as refused:
        guard_before_parsing(raw)
    assert refused.value.reason is Reason.INVALID


def test_the_largest_body_fits_a_command_and_its_record() -> None:
    """In canonical JSON a control character takes six bytes, more than any other."""
    body = convert(
        {
            "text": "\x01" * limits.TEXT_CHARACTERS,
            "reply_to_message_id": "22222222-2222-4222-8222-222222222222",
            "media_urls": ["https://" + "\x01" * (limits.MEDIA_URL_CHARACTERS - 8)] * limits.MEDIA_URLS,
            "metadata": {"k": "x" * (limits.METADATA_BYTES - 8)},
            "original_sent_at": "2019-08-20T18:30:00.123456Z",
        },
        MessageSend,
    )
    raw = canonical_body(body)
    assert parse_body(CommandType.MESSAGE_SEND, raw) == body
    assert len(raw) <= limits.COMMAND_BYTES
    assert limits.COMMAND_BYTES + 100_000 < COMMAND_RECORD_BYTES, "room for headers, as any client writes them"
