"""Messages: a page of history, one message, the newest seq."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field, model_validator

from services.query.api import windows
from services.query.api.delivery_status import ChatStanding
from services.query.api.entity_tags import entity_tag, none_match_fails
from services.query.api.examples import ANNA, CHAT
from services.query.api.json_text import boolean, dumps
from services.query.api.message_json import MESSAGE_COLUMNS, SEQ, messages_json
from services.query.api.parameters import (
    DEFAULT_LIMIT,
    AtLeastHeader,
    ChatIdInPath,
    IfNoneMatchHeader,
    Limit,
    QueryParameters,
    Seq,
    SeqInPath,
    WireUuid,
)
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, OF_A_MESSAGE, CallerOfRequest, json_response
from services.query.api.windows import Page, Window, cut
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example, headers
from services.runtime.web.problems import Problem

MESSAGE_EXAMPLE: Final[dict[str, Any]] = {
    "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
    "chat_id": CHAT,
    "seq": 1,
    "position": 2,
    "changed_position": 2,
    "sender_id": ANNA,
    "client_generated_id": "hello-1",
    "text": "Is the log gap-free?",
    "reply_to_message_id": None,
    "media_urls": [],
    "metadata": None,
    "sent_at": "2026-01-31T12:00:00.045Z",
    "revision": 0,
    "edited_at": None,
    "deleted_at": None,
    "status": "sent",
    "reactions": [],
    "reply_count": 0,
    "last_reply_seq": None,
}


class ReactionCount(BaseModel):
    emoji: str
    count: int
    mine: bool


class Message(BaseModel):
    """A message. If it is deleted, `text` and `metadata` are null and `media_urls` is empty; seq and ids stay."""

    model_config = example(MESSAGE_EXAMPLE)

    message_id: UUID
    chat_id: UUID
    seq: int
    position: int
    changed_position: int
    sender_id: UUID
    client_generated_id: str
    text: str | None
    reply_to_message_id: UUID | None
    media_urls: list[str]
    metadata: dict[str, Any] | None
    sent_at: datetime
    revision: int = Field(description="The number of its edits: what `If-Match` names in the next one.")
    edited_at: datetime | None
    deleted_at: datetime | None
    status: Literal["sent", "delivered", "read"] = Field(
        description="`read` or `delivered` if every other present member who joined before the message has read or"
        " received it, else `sent`; `sent` also if there is no such member."
    )
    reactions: list[ReactionCount] = Field(description="In the order in which each emoji was first used.")
    reply_count: int = Field(description="For the first message of a thread, the number of its live replies.")
    last_reply_seq: int | None = Field(description="Seq of the last of them.")


class History(BaseModel):
    """Messages ascending by seq. On an empty page the flags refer to messages before and after the bound."""

    model_config = example(
        {
            "messages": [MESSAGE_EXAMPLE],
            "has_more_before": False,
            "has_more_after": False,
            "position": 2,
            "last_seq": 1,
        }
    )

    messages: list[Message]
    has_more_before: bool
    has_more_after: bool
    position: int = Field(description="Position of the chat in the snapshot that the page is of.")
    last_seq: int = Field(description="Seq of its newest message then.")


class LatestSeq(BaseModel):
    model_config = example({"seq": 1})

    seq: int = Field(description="0 in a chat without messages.")


class HistoryParameters(QueryParameters):
    """The page of messages: at most one bound; without one, the newest messages."""

    before_seq: Seq | None = Field(default=None, description="Messages with a lower seq.")
    after_seq: Seq | None = Field(default=None, description="Messages with a higher seq.")
    around_seq: Seq | None = Field(default=None, description="This message in the middle of the page.")
    limit: Limit = DEFAULT_LIMIT
    sender_id: WireUuid | None = Field(default=None, description="Only messages of this sender.")

    @model_validator(mode="after")
    def _one_bound_at_most(self) -> HistoryParameters:
        if sum(bound is not None for bound in (self.before_seq, self.after_seq, self.around_seq)) > 1:
            raise ValueError("give at most one of before_seq, after_seq and around_seq")
        return self

    @property
    def window(self) -> Window:
        if self.before_seq is not None:
            return windows.before(self.before_seq, self.limit)
        if self.after_seq is not None:
            return windows.after(self.after_seq, self.limit)
        if self.around_seq is not None:
            return windows.around(self.around_seq, self.limit)
        return windows.newest(self.limit)


HistoryQuery = Annotated[HistoryParameters, Query()]


_REVISION: Final = MESSAGE_COLUMNS.index("revision")
_MESSAGE_RESPONSES: Final = OF_A_MESSAGE | {
    200: headers("ETag"),
    304: {"description": "It is shown as `If-None-Match` says."} | headers("ETag"),
}


def history_json(chat_id: str, page: Page[Row], standing: ChatStanding) -> bytes:
    before, after = boolean(page.has_more_before), boolean(page.has_more_after)
    end = (
        f'],"has_more_before":{before},"has_more_after":{after},'
        f'"position":{standing.position},"last_seq":{standing.last_seq}}}'
    )
    messages = messages_json(chat_id, page.rows, standing.cursors.steps_of)
    return b"".join((b'{"messages":[', messages, end.encode()))


async def read_history(
    reads: Reads, caller: Caller, chat_id: str, bounds: HistoryParameters, at_least: Token | None
) -> bytes:
    """Return a page of messages, ascending by seq; only those of one sender if the bounds name it."""
    window = bounds.window
    block, sender = ("page", {}) if bounds.sender_id is None else ("page_of_sender", {"sender_id": bounds.sender_id})
    standing, rows = await reads.read_with_standing(
        block,
        caller,
        chat_id,
        at_least,
        split=Int8(window.split),
        fetch_below=Int8(window.fetch_below),
        fetch_above=Int8(window.fetch_above),
        **sender,
    )
    below = [row for row in rows if row[SEQ] < window.split]
    above = [row for row in rows if row[SEQ] >= window.split]
    return history_json(chat_id, cut(window, below, above), standing)


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/messages", response_model=History, responses=OF_A_CHAT)
    async def list_messages(
        caller: CallerOfRequest, chat_id: ChatIdInPath, bounds: HistoryQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """A page of messages, ascending by seq. Bounds are exclusive, except that around_seq is in its page."""
        return json_response(await read_history(reads, caller, chat_id, bounds, reads.token_of(at_least)))

    @router.get("/chats/{chat_id}/messages/{seq}", response_model=Message, responses=_MESSAGE_RESPONSES)
    async def get_message(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        seq: SeqInPath,
        at_least: AtLeastHeader = None,
        if_none_match: IfNoneMatchHeader = None,
    ) -> Response:
        """One message. Its `ETag` is also an `If-Match` of an edit."""
        token = reads.token_of(at_least)
        standing, rows = await reads.read_with_standing("message", caller, chat_id, token, seq=Int8(seq))
        if not rows:
            raise Problem("unknown_message", "The chat has no message with this seq.")
        body = messages_json(chat_id, rows, standing.cursors.steps_of)
        tag = entity_tag(rows[0][_REVISION], body)
        if none_match_fails(if_none_match, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return json_response(body, {"ETag": tag})

    @router.get("/chats/{chat_id}/latest-seq", response_model=LatestSeq, responses=OF_A_CHAT)
    async def get_latest_seq(
        caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None
    ) -> Response:
        """The seq of the newest message."""
        rows = await reads.read_as_member("latest_seq", caller, chat_id, reads.token_of(at_least))
        return json_response(dumps({"seq": rows[0][0]}))
