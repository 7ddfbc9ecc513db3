"""Frames: one for each type of event, with a message as HTTP shows it, in the bytes of each kind of stream."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side

from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    canonical_body,
)
from schemas.canonical import canonical_json
from schemas.errors import LogCorrupt
from schemas.events import AcceptedOutcome
from schemas.ids import ChatId, CommandId, UserId
from schemas.types import COMMAND_OF, TAKES_SEQ, CommandType, EventType
from services.live.frames import control
from services.live.frames.events import frame_of, named_users
from services.live.frames.frame import Form, Frame, cursor_block
from services.live.hub.entry import Entry
from services.query.api.message_json import MESSAGE_COLUMNS, messages_json
from services.query.api.paths.messages import MESSAGE_EXAMPLE, Message
from tests.support.event_stream_parser import Dispatched, EventStreamParser
from tests.support.wire_strategies import BODIES

ANNA, BEN, CARL = (UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abc")
CHAT: Final = ChatId("0f8fad5b-d9cb-469f-a165-70867728950e")
MESSAGE_ID: Final = CommandId("c6e6b694-c64b-5364-9024-70428ec7b06e")
AT_MS: Final = 1_769_860_800_045
AT: Final = "2026-01-31T12:00:00.045Z"
PLACE: Final = {"chat_id": CHAT, "position": 7, "token": "0:9", "prev": 5}
OF_A_RECEIPT: Final = {"chat_id": CHAT, "position": 7, "token": "0:9"}
BY: Final = {"by": ANNA, "at": AT}
MESSAGE: Final = {
    "message_id": MESSAGE_ID, "chat_id": CHAT, "seq": 3, "position": 7, "changed_position": 7, "sender_id": ANNA,
    "client_generated_id": "hello-1", "text": "Hello", "reply_to_message_id": None, "media_urls": [], "metadata": None,
    "sent_at": AT, "revision": 0, "edited_at": None, "deleted_at": None, "reactions": [], "reply_count": 0,
    "last_reply_seq": None,
}  # fmt: skip

FRAMES: Final[dict[EventType, tuple[Body, dict[str, Any]]]] = {
    EventType.CHAT_CREATED: (
        ChatCreate(kind="group", name="ops", members=[BEN, CARL]),
        PLACE
        | {"type": "chat", "kind": "group", "name": "ops", "created_by": ANNA, "members": [ANNA, BEN, CARL], "at": AT},
    ),
    EventType.CHAT_RENAMED: (ChatRename("Ops"), PLACE | BY | {"type": "chat", "name": "Ops"}),
    EventType.MEMBER_ADDED: (
        MemberAdd(BEN, "admin"),
        PLACE | BY | {"type": "member", "user_id": BEN, "change": "added", "role": "admin"},
    ),
    EventType.MEMBER_REMOVED: (
        MemberRemove(BEN),
        PLACE | BY | {"type": "member", "user_id": BEN, "change": "removed"},
    ),
    EventType.MEMBER_ROLE_CHANGED: (
        MemberRole(BEN, "owner"),
        PLACE | BY | {"type": "member", "user_id": BEN, "change": "role", "role": "owner"},
    ),
    EventType.MESSAGE_SENT: (MessageSend("Hello"), PLACE | {"type": "message", "message": MESSAGE}),
    EventType.MESSAGE_EDITED: (
        MessageEdit(2, "Hallo", media_urls=[]),
        PLACE | BY | {"type": "edited", "seq": 2, "text": "Hallo", "media_urls": []},
    ),
    EventType.MESSAGE_DELETED: (MessageDelete(2), PLACE | BY | {"type": "deleted", "seq": 2}),
    EventType.REACTION_ADDED: (
        Reaction(2, "👍"),
        PLACE | BY | {"type": "reaction", "seq": 2, "emoji": "👍", "change": "added"},
    ),
    EventType.REACTION_REMOVED: (
        Reaction(2, "👍"),
        PLACE | BY | {"type": "reaction", "seq": 2, "emoji": "👍", "change": "removed"},
    ),
    EventType.READ_ADVANCED: (
        Mark(3),
        OF_A_RECEIPT | {"type": "receipt", "user_id": ANNA, "read_seq": 3, "at": AT},
    ),
    EventType.DELIVERED_ADVANCED: (
        Mark(3),
        OF_A_RECEIPT | {"type": "receipt", "user_id": ANNA, "delivered_seq": 3, "at": AT},
    ),
}


def outcome_of(event: str, body: Body | bytes) -> AcceptedOutcome:
    return AcceptedOutcome(
        type=event, at_ms=AT_MS, body=body if isinstance(body, bytes) else canonical_body(body), chat_id=CHAT,
        sender_id=ANNA, position=7, seq=3 if event in TAKES_SEQ else None, command_id=MESSAGE_ID,
        client_generated_id="hello-1",
    )  # fmt: skip


@pytest.mark.parametrize("event", COMMAND_OF)
def test_each_type_of_event_has_its_frame(event: str) -> None:
    body, expected = FRAMES[EventType(event)]
    frame = frame_of(outcome_of(event, body), 5, "0:9")
    assert json.loads(frame.json()) == expected
    assert next(iter(json.loads(frame.json()))) == "type", "a reader that reads in order knows what follows"
    assert frame.position == 7


def test_the_position_before_an_event_is_null_if_it_is_not_known() -> None:
    frame = frame_of(outcome_of(EventType.MESSAGE_SENT, MessageSend("Hello")), None, "0:9")
    assert json.loads(frame.json())["prev"] is None


@given(body=BODIES[CommandType.MESSAGE_SEND])
def test_a_message_is_as_http_shows_it_but_for_its_status(body: MessageSend) -> None:
    outcome = outcome_of(EventType.MESSAGE_SENT, body)
    row = dict[str, object](
        seq=3, message_id=MESSAGE_ID, sender_id=ANNA, text=body.text, client_generated_id="hello-1",
        reply_to_message_id=body.reply_to_message_id, reply_count=0, media_urls=body.media_urls or [],
        metadata=None if body.metadata is None else canonical_json(body.metadata).decode(), sent_at=AT_MS,
        edited_at=None, deleted_at=None, position=7, changed_position=7, revision=0, reactions=None,
        last_reply_seq=None,
    )  # fmt: skip
    shown = messages_json(CHAT, [tuple(row[name] for name in MESSAGE_COLUMNS)], lambda _sender_id: ())
    message = json.loads(frame_of(outcome, None, "0:9").json())["message"]
    assert message | {"status": "sent"} == json.loads(shown)
    assert list(message) == [name for name in MESSAGE_EXAMPLE if name != "status"]
    Message.model_validate(message | {"status": "sent"}, strict=False)


def test_the_users_whose_membership_an_event_changes_are_named_once() -> None:
    named = {event: named_users(outcome_of(event, body)) for event, (body, _) in FRAMES.items()}
    assert {event: users for event, users in named.items() if users} == {
        EventType.CHAT_CREATED: [(ANNA, True), (BEN, True), (CARL, True)],
        EventType.MEMBER_ADDED: [(BEN, True)],
        EventType.MEMBER_REMOVED: [(BEN, False)],
    }
    creation = ChatCreate(kind="direct", members=[ANNA])
    assert named_users(outcome_of(EventType.CHAT_CREATED, creation)) == [(ANNA, True)]


@pytest.mark.parametrize("event", COMMAND_OF)
def test_an_event_whose_body_cannot_be_read_is_refused_when_it_is_taken(event: str) -> None:
    with pytest.raises(LogCorrupt):
        Entry(0, 1, outcome_of(event, b'{"seq":'))


# Every character that ends a line somewhere, or ends a text for C, or is a byte order mark.
TEXTS: Final = st.text(st.sampled_from('a: \r\n\0\u0085\u2028\u2029\ufeff"\\é👍') | st.characters(codec="utf-8"))


@given(text=TEXTS)
def test_no_text_breaks_a_block_of_an_event_stream(text: str) -> None:
    frame = frame_of(outcome_of(EventType.MESSAGE_SENT, MessageSend(text)), 5, "0:9")
    for form, event_id in ((Form.SSE, "at"), (Form.SSE_OF_A_CHAT, "7")):
        parser = EventStreamParser()
        parser.last_event_id = "at"
        (event,) = parser.feed(unchunked(frame.in_form(form)))
        assert event == Dispatched("message", frame.json().decode(), event_id)
        assert json.loads(event.data)["message"]["text"] == text


def test_a_cursor_sets_the_last_event_id_and_is_no_event() -> None:
    parser = EventStreamParser()
    message = frame_of(outcome_of(EventType.MESSAGE_SENT, MessageSend("Hello")), 5, "0:9")
    first = unchunked(message.in_form(Form.SSE)) + cursor_block("AbC-_9")
    assert [event.last_event_id for event in parser.feed(first)] == [""]
    assert parser.last_event_id == "AbC-_9"
    assert [event.last_event_id for event in parser.feed(unchunked(message.in_form(Form.SSE)))] == ["AbC-_9"]


@pytest.mark.parametrize(
    "frame",
    [
        control.ready("AbC", 20.0),
        control.gap(CHAT, "5:12"),
        control.removed(CHAT),
        control.lagged(),
        control.bye("draining", 100),
        control.signal("typing", CHAT, ANNA, "started", 6),
    ],
    ids=lambda frame: frame.kind,
)
def test_a_frame_of_the_server_itself_leaves_the_last_event_id_of_a_chats_stream(frame: Frame) -> None:
    parser = EventStreamParser()
    parser.last_event_id = "7"
    (event,) = parser.feed(unchunked(frame.in_form(Form.SSE_OF_A_CHAT)))
    assert (event.type, event.last_event_id) == (frame.kind, "7")


@pytest.mark.parametrize("length", [125, 126, 65_535, 65_536])
def test_a_websocket_message_is_one_text_frame_at_each_way_to_write_its_length(length: int) -> None:
    empty = len(Frame("message", {"text": ""}).json())
    frame = Frame("message", {"text": "a" * (length - empty)})
    assert len(frame.json()) == length
    client = Protocol(Side.CLIENT)
    client.receive_data(frame.in_form(Form.WEBSOCKET) * 2)
    for received in client.events_received():
        assert (received.opcode, received.fin, received.data) == (Opcode.TEXT, True, frame.json())  # type: ignore[union-attr]
    assert client.parser_exc is None


def test_the_bytes_of_a_form_are_made_once() -> None:
    frame = frame_of(outcome_of(EventType.MESSAGE_SENT, MessageSend("Hello")), 5, "0:9")
    assert all(frame.in_form(form) is frame.in_form(form) for form in Form)


def unchunked(chunk: bytes) -> bytes:
    """Return what one chunk of a response holds (RFC 9112 §7.1)."""
    size, _, rest = chunk.partition(b"\r\n")
    assert rest[int(size, 16) :] == b"\r\n"
    return rest[:-2]
