"""Turns rows into the documented JSON: pure.

Messages are written directly as JSON text. A page of history is the most frequent response, and building 200 dicts only
to traverse them again costs more than the SQL; metadata, for example, arrives as JSON and is passed through. Everything
small uses `json.dumps`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from inspect import signature
from itertools import starmap
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec.json import encode

from schemas.ids import UserId
from services.query.api.delivery_status import DeliveryCursors, delivery_status
from services.query.api.windows import Page
from services.runtime.web.problems import PROBLEM_TYPES, sentence

Row = tuple[Any, ...]

_UTC_ZONES: Final = frozenset({UTC, ZoneInfo("UTC"), ZoneInfo("Etc/UTC")})
"""The zones of psycopg's datetimes if the session's time zone is UTC."""

_MINUTES: Final = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(24 * 60)]
_SECONDS: Final = [f"{second:02}." for second in range(60)]
_MILLISECONDS: Final = [f"{ms:03}Z" for ms in range(1000)]


def instant_of(at_ms: int) -> str:
    """Return RFC 3339 in UTC with milliseconds for ms since 1970. A page has up to two hundred instants: via datetime
    they would cost as much as the rest of it."""
    minutes, ms = divmod(at_ms, 60_000)
    day, minute = divmod(minutes, 24 * 60)
    second, ms = divmod(ms, 1000)
    return _day(day) + _MINUTES[minute] + _SECONDS[second] + _MILLISECONDS[ms]


@lru_cache(maxsize=4_096)
def _day(day: int) -> str:
    return f"{date(1970, 1, 1) + timedelta(days=day)}T"


def instant(at: datetime) -> str:
    """Return the same for a datetime. One in UTC is not converted again."""
    if at.tzinfo not in _UTC_ZONES:
        at = at.astimezone(UTC)
    return at.replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


def quoted(text: str) -> str:
    """Return a JSON string; msgspec writes the same as `json`, in a third of the time."""
    return encode(text).decode()


def message_writer(chat_id: str, status_of: Callable[[UserId, int], str]) -> Callable[..., str]:
    """Return the serializer of a chat's messages: called with the columns of a row, it returns the message.

    `status_of` maps a sender and a seq to the delivery status. Its parameters are the one declaration of the columns
    and their order; a function of one row is a tenth slower.
    """

    def message(
        seq: int, message_id: str, sender_id: UserId, message_text: str | None, client_generated_id: str,
        reply_to_message_id: str | None, reply_count: int, media_urls: Sequence[str], metadata: str | None,
        sent_at: int, edited_at: int | None, deleted_at: int | None, position: int, changed_position: int,
    ) -> str:  # fmt: skip
        """Return a message. A deleted one has only ids, figures and times, whatever the row still contains.

        `metadata` is JSON text; times are in ms since 1970.
        """
        if deleted_at is not None:
            message_text, media_urls, metadata = None, (), None
        return (
            f'{{"message_id":"{message_id}","chat_id":"{chat_id}","seq":{seq},"position":{position},'
            f'"changed_position":{changed_position},"sender_id":"{sender_id}",'
            f'"client_generated_id":{quoted(client_generated_id)},'
            f'"text":{"null" if message_text is None else quoted(message_text)},'
            f'"reply_to_message_id":{_uuid_or_null(reply_to_message_id)},'
            f'"media_urls":{_strings(media_urls)},"metadata":{"null" if metadata is None else metadata},'
            f'"sent_at":"{instant_of(sent_at)}","edited_at":{_instant_or_null(edited_at)},'
            f'"deleted_at":{_instant_or_null(deleted_at)},"status":"{status_of(sender_id, seq)}",'
            f'"reactions":[],"reply_count":{reply_count}}}'
        )

    return message


MESSAGE_COLUMNS: Final = tuple(signature(message_writer("", lambda _sender_id, _seq: "")).parameters)
"""Columns of the SQL fragment `message_columns`, in order."""
SEQ: Final = MESSAGE_COLUMNS.index("seq")


def history(chat_id: str, page: Page[Row], cursors: DeliveryCursors) -> bytes:
    messages = ",".join(starmap(message_writer(chat_id, cursors.status), page.rows))
    before, after = _boolean(page.has_more_before), _boolean(page.has_more_after)
    return f'{{"messages":[{messages}],"has_more_before":{before},"has_more_after":{after}}}'.encode()


def chat(
    chat_id: str, kind: str, name: str | None, created_by: str, created_at: datetime, last_seq: int,
    last_position: int, active_at: datetime, role: str, joined_at: datetime, joined_seq: int, read_seq: int,
    delivered_seq: int, unread: int, peer_id: str | None, read_by_all: int | None, delivered_to_all: int | None,
    first_joined: int | None, *last: Any,
) -> str:  # fmt: skip
    """Return a chat as one of its members sees it, with its last message or null.

    The parameters are the columns of a row, in their order; `last` are those of the message: None in a chat
    without messages.
    """
    last_message = "null"
    if last[SEQ] is not None:
        status = delivery_status(read_by_all, delivered_to_all, first_joined, last[SEQ])
        last_message = message_writer(chat_id, lambda _sender_id, _seq: status)(*last)
    head = dumps(
        {
            "chat_id": chat_id,
            "kind": kind,
            "name": name,
            "peer_id": peer_id,
            "created_by": created_by,
            "created_at": instant(created_at),
            "last_seq": last_seq,
            "last_position": last_position,
            "last_activity_at": instant(active_at),
            "role": role,
            "joined_at": instant(joined_at),
            "joined_seq": joined_seq,
            "read_seq": read_seq,
            "delivered_seq": delivered_seq,
            "unread": unread,
        }
    ).decode()
    return f'{head[:-1]},"last_message":{last_message}}}'


CHAT_COLUMNS: Final = tuple(signature(chat).parameters)[:-1]
"""Columns of the SQL fragment `chat_columns`, in order; those of the last message follow."""
ACTIVE_AT: Final = CHAT_COLUMNS.index("active_at")


def items(texts: Sequence[str], next_cursor: str | None) -> bytes:
    """Return a list of items that are already JSON text."""
    return f'{{"items":[{",".join(texts)}],"next":{"null" if next_cursor is None else quoted(next_cursor)}}}'.encode()


def member(row: Row) -> dict[str, object]:
    user_id, role, joined_at, joined_seq = row
    return {"user_id": user_id, "role": role, "joined_at": instant(joined_at), "joined_seq": joined_seq}


def read_state(row: Row) -> dict[str, object]:
    user_id, read_seq, delivered_seq, last_read_at = row
    return {
        "user_id": user_id,
        "read_seq": read_seq,
        "delivered_seq": delivered_seq,
        "last_read_at": None if last_read_at is None else instant(last_read_at),
    }


def unread_of_all(rows: Sequence[Row]) -> bytes:
    chats = [{"chat_id": chat_id, "unread": unread} for chat_id, unread in rows]
    return dumps({"total": sum(unread for _, unread in rows), "chats": chats})


def command_status(
    chat_id: str, command_id: str, partition: int, accepted_message: Row | None, outcome: Row | None
) -> tuple[bytes, int | None] | None:
    """Return a command's status, with the seq of the message that it sent, if any; None if nothing is known of it.

    It is `accepted` if its id ever was, otherwise its last outcome. A duplicate or a conflict is only decided against
    an id that was accepted before, so either proves `accepted`: a duplicate with the original's figures, a conflict
    without.

    :param accepted_message: (seq, position, sent_at in ms) of the message with this id.
    :param outcome: (outcome, reason, seq, position, index, detail) as selected by `outcome_of_command`. A rejection
        without a detail was projected by a release that did not store it; its reason's title is used instead.
    """
    ids = {"chat_id": chat_id, "command_id": command_id}
    token = None if outcome is None else f"{partition}:{outcome[4]}"
    if accepted_message is not None:
        seq, position, sent_at = accepted_message
        figures = {"message_id": command_id, "seq": seq, "position": position, "sent_at": instant_of(sent_at)}
        return dumps(_present({"outcome": "accepted", **ids, **figures, "token": token})), seq
    if outcome is None:
        return None
    kind, reason, seq, position, _, detail = outcome
    if kind == "duplicate":
        kind = "accepted"
    elif reason == "conflict":
        kind, reason = "accepted", None
    figures = {
        "reason": reason,
        "detail": None if reason is None else sentence(detail or _title(reason)),
        "seq": seq,
        "position": position,
        "token": token,
    }
    return dumps(_present({"outcome": kind, **ids, **figures})), None


def _title(reason: str) -> str | None:
    problem = PROBLEM_TYPES.get(reason)
    return None if problem is None else problem.title


def command_pending(chat_id: str, command_id: str) -> bytes:
    return dumps({"outcome": "pending", "chat_id": chat_id, "command_id": command_id})


def dumps(value: object) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _strings(values: Sequence[str]) -> str:
    return f"[{','.join(map(quoted, values))}]" if values else "[]"


def _uuid_or_null(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'


def _instant_or_null(at_ms: int | None) -> str:
    return "null" if at_ms is None else f'"{instant_of(at_ms)}"'


def _boolean(value: bool) -> str:
    return "true" if value else "false"
