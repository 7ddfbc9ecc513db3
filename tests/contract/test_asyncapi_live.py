"""docs/asyncapi-live.yaml describes the frames that are sent and the messages that are taken: neither has more."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml
from jsonschema import Draft7Validator
from msgspec.structs import fields

from schemas.bodies import ChatKind, Role
from schemas.events import AcceptedOutcome
from schemas.ids import ChatId, CommandId, UserId
from schemas.limits import SAFE_INTEGER
from schemas.sync_cursor import MAX_CHARACTERS
from schemas.types import COMMAND_OF, TAKES_SEQ
from services.live.connections import session
from services.live.frames import control
from services.live.frames.events import MAKERS, frame_of
from services.live.frames.frame import Frame
from services.live.signals.signal import FOR_S, STATES
from tests.contract.golden_files import GOLDEN, load
from tests.support.asyncapi import nodes

DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi-live.yaml").read_text(encoding="utf-8")
)
MESSAGES: Final[dict[str, Any]] = DOCUMENT["components"]["messages"]
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
CHAT: Final = ChatId("0f8fad5b-d9cb-469f-a165-70867728950e")
USER: Final = UserId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
ABOUT_THE_STREAM: Final = (
    control.ready("AQ", 25.0),
    control.ready(None, 0.5),
    control.cursor("AQ"),
    control.gap(CHAT, "3:9"),
    control.removed(CHAT),
    control.lagged(),
    control.bye("draining", 0),
    control.authenticated(USER, 1_800_000_000.0),
    control.error("protocol", "The first message is auth."),
    control.pong(),
    *(control.signal(kind, CHAT, USER, state, FOR_S) for kind, states in STATES.items() for state in states),
)
TAKEN: Final = {struct.__struct_config__.tag: struct for struct in get_args(session.Message)}


@cache
def _validator(name: str) -> Draft7Validator:
    return Draft7Validator({"components": DOCUMENT["components"], "allOf": [MESSAGES[name]["payload"]]})


def _faults(name: str, payload: Any) -> list[str]:
    return [error.message for error in _validator(name).iter_errors(payload)]


def _frames_of_events() -> list[tuple[str, Frame]]:
    """Return each type of event with the frame of each golden record of the type."""
    found = []
    for path in sorted((GOLDEN / "chat.events").glob("*.json")):
        record = load(path)
        headers = record["headers"]
        if headers["ce_type"] not in COMMAND_OF:
            continue
        outcome = AcceptedOutcome(
            type=headers["ce_type"], at_ms=1_769_860_800_045, body=record["value"].encode(),
            chat_id=ChatId(record["key"]), sender_id=UserId(headers["ce_sender"]),
            position=int(headers["ce_position"]), seq=int(headers["ce_seq"]) if "ce_seq" in headers else None,
            command_id=CommandId(headers["ce_commandid"]), client_generated_id=headers.get("ce_clientid"),
        )  # fmt: skip
        found += [(outcome.type, frame_of(outcome, prev, "3:9")) for prev in (None, 0, 4)]
    return found


FRAMES: Final = [*_frames_of_events(), *((frame.kind, frame) for frame in ABOUT_THE_STREAM)]


def test_it_is_asyncapi_3_and_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    used = {node["$ref"] for _, node in nodes(DOCUMENT) if "$ref" in node}
    for reference in used:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= used
    assert {f"#/components/messages/{name}" for name in MESSAGES} <= used
    assert all(message["name"] == name for name, message in MESSAGES.items())


def test_the_frames_are_those_that_are_sent() -> None:
    channels = DOCUMENT["channels"]
    assert {of_type for of_type, _ in FRAMES} >= set(MAKERS), "each type of event has a golden record"
    about_events = {frame.kind for of_type, frame in FRAMES if of_type in MAKERS}
    sent = about_events | {frame.kind for frame in ABOUT_THE_STREAM}
    assert set(channels["all"]["messages"]) | set(channels["replies"]["messages"]) == sent
    assert channels["chat"]["messages"] == channels["all"]["messages"]
    assert set(channels["client"]["messages"]) == set(TAKEN)


@pytest.mark.parametrize(("of_type", "frame"), FRAMES, ids=lambda each: each if isinstance(each, str) else "")
def test_a_frame_is_as_it_is_described_and_has_nothing_else(of_type: str, frame: Frame) -> None:
    payload = json.loads(frame.json())
    assert _faults(frame.kind, payload) == []
    described = {name for _, node in nodes(MESSAGES[frame.kind]["payload"]) for name in node.get("properties", ())}
    for named in _schemas_of(MESSAGES[frame.kind]["payload"]):
        described |= {name for _, node in nodes(SCHEMAS[named]) for name in node.get("properties", ())}
    assert payload.keys() <= described
    for name in payload.keys() - {"cursor", "media_urls", "metadata"}:
        without = {other: value for other, value in payload.items() if other != name}
        assert _faults(frame.kind, without), f"{name} is always there"
    assert of_type in TAKES_SEQ or "message" not in payload


def _schemas_of(schema: Any) -> set[str]:
    found = {node["$ref"].rsplit("/", 1)[1] for _, node in nodes(schema) if "$ref" in node}
    return found.union(*(_schemas_of(SCHEMAS[name]) for name in found))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_examples_that_its_schema_takes(name: str) -> None:
    examples = [example["payload"] for example in MESSAGES[name]["examples"]]
    assert examples
    for example in examples:
        assert _faults(name, example) == []
        assert example["type"] == name.removeprefix("client.")
        assert _faults(name, {**example, "type": "other"})


@pytest.mark.parametrize("tag", TAKEN)
def test_what_a_client_sends_is_what_is_taken(tag: str) -> None:
    described = MESSAGES[f"client.{tag}"]["payload"]["properties"]
    assert set(described) == {"type", *(field.encode_name for field in fields(TAKEN[tag]))}
    for example in MESSAGES[f"client.{tag}"]["examples"]:
        client = session.Session()
        if tag not in ("auth", "ping"):
            client.take(json.dumps({"type": "auth", "token": ""}))
            client.authenticated()
        if tag in STATES:
            client.take(json.dumps({"type": "start"}))
        assert isinstance(client.take(json.dumps(example["payload"])), TAKEN[tag])


def test_words_and_limits_are_the_codes() -> None:
    role = MESSAGES["member"]["payload"]["allOf"][2]["properties"]["role"]
    assert sorted(role["enum"]) == sorted(get_args(Role))
    kind = MESSAGES["chat"]["payload"]["allOf"][2]["oneOf"][0]["properties"]["kind"]
    assert sorted(kind["enum"]) == sorted(get_args(ChatKind))
    start = MESSAGES["client.start"]["payload"]["properties"]
    assert (start["since"]["maxLength"], start["chats"]["maxItems"]) == (MAX_CHARACTERS, session.CHATS)
    assert SCHEMAS["Seq"]["maximum"] == SCHEMAS["Position"]["maximum"] == SAFE_INTEGER
    assert f"within {session.AUTH_WITHIN_S:g} seconds" in MESSAGES["client.auth"]["summary"]
    assert f"within {session.START_WITHIN_S:g} seconds" in MESSAGES["client.start"]["summary"]
    for kind_of_signal, states in STATES.items():
        assert MESSAGES[f"client.{kind_of_signal}"]["payload"]["properties"]["state"]["enum"] == list(states)
        signal = MESSAGES[kind_of_signal]["examples"][0]["payload"]
        for state in states:
            assert _faults(kind_of_signal, {**signal, "state": state}) == []
        assert _faults(kind_of_signal, {**signal, "state": "elsewhere"})


def test_the_page_and_the_document_name_the_same_frames() -> None:
    page = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.M) for name in re.findall(r"\w+", row)}
    assert named == set(DOCUMENT["channels"]["all"]["messages"])
