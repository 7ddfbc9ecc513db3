"""Cursors of lists: opaque to clients, keyset inside, pure.

A cursor names a place in the order of its list, not a count of items, so that no item is repeated or skipped when
earlier items come and go. It contains the kind of its list: one list's cursor is refused by another.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from schemas.ids import ChatId, UserId, is_uuid
from services.query.errors import InvalidCursor

RowT = TypeVar("RowT")

MAX_CURSOR_CHARACTERS: Final = 200
LOWEST_UUID: Final = "00000000-0000-0000-0000-000000000000"
"""The start of a list by user_id."""
HIGHEST_UUID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"

_NUMBER: Final = re.compile("0|[1-9][0-9]{0,17}", re.ASCII)
_LAST_US: Final = 253_402_300_799_999_999
"""The end of the year 9999, in microseconds since 1970."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def cut_at(limit: int, rows: Sequence[RowT], cursor_of: Callable[[RowT], str]) -> tuple[Sequence[RowT], str | None]:
    """Return the first `limit` rows, and the cursor that names the next one, or None if it was the last page.

    Fetch one row more than `limit`: it is not shown.
    """
    return rows[:limit], cursor_of(rows[limit]) if len(rows) > limit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatsCursor:
    """The last chat returned from a list by last activity, newest first."""

    active_at: datetime
    chat_id: ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCursor:
    """The last message that a search has considered, newest first."""

    sent_us: int
    chat_id: str
    seq: int


def encode_search(last: SearchCursor) -> str:
    return _encode("s", str(last.sent_us), last.chat_id, str(last.seq))


def decode_search(cursor: str) -> SearchCursor:
    """Return the last message that the previous page has considered. Raises InvalidCursor."""
    sent_us, chat_id, seq = _decode("s", cursor, 3)
    if _number(sent_us) > _LAST_US:
        raise InvalidCursor
    return SearchCursor(sent_us=int(sent_us), chat_id=_uuid(chat_id), seq=_number(seq))


def encode_members(first_of_next: UserId) -> str:
    return _encode("m", first_of_next)


def decode_members(cursor: str) -> UserId:
    """Return the user_id at which a list by user_id continues (or the next existing one). Raises InvalidCursor."""
    (user_id,) = _decode("m", cursor, 1)
    return UserId(_uuid(user_id))


def encode_reactions(emoji: str, user_id: str) -> str:
    return _encode("r", emoji.encode().hex(), user_id)


def decode_reactions(cursor: str) -> tuple[str, str]:
    """Return the emoji and the user_id at which a list of reactions continues. Raises InvalidCursor."""
    emoji, user_id = _decode("r", cursor, 2)
    try:
        return bytes.fromhex(emoji).decode(), _uuid(user_id)
    except ValueError:
        raise InvalidCursor from None


def encode_number(kind: str, number: int) -> str:
    """Return the cursor of a list in the order of one number. `kind` names the list: one letter."""
    return _encode(kind, str(number))


def decode_number(kind: str, cursor: str) -> int:
    """Return the number at which the list continues (or the next existing one). Raises InvalidCursor."""
    (number,) = _decode(kind, cursor, 1)
    return _number(number)


def encode_chats(last: ChatsCursor) -> str:
    return _encode("c", str((last.active_at - _EPOCH) // _MICROSECOND), last.chat_id)


def decode_chats(cursor: str) -> ChatsCursor:
    """Return the last chat of the previous page. Raises InvalidCursor."""
    microseconds, chat_id = _decode("c", cursor, 2)
    try:
        active_at = _EPOCH + timedelta(microseconds=int(microseconds))
    except (ValueError, OverflowError):
        raise InvalidCursor from None
    return ChatsCursor(active_at=active_at, chat_id=ChatId(_uuid(chat_id)))


def _encode(kind: str, *parts: str) -> str:
    return urlsafe_b64encode("/".join((kind, *parts)).encode()).rstrip(b"=").decode()


def _decode(kind: str, cursor: str, parts: int) -> list[str]:
    if len(cursor) > MAX_CURSOR_CHARACTERS or not cursor.isascii():
        raise InvalidCursor
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
    found, *rest = text.split("/")
    if found != kind or len(rest) != parts or _encode(kind, *rest) != cursor:
        raise InvalidCursor
    return rest


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise InvalidCursor
    return int(text)


def _uuid(text: str) -> str:
    if not is_uuid(text):
        raise InvalidCursor
    return text
