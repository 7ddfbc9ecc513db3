"""Chats: the caller's list, and one of them."""

from __future__ import annotations

from datetime import datetime
from inspect import signature
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field

from schemas.bodies import ChatKind, Role
from services.query.api.cursors import HIGHEST_UUID, ChatsCursor, decode_chats, encode_chats
from services.query.api.delivery_status import steps
from services.query.api.examples import ANNA, CHAT
from services.query.api.json_text import dumps, instant, items
from services.query.api.message_json import SEQ, messages_json
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListParameters, ListQuery
from services.query.api.paths.messages import MESSAGE_EXAMPLE, Message
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, OF_ANY, CallerOfRequest, json_response
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row, Statement
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example

_EXAMPLE: Final[dict[str, Any]] = {
    "chat_id": CHAT,
    "kind": "group",
    "name": "ops",
    "peer_id": None,
    "created_by": ANNA,
    "created_at": "2026-01-31T11:59:00.000Z",
    "last_seq": 1,
    "last_position": 2,
    "last_activity_at": "2026-01-31T12:00:00.045Z",
    "role": "member",
    "joined_at": "2026-01-31T11:59:00.000Z",
    "joined_seq": 0,
    "read_seq": 0,
    "delivered_seq": 0,
    "unread": 1,
    "last_message": MESSAGE_EXAMPLE,
}


class Chat(BaseModel):
    """A chat as the caller, a member of it, sees it."""

    model_config = example(_EXAMPLE)

    chat_id: UUID
    kind: ChatKind
    name: str | None = Field(description="The name of a group; null for a direct chat.")
    peer_id: UUID | None = Field(
        description="In a direct chat, the other user, or the caller in a chat with themselves."
    )
    created_by: UUID
    created_at: datetime
    last_seq: int
    last_position: int
    last_activity_at: datetime = Field(description="Time of the last message, or of the creation.")
    role: Role
    joined_at: datetime
    joined_seq: int
    read_seq: int
    delivered_seq: int
    unread: int
    last_message: Message | None


class Chats(BaseModel):
    model_config = example({"items": [_EXAMPLE], "next": None})

    items: list[Chat]
    next: str | None


def chat_json(
    chat_id: str, kind: str, name: str | None, created_by: str, created_at: datetime, last_seq: int,
    last_position: int, active_at: datetime, role: str, joined_at: datetime, joined_seq: int, read_seq: int,
    delivered_seq: int, unread: int, peer_id: str | None, read_by_all: int | None, delivered_to_all: int | None,
    first_joined: int | None, *last: Any,
) -> str:  # fmt: skip
    """Return a chat as one of its members sees it, with its last message or null.

    The parameters are the columns of a row, in their order; `last` are those of the message: None in a chat
    without messages.
    """
    last_message = _last_message(chat_id, read_by_all, delivered_to_all, first_joined, last)
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


def chat_head_json(*row: Any) -> bytes:
    """Return of the same columns what sync shows."""
    of_chat, last = dict(zip(CHAT_COLUMNS, row, strict=False)), row[len(CHAT_COLUMNS) :]
    lowest = (of_chat["read_by_all"], of_chat["delivered_to_all"], of_chat["first_joined"])
    head = dumps(
        {
            "chat_id": of_chat["chat_id"],
            "kind": of_chat["kind"],
            "name": of_chat["name"],
            "peer_id": of_chat["peer_id"],
            "position": of_chat["last_position"],
            "last_seq": of_chat["last_seq"],
            "read_seq": of_chat["read_seq"],
            "unread": of_chat["unread"],
            "my_role": of_chat["role"],
        }
    )
    return b'%b,"last_message":%b}' % (head[:-1], _last_message(of_chat["chat_id"], *lowest, last).encode())


def _last_message(
    chat_id: str, read_by_all: int | None, delivered_to_all: int | None, first_joined: int | None, last: Row
) -> str:
    if last[SEQ] is None:
        return "null"
    of_sender = steps(read_by_all, delivered_to_all, first_joined)
    return messages_json(chat_id, [last], lambda _sender_id: of_sender).decode()


CHAT_COLUMNS: Final = tuple(signature(chat_json).parameters)[:-1]
"""Columns of the SQL fragment `chat_columns`, in order; those of the last message follow."""
_ACTIVE_AT: Final = CHAT_COLUMNS.index("active_at")


async def read_chats(reads: Reads, caller: Caller, page: ListParameters, at_least: Token | None) -> bytes:
    """Return the caller's chats, newest activity first."""
    after = None if page.cursor is None else decode_chats(page.cursor)
    parameters = {
        "caller_id": caller.user_id,
        "active_at": "infinity" if after is None else after.active_at.isoformat(),
        "chat_id": HIGHEST_UUID if after is None else after.chat_id,
        "fetch": Int8(page.limit + 1),
    }
    (rows,) = await reads.read(Statement("chats_of_caller", parameters), at_least=at_least)
    shown = rows[: page.limit]
    next_cursor = None
    if len(rows) > page.limit:
        next_cursor = encode_chats(ChatsCursor(active_at=shown[-1][_ACTIVE_AT], chat_id=shown[-1][0]))
    return items([chat_json(*row) for row in shown], next_cursor)


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats", response_model=Chats, responses=OF_ANY)
    async def list_chats(caller: CallerOfRequest, page: ListQuery, at_least: AtLeastHeader = None) -> Response:
        """Your chats, newest activity first, each with its last message and your unread count.

        A chat that becomes active while you page moves to the front: request the first page again to see it.
        """
        return json_response(await read_chats(reads, caller, page, reads.token_of(at_least)))

    @router.get("/chats/{chat_id}", response_model=Chat, responses=OF_A_CHAT)
    async def get_chat(caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None) -> Response:
        """One of your chats."""
        rows = await reads.read_as_member("chat_of_caller", caller, chat_id, reads.token_of(at_least))
        return json_response(chat_json(*rows[0]).encode())
