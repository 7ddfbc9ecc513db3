"""Threads: the replies of one, and the threads of a chat by their last reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel

from services.query.api.cursors import cut_at, decode_number, encode_number
from services.query.api.delivery_status import ChatStanding
from services.query.api.json_text import quoted
from services.query.api.message_json import MESSAGE_COLUMNS, SEQ, messages_json
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListQuery, SeqInPath
from services.query.api.paths.messages import MESSAGE_EXAMPLE, Message
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, CallerOfRequest, json_response
from services.query.api.windows import MAX_SEQ
from services.query.snapshot.reader import Row
from services.runtime.web.openapi import example

_LAST_REPLY_SEQ: Final = MESSAGE_COLUMNS.index("last_reply_seq")
_REPLIES: Final = "p"
_THREADS: Final = "t"
"""Kinds of cursors."""
_ROOT_EXAMPLE: Final[dict[str, Any]] = {**MESSAGE_EXAMPLE, "reply_count": 1, "last_reply_seq": 2}
_REPLY_EXAMPLE: Final[dict[str, Any]] = {
    **MESSAGE_EXAMPLE,
    "message_id": "1d0f2d0c-8b0e-5b6f-9a55-5c1f6f0f9a11",
    "client_generated_id": "hello-2",
    "seq": 2,
    "position": 3,
    "changed_position": 3,
    "text": "It is.",
    "reply_to_message_id": MESSAGE_EXAMPLE["message_id"],
}


class Replies(BaseModel):
    """Messages of one thread, ascending by seq."""

    model_config = example({"items": [_REPLY_EXAMPLE], "next": None, "position": 3, "last_seq": 2})

    items: list[Message]
    next: str | None
    position: int
    last_seq: int


class Threads(BaseModel):
    """First messages of threads, the one with the newest reply first."""

    model_config = example({"items": [_ROOT_EXAMPLE], "next": None, "position": 3, "last_seq": 2})

    items: list[Message]
    next: str | None
    position: int
    last_seq: int


def page_json(chat_id: str, rows: Sequence[Row], next_cursor: str | None, standing: ChatStanding) -> bytes:
    following = "null" if next_cursor is None else quoted(next_cursor)
    end = f'],"next":{following},"position":{standing.position},"last_seq":{standing.last_seq}}}'
    messages = messages_json(chat_id, rows, standing.cursors.steps_of)
    return b"".join((b'{"items":[', messages, end.encode()))


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/messages/{seq}/replies", response_model=Replies, responses=OF_A_CHAT)
    async def list_replies(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        seq: SeqInPath,
        page: ListQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The replies of the thread that begins with this message, in chat order, deleted ones too.

        Empty for a reply, which belongs to the thread of the first message, and if there is no such message.
        """
        standing, rows = await reads.read_with_standing(
            "replies",
            caller,
            chat_id,
            reads.token_of(at_least),
            root_seq=Int8(seq),
            from_seq=Int8(0 if page.cursor is None else decode_number(_REPLIES, page.cursor)),
            fetch=Int8(page.limit + 1),
        )
        shown, next_cursor = cut_at(page.limit, rows, lambda row: encode_number(_REPLIES, row[SEQ]))
        return json_response(page_json(chat_id, shown, next_cursor, standing))

    @router.get("/chats/{chat_id}/threads", response_model=Threads, responses=OF_A_CHAT)
    async def list_threads(
        caller: CallerOfRequest, chat_id: ChatIdInPath, page: ListQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """The threads with at least one live reply, by their last one, newest first.

        A thread that gets a reply while you page moves to the front: request the first page again to see it.
        """
        standing, rows = await reads.read_with_standing(
            "threads",
            caller,
            chat_id,
            reads.token_of(at_least),
            from_last_reply_seq=Int8(MAX_SEQ if page.cursor is None else decode_number(_THREADS, page.cursor)),
            fetch=Int8(page.limit + 1),
        )
        shown, next_cursor = cut_at(page.limit, rows, lambda row: encode_number(_THREADS, row[_LAST_REPLY_SEQ]))
        return json_response(page_json(chat_id, shown, next_cursor, standing))
