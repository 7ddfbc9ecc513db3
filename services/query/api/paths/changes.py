"""What changed in a chat since a position: messages and members, each as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import starmap
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, BeforeValidator, Field

from schemas.bodies import ChatKind, Role
from schemas.instants import instant_of
from schemas.limits import MEMBERS_PER_COMMAND
from services.query.api.change_pages import MAX_ANSWER_BYTES, Changed, cut_oldest
from services.query.api.delivery_status import ChatStanding
from services.query.api.examples import ANNA, CHAT
from services.query.api.json_text import boolean, instant_or_null
from services.query.api.message_json import CHANGED_POSITION, SEQ, each_message_json
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, QueryParameters, Seq, whole_number
from services.query.api.paths.chats import chat_head_json
from services.query.api.paths.messages import MESSAGE_EXAMPLE, Message
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, CallerOfRequest, json_response
from services.query.problems import invalid_parameter
from services.query.snapshot.at_least import Token
from services.query.snapshot.reader import Row
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example

MAX_CHANGES: Final = 500
FETCHED_AT_ONCE: Final = MEMBERS_PER_COMMAND + 2
"""One more than the members that the creation of a chat adds at one position."""
RESERVED_BYTES: Final = 1_024
"""For what surrounds the lists and the chat in an answer."""

HEAD_EXAMPLE: Final[dict[str, Any]] = {
    "chat_id": CHAT,
    "kind": "group",
    "name": "ops",
    "peer_id": None,
    "position": 2,
    "last_seq": 1,
    "read_seq": 0,
    "unread": 1,
    "last_message": MESSAGE_EXAMPLE,
    "my_role": "member",
}
_MEMBER_EXAMPLE: Final[dict[str, Any]] = {
    "user_id": ANNA,
    "role": "owner",
    "joined_at": "2026-01-31T11:59:00.000Z",
    "joined_seq": 0,
    "left_at": None,
}
_CURSOR_EXAMPLE: Final[dict[str, Any]] = {"user_id": ANNA, "read_seq": 0, "delivered_seq": 0, "last_read_at": None}
CHANGES_EXAMPLE: Final[dict[str, Any]] = {
    "messages": [MESSAGE_EXAMPLE],
    "members": [_MEMBER_EXAMPLE],
    "cursors": [_CURSOR_EXAMPLE],
    "chat": HEAD_EXAMPLE,
    "next_position": 2,
    "position": 2,
    "last_seq": 1,
}


class ChatHead(BaseModel):
    """A chat as a list of chats shows it to the caller, a member of it."""

    model_config = example(HEAD_EXAMPLE)

    chat_id: UUID
    kind: ChatKind
    name: str | None = Field(description="The name of a group; null for a direct chat.")
    peer_id: UUID | None = Field(
        description="In a direct chat, the other user, or the caller in a chat with themselves."
    )
    position: int
    last_seq: int
    read_seq: int
    unread: int
    last_message: Message | None
    my_role: Role


class ChangedMember(BaseModel):
    """A present or former member."""

    user_id: UUID
    role: Role
    joined_at: datetime
    joined_seq: int
    left_at: datetime | None = Field(description="Null for a present member.")


class MemberCursor(BaseModel):
    """How far a present member has read and received."""

    user_id: UUID
    read_seq: int
    delivered_seq: int
    last_read_at: datetime | None


class ChangesOfChat(BaseModel):
    messages: list[Message] = Field(description="Sent or changed, by `changed_position`; deleted ones too.")
    members: list[ChangedMember] = Field(
        description="Those of whom anything changed, their cursors too; former ones too."
    )
    cursors: list[MemberCursor] = Field(description="The cursors of the present ones among them.")
    next_position: int = Field(description="`after_position` of the next page, or of the next time.")
    position: int = Field(description="Position of the chat in the snapshot that the answer is of.")
    last_seq: int = Field(description="Seq of its newest message then.")


class Changes(ChangesOfChat):
    """A page of changes, the oldest first. A message that changed twice is in it once, as it is now."""

    model_config = example(CHANGES_EXAMPLE | {"has_more": False})

    chat: ChatHead
    has_more: bool


ChangesLimit = Annotated[
    int,
    Field(ge=1, le=MAX_CHANGES, description="Maximum messages, and members; what one event changed stays together."),
    BeforeValidator(whole_number),
]


class ChangesParameters(QueryParameters):
    after_position: Seq = Field(default=0, description="The `next_position` or `position` up to which you have it all.")
    limit: ChangesLimit = MAX_CHANGES


ChangesQuery = Annotated[ChangesParameters, Query()]


class MemberRow(NamedTuple):
    """The columns of the SQL fragment `member_columns`. Times are in ms since 1970."""

    user_id: str
    role: str
    joined_at: int
    joined_seq: int
    left_at: int | None
    read_seq: int
    delivered_seq: int
    last_read_at: int | None
    changed_position: int

    def changed(self) -> Changed:
        member = (
            f'{{"user_id":"{self.user_id}","role":"{self.role}","joined_at":"{instant_of(self.joined_at)}",'
            f'"joined_seq":{self.joined_seq},"left_at":{instant_or_null(self.left_at)}}}'
        )
        cursor = (
            f'{{"user_id":"{self.user_id}","read_seq":{self.read_seq},"delivered_seq":{self.delivered_seq},'
            f'"last_read_at":{instant_or_null(self.last_read_at)}}}'
        )
        texts = (member.encode(), cursor.encode() if self.left_at is None else b"")
        return Changed(self.changed_position, texts)


def changed_members(rows: Iterable[Row]) -> list[Changed]:
    """Return the members of rows with the columns of MemberRow, in the order of their changes."""
    return sorted(row.changed() for row in starmap(MemberRow, rows))


def changed_messages(chat_id: str, rows: Iterable[Row], standing: ChatStanding) -> list[Changed]:
    """Return the messages of rows with MESSAGE_COLUMNS, in the order of their changes."""
    in_order = sorted(rows, key=itemgetter(CHANGED_POSITION, SEQ))
    texts = each_message_json(chat_id, in_order, standing.cursors.steps_of)
    return [Changed(row[CHANGED_POSITION], (text,)) for row, text in zip(in_order, texts, strict=True)]


def lists_json(messages: Sequence[Changed], members: Sequence[Changed]) -> bytes:
    """Return the fields of ChangesOfChat that are lists."""
    return b'"messages":[%b],"members":[%b],"cursors":[%b]' % (
        b",".join(each.texts[0] for each in messages),
        b",".join(each.texts[0] for each in members),
        b",".join(each.texts[1] for each in members if each.texts[1]),
    )


async def read_changes(
    reads: Reads, caller: Caller, chat_id: str, asked: ChangesParameters, at_least: Token | None
) -> bytes:
    """Return a page of what changed in a chat after a position."""
    fetch_members = asked.limit + FETCHED_AT_ONCE
    standing, (heads, message_rows, member_rows) = await reads.read_all_with_standing(
        ("chat_of_caller", "changed_messages", "changed_members"),
        caller,
        chat_id,
        at_least,
        after_position=Int8(asked.after_position),
        fetch=Int8(asked.limit + 2),
        fetch_members=Int8(fetch_members),
        max_bytes=Int8(MAX_ANSWER_BYTES),
    )
    if asked.after_position > standing.position:
        raise invalid_parameter(
            "query",
            "after_position",
            f"after_position is beyond the chat, which is at {standing.position}: if a command's response told you of"
            " it, send its token as Gapless-At-Least.",
        )
    head = chat_head_json(*heads[0])
    messages = changed_messages(chat_id, (row[1:] for row in message_rows), standing)
    found = message_rows[0][0] if message_rows else 0
    members = changed_members(member_rows)
    lists = (
        (messages, len(messages) == found < asked.limit + 2),
        (members, len(members) < fetch_members),
    )
    budget = MAX_ANSWER_BYTES - RESERVED_BYTES - len(head)
    cut = cut_oldest(standing.position, lists, limit=asked.limit, budget=budget)
    return b'{%b,"chat":%b,"next_position":%d,"position":%d,"last_seq":%d,"has_more":%b}' % (
        lists_json(cut.of(messages), cut.of(members)),
        head,
        cut.next_position,
        standing.position,
        standing.last_seq,
        boolean(cut.has_more).encode(),
    )


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/changes", response_model=Changes, responses=OF_A_CHAT)
    async def list_changes(
        caller: CallerOfRequest, chat_id: ChatIdInPath, asked: ChangesQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """What changed in a chat after a position: messages and members as they are now, the oldest change first.

        Replace what you have by it, and go on at `next_position` while `has_more`. A change made while you page comes
        again, on a later page. An answer has at most 1 MiB, so a page may be shorter than `limit`.
        """
        return json_response(await read_changes(reads, caller, chat_id, asked, reads.token_of(at_least)))
