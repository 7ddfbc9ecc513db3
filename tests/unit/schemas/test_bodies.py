"""One body has one spelling: a retry has the same bytes, whichever client built it and in whatever order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bodies import Body, Mark, MessageSend, canonical_body
from schemas.canonical import canonical_json
from schemas.commands import digest, parse_body
from schemas.errors import Refused
from schemas.events import AcceptedOutcome, decode_accepted
from schemas.types import BODY_OF, COMMAND_OF, EVENT_OF, MARKS, CommandType, EventType
from tests.support.any_records import CHAT, SENDER
from tests.support.examples import examples
from tests.support.wire_strategies import bodies, metadatas, texts


@examples(300)
@given(bodies())
def test_every_body_comes_back_from_its_canonical_form(typed: tuple[CommandType, Body]) -> None:
    command_type, body = typed
    raw = canonical_body(body)
    read = parse_body(command_type, raw)
    assert read == body
    assert canonical_body(read) == raw
    event = AcceptedOutcome(EVENT_OF[command_type].value, 0, raw, CHAT, SENDER, position=1)
    assert decode_accepted(event) == body


@examples(200)
@given(bodies(), st.randoms(use_true_random=False))
def test_every_spelling_of_a_body_has_one_canonical_form(typed: tuple[CommandType, Body], random: Any) -> None:
    command_type, body = typed
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    spelling = json.dumps(
        _shuffled(fields, random), indent=random.choice([None, 2]), ensure_ascii=random.random() < 0.5
    )
    read = parse_body(command_type, spelling.encode())
    assert canonical_body(read) == canonical_body(body)


@examples(200)
@given(texts, metadatas, st.randoms(use_true_random=False))
def test_the_order_of_metadata_keys_does_not_matter(text: str, metadata: dict[str, Any], random: Any) -> None:
    one = MessageSend(text=text, metadata=metadata)
    other = MessageSend(text=text, metadata=_shuffled(metadata, random))
    assert canonical_body(one) == canonical_body(other)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: _shuffled(value[key], random) for key in keys}
    return [_shuffled(inner, random) for inner in value] if isinstance(value, list) else value


def test_the_order_of_array_items_does() -> None:
    one, other = (MessageSend(text="x", metadata={"k": items}) for items in ([1, 2], [2, 1]))
    assert canonical_body(one) != canonical_body(other)


def test_keys_are_sorted_at_every_level_by_code_point() -> None:
    metadata = {"b": [{"z": 1, "a": {"d": 1, "c": 2}}], "\U0001f600": 1, "\uff5e": 2, "B": 3, "": 4}
    assert (
        canonical_body(MessageSend(text="x", metadata=metadata)).decode()
        == '{"text":"x","metadata":{"":4,"B":3,"b":[{"a":{"c":2,"d":1},"z":1}],"\uff5e":2,"\U0001f600":1}}'
    )


def test_what_is_absent_is_left_out_and_what_is_empty_is_not() -> None:
    assert canonical_body(MessageSend(text="x")) == b'{"text":"x"}'
    body = MessageSend(text="x", media_urls=[], metadata={})
    assert canonical_body(body) == b'{"text":"x","media_urls":[],"metadata":{}}'


def test_a_null_in_metadata_stays() -> None:
    assert canonical_body(MessageSend(text="x", metadata={"k": None})) == b'{"text":"x","metadata":{"k":null}}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "\ud800"])
def test_what_json_cannot_say_is_refused_before_it_is_written(value: object) -> None:
    """The encoder would write null for a number that is not finite."""
    with pytest.raises(Refused, match="invalid"):
        MessageSend(text="x", metadata={"k": [value]}).check_limits()


@examples()
@given(bodies())
def test_a_body_in_its_limits_passes_them_before_it_is_written(typed: tuple[CommandType, Body]) -> None:
    """Ingest checks what it received, the writer what was written: both must agree."""
    typed[1].check_limits()


@examples()
@given(st.sampled_from(CommandType), st.sampled_from(CommandType), st.binary(max_size=50), st.binary(max_size=50))
def test_a_digest_is_of_type_and_bytes(one: CommandType, other: CommandType, body: bytes, other_body: bytes) -> None:
    assert len(digest(one, body)) == 16
    assert (digest(one, body) == digest(other, other_body)) == ((one, body) == (other, other_body))


def test_every_command_type_has_a_body_and_an_outcome() -> None:
    assert set(BODY_OF) == set(EVENT_OF) == set(CommandType)
    assert {EventType(event) for event in COMMAND_OF} == set(EVENT_OF.values())
    assert len(COMMAND_OF) == len(CommandType)
    assert {name for name, body in BODY_OF.items() if "up_to_seq" in body.__struct_fields__} == MARKS


def test_every_character_is_spelt_in_one_way_wherever_it_is_written() -> None:
    """As UTF-8, escaped only where JSON needs it: as Python's own encoder does."""
    for first in range(0, 0x110000, 256):
        if 0xD800 <= first < 0xE000:
            continue
        text = "".join(chr(code) for code in range(first, first + 256))
        spelt = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":")).encode()
        assert spelt == canonical_body(MessageSend(text=text)) == canonical_json({"text": text})
    for number in (0, -1, 2**53, 2**64, -(10**40)):
        spelt = b'{"up_to_seq":%d}' % number
        assert spelt == canonical_body(Mark(up_to_seq=number)) == canonical_json({"up_to_seq": number})


def test_a_lone_surrogate_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        canonical_body(MessageSend(text="\ud800"))
    with pytest.raises(ValueError, match="surrogates"):
        canonical_json({"k": "\ud800"})
