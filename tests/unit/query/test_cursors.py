"""Cursors: an issued cursor can be read back, and nothing else is accepted as one."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import ChatId, UserId
from services.query.api.cursors import (
    MAX_CURSOR_CHARACTERS,
    ChatsCursor,
    decode_chats,
    decode_members,
    encode_chats,
    encode_members,
)
from services.query.errors import InvalidCursor

uuids = st.uuids().map(str)
ANNA = UserId("11111111-1111-4111-8111-111111111111")


@given(uuids)
def test_a_members_cursor_comes_back(user_id: str) -> None:
    assert decode_members(encode_members(UserId(user_id))) == user_id


@given(st.datetimes(timezones=st.just(UTC)), uuids)
def test_a_chats_cursor_comes_back_to_the_microsecond(active_at: datetime, chat_id: str) -> None:
    cursor = ChatsCursor(active_at=active_at, chat_id=ChatId(chat_id))
    text = encode_chats(cursor)
    assert decode_chats(text) == cursor
    assert len(text) <= MAX_CURSOR_CHARACTERS


@given(st.text(max_size=MAX_CURSOR_CHARACTERS + 1))
def test_any_other_text_is_refused(text: str) -> None:
    for decode in (decode_members, decode_chats):
        with pytest.raises(InvalidCursor):
            decode(text)


@pytest.mark.parametrize(
    "inside",
    [
        "m",
        "m/",
        f"m/{ANNA}/{ANNA}",
        "m/ABCDEF11-1111-4111-8111-111111111111",
        f"x/{ANNA}",
        f"c/{ANNA}",
        f"c/soon/{ANNA}",
        f"c/1{'0' * 40}/{ANNA}",
        f"c/{'1' * 130}/{ANNA}",
        "c/1/anna",
        f"m/{ANNA}\0",
    ],
)
def test_a_forged_cursor_is_refused(inside: str) -> None:
    forged = urlsafe_b64encode(inside.encode()).rstrip(b"=").decode()
    for decode in (decode_members, decode_chats):
        with pytest.raises(InvalidCursor):
            decode(forged)


def test_a_cursor_of_another_list_is_refused() -> None:
    chats = encode_chats(ChatsCursor(active_at=datetime(2026, 1, 1, tzinfo=UTC), chat_id=ChatId(str(UUID(int=1)))))
    with pytest.raises(InvalidCursor):
        decode_members(chats)
    with pytest.raises(InvalidCursor):
        decode_chats(encode_members(ANNA))


def test_a_cursor_with_something_added_is_refused() -> None:
    for changed in (encode_members(ANNA) + "=", encode_members(ANNA) + "\n", " " + encode_members(ANNA)):
        with pytest.raises(InvalidCursor):
            decode_members(changed)
