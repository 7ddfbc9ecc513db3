"""docs/asyncapi.yaml describes what the code does: no type, reason, field, limit or setting is only in one of them."""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields as struct_fields

from schemas import limits, topics
from schemas.bodies import Body, ChatKind, Role, canonical_body
from schemas.commands import parse_body
from schemas.errors import Reason, Refused
from schemas.events import Duplicate, OtherOutcome, OutcomeKind, Rejected, TermOpened
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Stamp
from schemas.types import BODY_OF, COMMAND_OF, EVENT_OF, MARKS, CommandType, EventType
from schemas.wire.encoding import Command, ReplyTo, encode_command, encode_outcome, event_source
from schemas.wire.replies import Reply
from tests.contract import asyncapi_bodies, asyncapi_examples
from tests.contract.example_records import CREATOR, GROUP, TRACEPARENT
from tests.contract.golden_files import GOLDEN, load
from tests.support import asyncapi
from tests.support.examples import examples
from tests.support.limit_cases import CASES, Case
from tests.support.wire_strategies import bodies, mangled

DOCUMENT: Final = asyncapi.document()
COMMANDS: Final = [command.value for command in CommandType]
EVENTS: Final = [event.value for event in EventType]


def _payload_name(record_type: str) -> str:
    reference: str = asyncapi.message(record_type)["payload"]["$ref"]
    return reference.rsplit("/", 1)[1]


# --- types ------------------------------------------------------------------------------------------------------


def test_it_is_asyncapi_3_and_every_reference_leads_somewhere() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    references = [node["$ref"] for _, node in asyncapi.nodes(DOCUMENT) if "$ref" in node]
    assert references
    for reference in references:
        assert asyncapi.resolve(reference), reference


@pytest.mark.parametrize(("channel", "types"), [("commands", COMMANDS), ("events", EVENTS), ("replies", ["replies"])])
def test_every_type_is_a_message_of_its_channel_and_no_message_lacks_code(channel: str, types: list[str]) -> None:
    messages = DOCUMENT["channels"][channel]["messages"]
    assert sorted(messages) == sorted(types)
    for record_type in types:
        assert messages[record_type] == {"$ref": f"#/components/messages/{record_type}"}


def test_no_message_stands_outside_the_channels() -> None:
    assert sorted(DOCUMENT["components"]["messages"]) == sorted([*COMMANDS, *EVENTS, "replies"])
    assert {name: DOCUMENT["components"]["messages"][name]["name"] for name in DOCUMENT["components"]["messages"]} == {
        name: name for name in [*COMMANDS, *EVENTS, "replies"]
    }


def test_no_schema_is_used_by_nothing() -> None:
    used = {node["$ref"] for _, node in asyncapi.nodes(DOCUMENT) if "$ref" in node}
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} <= used


@pytest.mark.parametrize("command_type", COMMANDS)
def test_an_accepted_outcome_has_the_body_of_its_command(command_type: str) -> None:
    event = EVENT_OF[command_type].value
    assert asyncapi.message(event)["payload"] == asyncapi.message(command_type)["payload"]


@pytest.mark.parametrize("record_type", [*COMMANDS, *EVENTS])
def test_the_headers_of_a_message_name_its_own_type(record_type: str) -> None:
    assert asyncapi.message(record_type)["headers"]["allOf"][1] == {"properties": {"ce_type": {"const": record_type}}}


@pytest.mark.parametrize("record_type", [*COMMANDS, *EVENTS, "replies"])
def test_every_message_has_an_example_that_its_schemas_take(record_type: str) -> None:
    found = asyncapi.message(record_type)["examples"]
    assert found
    for example in found:
        assert asyncapi.fits(record_type, "payload", example["payload"])
        assert ("headers" in example) == ("headers" in asyncapi.message(record_type))
        assert "headers" not in example or asyncapi.fits(record_type, "headers", example["headers"])


def test_the_examples_are_the_golden_records() -> None:
    document = asyncapi_examples.written()
    assert document == asyncapi_examples.generated(document), "python -m tests.contract.asyncapi_examples --write"
    without = asyncapi_examples.SHOWN.sub("", document)
    assert asyncapi_examples.generated(without) == document
    assert set(asyncapi_examples.types()) == {*COMMANDS, *EVENTS, "replies"}


# --- words ------------------------------------------------------------------------------------------------------


def test_closed_lists_are_the_codes() -> None:
    assert asyncapi.schema("Reason")["enum"] == [reason.value for reason in Reason]
    assert asyncapi.schema("Reply")["properties"]["outcome"]["enum"] == [kind.value for kind in OutcomeKind]
    assert asyncapi.schema("Role")["enum"] == list(get_args(Role))
    assert asyncapi.schema("ChatCreate")["properties"]["kind"]["enum"] == list(get_args(ChatKind))


# --- limits -----------------------------------------------------------------------------------------------------

SAYS: Final[dict[str, list[tuple[str, str]]]] = {
    "COMMAND_BYTES": [],
    "TEXT_CHARACTERS": [("Text", "maxLength")],
    "NAME_CHARACTERS": [("Name", "maxLength")],
    "MEDIA_URLS": [("MessageSend/properties/media_urls", "maxItems")],
    "MEDIA_URL_CHARACTERS": [("MessageSend/properties/media_urls/items", "maxLength")],
    "METADATA_BYTES": [("Metadata", "x-max-bytes")],
    "METADATA_DEPTH": [("Metadata", "x-max-depth")],
    "MEMBERS_PER_COMMAND": [("ChatCreate/properties/members", "maxItems")],
    "EMOJI_BYTES": [("Reaction/properties/emoji", "x-max-bytes"), ("Reaction/properties/emoji", "maxLength")],
    "REACTIONS_OF_A_USER": [],
    "REACTION_KINDS": [],
    "CLIENT_GENERATED_ID_CHARACTERS": [("ClientGeneratedId", "maxLength")],
    "SAFE_INTEGER": [("Seq", "maximum"), ("Mark/properties/up_to_seq", "maximum")],
    "NUMBER_DIGITS": [],
    "BODY_DEPTH": [],
    "BODY_PARTS": [],
    "REQUEST_ID_CHARACTERS": [("Reply/properties/request_id", "maxLength")],
    "OUTCOME_KEY_BYTES": [("RepeatedKey", "x-max-bytes")],
}
"""Limit → the schemas and keywords that state it; those of a whole body are only in the table."""


def _limits() -> dict[str, int]:
    return {name: value for name, value in vars(limits).items() if name.isupper() and isinstance(value, int)}


def test_the_table_of_limits_is_the_codes() -> None:
    assert DOCUMENT["info"]["x-limits"] == {name.lower(): value for name, value in _limits().items()}


def test_every_limit_stands_where_it_applies() -> None:
    assert SAYS.keys() == _limits().keys()
    for name, places in SAYS.items():
        for place, keyword in places:
            assert asyncapi.resolve(f"#/components/schemas/{place}")[keyword] == _limits()[name], (name, place)
    assert f"{{1,{limits.REQUEST_ID_CHARACTERS}}}$" in asyncapi.schema("ReplyTo")["pattern"]


# --- fields -----------------------------------------------------------------------------------------------------


def test_the_bodies_are_as_they_are_declared() -> None:
    assert asyncapi_bodies.written() == asyncapi_bodies.generated(), "python -m tests.contract.asyncapi_bodies --write"


@pytest.mark.parametrize("command_type", COMMANDS)
def test_a_body_has_the_fields_of_its_type_in_the_order_of_canonical_json(command_type: str) -> None:
    described = asyncapi.schema(_payload_name(command_type))
    assert list(described["properties"]) == list(BODY_OF[command_type].__struct_fields__)
    assert described["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "kind"), [("Duplicate", Duplicate), ("Rejected", Rejected), ("TermOpened", TermOpened), ("Reply", Reply)]
)
def test_the_other_bodies_have_the_fields_of_the_code(name: str, kind: type) -> None:
    described, hints = asyncapi.schema(name), get_type_hints(kind)
    names = [field.name for field in struct_fields(kind)]
    assert sorted(described["properties"]) == sorted(names)
    assert set(described["required"]) == {field for field in names if NoneType not in get_args(hints[field])}


WHOLE_COMMAND: Final = Command(
    offset=0,
    type="",
    body=b"",
    chat_id=ChatId(GROUP),
    sender_id=UserId(CREATOR),
    client_generated_id="k",
    command_id=CommandId(CREATOR),
    reply_to=ReplyTo(0, "r"),
    traceparent=TRACEPARENT,
)
WHOLE_OUTCOME: Final = OtherOutcome(
    type="",
    at_ms=0,
    body=b"",
    command_id=CommandId(CREATOR),
    client_generated_id="k",
    sender_id=UserId(CREATOR),
    position=1,
    seq=1,
    traceparent=TRACEPARENT,
)


@pytest.mark.parametrize("record_type", [*COMMANDS, *EVENTS])
def test_the_headers_are_those_that_the_encoder_can_write_in_its_order(record_type: str) -> None:
    mark = record_type.startswith(("read.mark", "delivered.mark"))
    if record_type in COMMANDS:
        written = [name for name, _ in encode_command(WHOLE_COMMAND, "/test").headers]
        written = [name for name in written if not (mark and name == "ce_clientid")]
    elif record_type == EventType.TERM_OPENED:
        bare = OtherOutcome(type=record_type, at_ms=0, body=b"")
        written = [name for name, _ in encode_outcome(bare, Stamp(1, 0, -1), event_source(0)).headers]
    else:
        written = [name for name, _ in encode_outcome(WHOLE_OUTCOME, Stamp(1, 1, 1), event_source(0)).headers]
    assert asyncapi.properties_of(asyncapi.message(record_type)["headers"]) == written


_ALWAYS: Final = {"ce_specversion", "ce_id", "ce_source", "ce_type", "content-type"}
_KEYED: Final = {"ce_commandid", "ce_clientid", "ce_sender"}


def _must(record_type: str) -> set[str]:
    """Return the required headers of a record of this type."""
    mark = record_type in MARKS | {EVENT_OF[command].value for command in MARKS}
    if record_type in COMMANDS:
        return _ALWAYS | {"ce_sender"} | (set() if mark else {"ce_clientid"})
    if record_type == EventType.TERM_OPENED:
        return _ALWAYS
    if record_type in COMMAND_OF:
        seq = {"ce_seq"} if record_type == EventType.MESSAGE_SENT else set()
        return _ALWAYS | {"ce_command", "ce_position", "ce_sender"} | (set() if mark else _KEYED) | seq
    # A duplicate has all parts of a key; an unchanged command may be a receipt; a rejected one may be anything.
    named = {EventType.DUPLICATE: _KEYED, EventType.UNCHANGED: {"ce_sender"}, EventType.REJECTED: set[str]()}
    return _ALWAYS | {"ce_command"} | named[EventType(record_type)]


@pytest.mark.parametrize("record_type", [*COMMANDS, *EVENTS])
def test_the_headers_that_must_be_there_are_required(record_type: str) -> None:
    assert asyncapi.required_of(asyncapi.message(record_type)["headers"]) == _must(record_type)


# --- topics -----------------------------------------------------------------------------------------------------


def test_the_settings_of_the_topics_are_the_codes() -> None:
    names = topics.TopicNames()
    specs = topics.topic_specs(names, partitions=64, reply_partitions=16, replication_factor=3)
    for channel, spec in zip(("commands", "events", "replies"), specs, strict=True):
        described = DOCUMENT["channels"][channel]
        kafka = described["bindings"]["kafka"]
        assert described["address"] == spec.name
        assert (kafka["partitions"], kafka["replicas"]) == (spec.partitions, spec.replication_factor)
        configured = {name: _as_kafka_says(value) for name, value in kafka["topicConfiguration"].items()}
        assert configured == spec.config


def _as_kafka_says(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- records ----------------------------------------------------------------------------------------------------

FILES: Final = sorted(path.relative_to(GOLDEN) for path in GOLDEN.rglob("*.json"))
with_headers = pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] != "chat.replies"], ids=lambda p: p.stem)


def _golden(path: Any) -> tuple[str, dict[str, Any]]:
    record = load(GOLDEN / path)
    return record["headers"].get("ce_type", "replies"), record


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_record_is_what_its_message_says(path: Any) -> None:
    record_type, record = _golden(path)
    channel = {"chat.commands": "commands", "chat.events": "events", "chat.replies": "replies"}[record["topic"]]
    assert record_type in DOCUMENT["channels"][channel]["messages"]
    assert asyncapi.fits(record_type, "payload", json.loads(record["value"]))
    assert asyncapi.fits(record_type, "key", record["key"])
    if record_type == "replies":
        assert record["headers"] == {}
        return
    assert asyncapi.fits(record_type, "headers", record["headers"])
    assert set(record["headers"]) <= set(asyncapi.properties_of(asyncapi.message(record_type)["headers"]))


@with_headers
def test_a_record_without_a_required_header_is_not(path: Any) -> None:
    record_type, record = _golden(path)
    required = asyncapi.required_of(asyncapi.message(record_type)["headers"])
    assert {"ce_id", "ce_type", "ce_source", "ce_specversion"} <= required <= set(record["headers"])
    for name in required:
        without = {other: value for other, value in record["headers"].items() if other != name}
        assert not asyncapi.fits(record_type, "headers", without), name
        assert not asyncapi.fits(record_type, "headers", record["headers"] | {name: "\n"}) or name == "ce_source", name


@with_headers
def test_a_record_of_another_type_is_not(path: Any) -> None:
    record_type, record = _golden(path)
    for other in {*COMMANDS, *EVENTS} - {record_type}:
        assert not asyncapi.fits(other, "headers", record["headers"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_with_a_broken_body_is_not(path: Any) -> None:
    record_type, record = _golden(path)
    payload = json.loads(record["value"])
    if record_type == "replies":
        assert not asyncapi.fits(record_type, "payload", payload[0])
        assert not asyncapi.fits(record_type, "payload", [payload[0] | {"outcome": "maybe"}])
        return
    assert not asyncapi.fits(record_type, "payload", [payload])
    if record_type in COMMANDS or record_type in COMMAND_OF:
        assert not asyncapi.fits(record_type, "payload", payload | {"colour": 1})
    for name in asyncapi.required_of(asyncapi.schema(_payload_name(record_type))):
        assert not asyncapi.fits(record_type, "payload", {k: v for k, v in payload.items() if k != name}), name
        assert not asyncapi.fits(record_type, "payload", payload | {name: None}), name


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[0] != "chat.replies"], ids=lambda path: path.stem
)
def test_a_record_with_another_kind_of_key_is_not(path: Any) -> None:
    record_type, record = _golden(path)
    if record_type == EventType.REJECTED:  # whatever the command had
        assert not asyncapi.fits(record_type, "key", 7)
        return
    assert not asyncapi.fits(record_type, "key", None if record["key"] is not None else GROUP)


# --- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.in_schema], ids=lambda case: case.name)
def test_the_schema_takes_and_refuses_what_the_code_does(case: Case) -> None:
    assert asyncapi.fits(case.type, "payload", json.loads(case.raw)) is (case.refused is None)


@examples(200)
@given(bodies())
def test_every_body_within_the_limits_fits_the_schema(typed: tuple[CommandType, Body]) -> None:
    command_type, body = typed
    assert asyncapi.fits(command_type.value, "payload", json.loads(canonical_body(body)))


@examples(300)
@given(st.data())
def test_the_schema_refuses_nothing_that_the_writer_accepts(data: st.DataObject) -> None:
    command_type, body = data.draw(bodies())
    raw = data.draw(mangled(canonical_body(body)))
    try:
        parse_body(command_type, raw)
    except Refused:
        return
    assert asyncapi.fits(command_type.value, "payload", json.loads(raw))


USER: Final = "22222222-2222-4222-8222-222222222222"
_VALUES: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        None, True, 0, 1, -1, 2**53 - 1, 2**53, "", "x", " ", "a\0b", "ä", "x" * 200, "x" * 201, "x" * 16_384,
        "x" * 16_385, USER, USER.replace("2", "A"), USER[:-1], USER + "\n", "group", "direct", "channel", "owner",
        "admin", "member",
        "https://example.org/a.png", "http://a", "ftp://a", "https://" + "x" * 2_041, "2019-08-20T18:30:00.123Z",
        "2019-08-20T18:30:00", "1969-12-31T23:59:59Z", "yesterday", [], [1], [None], [USER], [USER, USER], ["https://a"],
        ["https://a", "a"], ["https://a"] * 11, [[]], {}, {"k": 1}, {"k": {"l": [None]}},
    ]
)  # fmt: skip
"""Values for any field, of which JSON Schema can say whether they are valid."""


@st.composite
def _changed_bodies(draw: st.DrawFn) -> tuple[CommandType, dict[str, Any]]:
    """Return a type and a body of it in which up to three fields have other values, are missing, or are not known."""
    command_type, body = draw(bodies())
    fields: dict[str, Any] = json.loads(canonical_body(body))
    names = st.sampled_from([*body.__struct_fields__, "colour"])
    for name in draw(st.lists(names, min_size=1, max_size=3)):
        if draw(st.integers(0, 4)) == 0:
            fields.pop(name, None)
        else:
            fields[name] = draw(_VALUES)
    return command_type, fields


@examples(1_000)
@given(_changed_bodies())
def test_the_schema_takes_exactly_the_bodies_that_the_code_takes(changed: tuple[CommandType, dict[str, Any]]) -> None:
    command_type, fields = changed
    try:
        parse_body(command_type, json.dumps(fields).encode())
        taken = True
    except Refused:
        taken = False
    assert asyncapi.fits(command_type.value, "payload", fields) is taken
