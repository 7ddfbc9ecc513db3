"""The JSON of the answers: valid whatever a message holds, and as the OpenAPI document says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import UserId
from schemas.instants import instant_of
from services.query.api import json_text
from services.query.api.delivery_status import ChatStanding, DeliveryCursors, Steps
from services.query.api.message_json import MESSAGE_COLUMNS, MessagesJson, messages_json, plain_messages
from services.query.api.paths import chats, commands, messages
from services.query.api.windows import Page
from services.query.snapshot.reader import Row
from tests.support.ways import MESSAGE_WRITERS, WAYS, compares

CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"
ANNA = "11111111-1111-4111-8111-111111111111"
BEN = "22222222-2222-4222-8222-222222222222"
MESSAGE = "c6e6b694-c64b-5364-9024-70428ec7b06e"
AT = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
AT_MS = 1_772_600_767_089


def row(**changes: Any) -> Row:
    """Return a row of chat_messages in the order of its columns."""
    values: dict[str, Any] = dict.fromkeys(MESSAGE_COLUMNS) | {
        "seq": 7, "message_id": MESSAGE, "sender_id": ANNA, "text": "hello", "client_generated_id": "k-1",
        "reply_count": 0, "media_urls": [], "sent_at": AT_MS, "position": 9, "changed_position": 11,
        "revision": 2,
    }  # fmt: skip
    assert changes.keys() <= values.keys()
    return tuple((values | changes).values())


def message(status: str, columns: Row, write: MessagesJson = messages_json) -> bytes:
    return write(CHAT, [columns], lambda _sender_id: ((columns[MESSAGE_COLUMNS.index("seq")], status),))


each_way = pytest.mark.parametrize("write", MESSAGE_WRITERS, ids=WAYS)


@each_way
def test_a_message_has_every_field_of_the_contract_in_its_order(write: MessagesJson) -> None:
    shown = json.loads(message("sent", row(), write))
    assert list(shown) == list(messages.Message.model_fields)
    assert shown == {
        "message_id": MESSAGE, "chat_id": CHAT, "seq": 7, "position": 9, "changed_position": 11, "sender_id": ANNA,
        "client_generated_id": "k-1", "text": "hello", "reply_to_message_id": None, "media_urls": [],
        "metadata": None, "sent_at": "2026-03-04T05:06:07.089Z", "revision": 2, "edited_at": None, "deleted_at": None,
        "status": "sent", "reactions": [], "reply_count": 0, "last_reply_seq": None,
    }  # fmt: skip


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@each_way
@given(
    text=texts,
    key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20),
    urls=st.lists(texts, max_size=3),
    metadata=st.dictionaries(texts, json_values, max_size=3),
    reply=st.none() | st.uuids().map(str),
)
def test_whatever_a_message_holds_its_json_gives_it_back(
    write: MessagesJson, text: str, key: str, urls: list[str], metadata: dict[str, Any], reply: str | None
) -> None:
    written = message(
        "read",
        row(
            text=text,
            client_generated_id=key,
            media_urls=urls,
            metadata=json.dumps(metadata, ensure_ascii=False),
            reply_to_message_id=reply,
        ),
        write,
    )
    shown = json.loads(written)
    assert shown["text"] == text
    assert shown["client_generated_id"] == key
    assert shown["media_urls"] == urls
    assert shown["metadata"] == metadata
    assert shown["reply_to_message_id"] == reply
    messages.Message.model_validate(shown)


@each_way
def test_of_a_deleted_message_only_ids_and_figures_are_left(write: MessagesJson) -> None:
    gone = row(media_urls=["https://a.example/1"], metadata='{"a":1}', deleted_at=AT_MS, edited_at=AT_MS, reply_count=3)
    shown = json.loads(message("delivered", gone, write))
    assert (shown["text"], shown["media_urls"], shown["metadata"]) == (None, [], None)
    assert (shown["seq"], shown["message_id"], shown["reply_count"]) == (7, MESSAGE, 3)
    assert shown["deleted_at"] == shown["edited_at"] == "2026-03-04T05:06:07.089Z"


bigints = st.integers(-(2**63), 2**63 - 1)
milliseconds = st.integers(-62_135_596_800_000, 253_402_300_799_999)
"""From the year 1 to the year 9999."""
any_rows = st.builds(
    row,
    sender_id=st.sampled_from([ANNA, BEN]),
    seq=st.integers(1, 9),
    text=st.none() | texts,
    client_generated_id=texts,
    reply_to_message_id=st.none() | st.just(MESSAGE),
    media_urls=st.lists(texts, max_size=3),
    metadata=st.none() | st.just('{"a":[1,"é"]}'),
    reply_count=bigints,
    position=bigints,
    sent_at=milliseconds,
    edited_at=st.none() | milliseconds,
    deleted_at=st.none() | milliseconds,
    reactions=st.none() | st.just('{"emoji":"👍","count":1,"mine":true}'),
    last_reply_seq=st.none() | bigints,
)


@compares
@given(st.lists(any_rows, max_size=5), st.lists(st.integers(0, 10), min_size=3, max_size=3))
def test_compiled_code_writes_the_same_messages(rows: list[Row], lasts: list[int]) -> None:
    def steps_of(sender_id: UserId) -> Steps:
        return () if sender_id == BEN else tuple(zip(lasts, ("sent", "read", "delivered"), strict=True))

    assert MESSAGE_WRITERS[-1](CHAT, rows, steps_of) == plain_messages(CHAT, rows, steps_of)


@each_way
def test_every_character_of_a_text_is_quoted_as_json_does(write: MessagesJson) -> None:
    for text in ["".join(map(chr, range(1, 0x180))), *(f"1234567{chr(code)}123" for code in range(1, 0x80))]:
        assert f'"text":{json.dumps(text, ensure_ascii=False)},'.encode() in message("sent", row(text=text), write)


@each_way
def test_a_row_with_other_columns_is_refused(write: MessagesJson) -> None:
    with pytest.raises((TypeError, ValueError)):
        message("sent", row()[:-1], write)


@each_way
def test_a_time_beyond_the_years_that_can_be_written_is_refused(write: MessagesJson) -> None:
    with pytest.raises(OverflowError):
        message("sent", row(sent_at=253_402_300_800_000), write)


def test_times_are_utc_with_milliseconds_wherever_the_server_lives() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert json_text.instant(there) == "2026-03-04T05:06:07.089Z"
    assert json_text.instant(AT.replace(microsecond=0)) == "2026-03-04T05:06:07.000Z"


def standing(**cursors: list[tuple[UserId, int]]) -> ChatStanding:
    return ChatStanding(position=9, last_seq=4, cursors=DeliveryCursors(**cursors))


def test_each_message_of_a_page_has_the_delivery_status_of_its_own_sender() -> None:
    page = Page(
        rows=[row(seq=1, sender_id=ANNA), row(seq=2, sender_id=BEN)], has_more_before=True, has_more_after=False
    )
    lowest = [(UserId(ANNA), 0), (UserId(BEN), 1)]
    history = json.loads(
        messages.history_json(
            CHAT, page, standing(read=lowest, delivered=lowest, joined=[(UserId(ANNA), 0), (UserId(BEN), 0)])
        )
    )
    assert [m["status"] for m in history["messages"]] == ["read", "sent"]
    assert (history["has_more_before"], history["has_more_after"]) == (True, False)
    messages.History.model_validate(history)


def test_an_empty_page_is_valid_json() -> None:
    page: Page[Row] = Page(rows=[], has_more_before=False, has_more_after=True)
    history = json.loads(messages.history_json(CHAT, page, standing(read=[], delivered=[], joined=[])))
    assert history == {
        "messages": [], "has_more_before": False, "has_more_after": True, "position": 9, "last_seq": 4
    }  # fmt: skip


def chat_row(last: Row) -> Row:
    return (CHAT, "group", 'the "ops"', ANNA, AT, 7, 12, AT, "owner", AT, 0, 3, 5, 4, None, 6, 7, 0, *last)


def test_a_chat_shows_its_last_message_with_its_tick() -> None:
    chat = json.loads(chats.chat_json(*chat_row(row())))
    assert chat["last_message"]["status"] == "delivered"
    assert (chat["name"], chat["unread"], chat["read_seq"], chat["delivered_seq"]) == ('the "ops"', 4, 3, 5)
    assert list(chats.Chat.model_validate(chat).model_dump()) == list(chat)


def test_a_chat_without_messages_has_no_last_message() -> None:
    chat = json.loads(chats.chat_json(*chat_row((None,) * len(MESSAGE_COLUMNS))))
    assert chat["last_message"] is None
    chats.Chat.model_validate(chat)


SENT: dict[str, Any] = {"message_id": MESSAGE, "seq": 5, "position": 9, "sent_at": "1970-01-01T00:00:01.500Z"}


@pytest.mark.parametrize(
    ("message", "outcome", "expected"),
    [
        (
            (5, 9, 1_500),
            ("rejected", "conflict", None, None, 7, "used before", None),
            {"outcome": "accepted", "token": "3:7"} | SENT,
        ),
        ((5, 9, 1_500), None, {"outcome": "accepted"} | SENT),
        (None, ("accepted", None, None, 3, 7, None, None), {"outcome": "accepted", "position": 3, "token": "3:7"}),
        (None, ("duplicate", None, None, 3, 8, None, None), {"outcome": "accepted", "position": 3, "token": "3:8"}),
        (
            None,
            ("duplicate", None, None, 4, 9, None, 2),
            {"outcome": "accepted", "position": 4, "revision": 2, "token": "3:9"},
        ),
        (None, ("rejected", "conflict", None, None, 7, "used before", None), {"outcome": "accepted", "token": "3:7"}),
        (
            None,
            ("rejected", "not_member", None, None, 7, "the sender left the chat", None),
            {"outcome": "rejected", "reason": "not_member", "detail": "The sender left the chat.", "token": "3:7"},
        ),
        (  # projected by a release that kept no details
            None,
            ("rejected", "not_member", None, None, 7, None, None),
            {"outcome": "rejected", "reason": "not_member", "detail": "No longer a member.", "token": "3:7"},
        ),
        (None, ("unchanged", None, None, 4, 7, None, None), {"outcome": "unchanged", "position": 4, "token": "3:7"}),
    ],
)
def test_a_status_never_hides_that_the_id_was_accepted(
    message: Row | None, outcome: Row | None, expected: dict[str, Any]
) -> None:
    status = commands.command_status(CHAT, MESSAGE, 3, message, outcome)
    assert status is not None
    body, seq = status
    assert json.loads(body) == expected | {"chat_id": CHAT, "command_id": MESSAGE}
    assert seq == expected.get("seq")
    commands.CommandStatus.model_validate_json(body)


def test_a_command_without_any_outcome_has_no_status() -> None:
    assert commands.command_status(CHAT, MESSAGE, 3, None, None) is None


def test_every_character_is_quoted_as_json_does() -> None:
    for first in range(0, 0x110000, 256):
        if not 0xD800 <= first < 0xE000:
            text = "".join(chr(code) for code in range(first, first + 256))
            assert json_text.quoted(text) == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=-7))])
def test_a_time_is_told_in_utc_whatever_zone_it_is_in(zone: tzinfo) -> None:
    at = datetime(2026, 1, 31, 12, 0, 0, 45_999, tzinfo=UTC).astimezone(zone)
    assert json_text.instant(at) == "2026-01-31T12:00:00.045Z"


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_an_instant_is_the_same_from_milliseconds(at: datetime) -> None:
    ms = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert instant_of(ms) == json_text.instant(at)
