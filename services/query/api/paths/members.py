"""Members: the present ones of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel

from schemas.bodies import Role
from services.query.api.cursors import LOWEST_UUID, cut_at, decode_members, encode_members
from services.query.api.examples import BEN
from services.query.api.json_text import dumps, instant
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListParameters, ListQuery
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, CallerOfRequest, json_response
from services.query.snapshot.reader import Row
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import example

_EXAMPLE: Final[dict[str, Any]] = {
    "user_id": BEN,
    "role": "member",
    "joined_at": "2026-01-31T11:59:00.000Z",
    "joined_seq": 0,
}


class Member(BaseModel):
    user_id: UUID
    role: Role
    joined_at: datetime
    joined_seq: int


class Members(BaseModel):
    model_config = example({"items": [_EXAMPLE], "next": None})

    items: list[Member]
    next: str | None


def member_fields(row: Row) -> dict[str, object]:
    user_id, role, joined_at, joined_seq = row
    return {"user_id": user_id, "role": role, "joined_at": instant(joined_at), "joined_seq": joined_seq}


async def page_of_members(
    block: str, reads: Reads, caller: Caller, chat_id: str, page: ListParameters, at_least: str | None
) -> tuple[Sequence[Row], str | None]:
    """Return a page of the present members by user_id, as a statement selects them, and the cursor of the next one."""
    token = reads.token_of(at_least)
    rows = await reads.read_as_member(
        block,
        caller,
        chat_id,
        token,
        from_user_id=LOWEST_UUID if page.cursor is None else decode_members(page.cursor),
        fetch=Int8(page.limit + 1),
    )
    return cut_at(page.limit, rows, lambda row: encode_members(row[0]))


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/members", response_model=Members, responses=OF_A_CHAT)
    async def list_members(
        caller: CallerOfRequest, chat_id: ChatIdInPath, page: ListQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """The present members, by user_id."""
        rows, next_cursor = await page_of_members("members", reads, caller, chat_id, page, at_least)
        return json_response(dumps({"items": [member_fields(row) for row in rows], "next": next_cursor}))
