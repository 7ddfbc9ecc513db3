"""Receipts: unread counts, and how far each member has read and received."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field

from services.query.api.cursors import LOWEST_UUID, cut_at, decode_members, encode_members
from services.query.api.examples import BEN, CHAT
from services.query.api.json_text import dumps, instant
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListQuery, SeqInPath
from services.query.api.paths.members import page_of_members
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, OF_A_MESSAGE, OF_ANY, CallerOfRequest, json_response
from services.query.snapshot.reader import Row, Statement
from services.runtime.web.openapi import example
from services.runtime.web.problems import Problem

_EXAMPLE: Final[dict[str, Any]] = {"user_id": BEN, "read_seq": 0, "delivered_seq": 1, "last_read_at": None}


class Unread(BaseModel):
    model_config = example({"unread": 1})

    unread: int


class ChatUnread(BaseModel):
    chat_id: UUID
    unread: int


class AllUnread(BaseModel):
    model_config = example(
        {
            "total": 1,
            "chats": [{"chat_id": CHAT, "unread": 1}],
        }
    )

    total: int
    chats: list[ChatUnread] = Field(description="The chats with at least one unread message.")


class MemberReadState(BaseModel):
    user_id: UUID
    read_seq: int
    delivered_seq: int
    last_read_at: datetime | None


class ReadState(BaseModel):
    model_config = example({"items": [_EXAMPLE], "next": None})

    items: list[MemberReadState]
    next: str | None


class Receipt(BaseModel):
    user_id: UUID
    status: Literal["delivered", "read"]


class MessageReceipts(BaseModel):
    """The members who have received a message. Its sender and members who joined after it do not count."""

    model_config = example(
        {
            "recipient_count": 1,
            "delivered_count": 1,
            "read_count": 0,
            "items": [{"user_id": BEN, "status": "delivered"}],
            "next": None,
        }
    )

    recipient_count: int = Field(description="The present members that the message was for.")
    delivered_count: int = Field(description="Those who have received it, or read it.")
    read_count: int
    items: list[Receipt]
    next: str | None


def read_state_fields(row: Row) -> dict[str, object]:
    user_id, read_seq, delivered_seq, last_read_at = row
    return {
        "user_id": user_id,
        "read_seq": read_seq,
        "delivered_seq": delivered_seq,
        "last_read_at": None if last_read_at is None else instant(last_read_at),
    }


def message_receipts_json(counts: Row, rows: Sequence[Row], next_cursor: str | None) -> bytes:
    recipients, delivered, read = counts
    items = [{"user_id": user_id, "status": "read" if has_read else "delivered"} for user_id, has_read in rows]
    return dumps(
        {
            "recipient_count": recipients,
            "delivered_count": delivered,
            "read_count": read,
            "items": items,
            "next": next_cursor,
        }
    )


def unread_of_all_json(rows: Sequence[Row]) -> bytes:
    chats = [{"chat_id": chat_id, "unread": unread} for chat_id, unread in rows]
    return dumps({"total": sum(unread for _, unread in rows), "chats": chats})


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/unread", response_model=AllUnread, responses=OF_ANY)
    async def get_unread_of_all_chats(caller: CallerOfRequest, at_least: AtLeastHeader = None) -> Response:
        """The number of messages of others that you have not read, in total and per chat."""
        statement = Statement("unread_of_all", {"caller_id": caller.user_id})
        (rows,) = await reads.read(statement, at_least=reads.token_of(at_least))
        return json_response(unread_of_all_json(rows))

    @router.get("/chats/{chat_id}/unread", response_model=Unread, responses=OF_A_CHAT)
    async def get_unread(caller: CallerOfRequest, chat_id: ChatIdInPath, at_least: AtLeastHeader = None) -> Response:
        """The number of messages above your read cursor that are neither yours nor deleted."""
        rows = await reads.read_as_member("unread_of_chat", caller, chat_id, reads.token_of(at_least))
        return json_response(dumps({"unread": rows[0][0]}))

    @router.get("/chats/{chat_id}/read-state", response_model=ReadState, responses=OF_A_CHAT)
    async def list_read_state(
        caller: CallerOfRequest, chat_id: ChatIdInPath, page: ListQuery, at_least: AtLeastHeader = None
    ) -> Response:
        """The read and delivered cursors of each present member, by user_id."""
        rows, next_cursor = await page_of_members("read_state", reads, caller, chat_id, page, at_least)
        return json_response(dumps({"items": [read_state_fields(row) for row in rows], "next": next_cursor}))

    @router.get("/chats/{chat_id}/messages/{seq}/receipts", response_model=MessageReceipts, responses=OF_A_MESSAGE)
    async def list_receipts(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        seq: SeqInPath,
        page: ListQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The members who have received or read a message, by user_id, with counts over all pages."""
        counts, rows = await reads.read_all_as_member(
            ("receipt_counts", "receipts_of_message"),
            caller,
            chat_id,
            reads.token_of(at_least),
            seq=Int8(seq),
            from_user_id=LOWEST_UUID if page.cursor is None else decode_members(page.cursor),
            fetch=Int8(page.limit + 1),
        )
        if not counts:
            raise Problem("unknown_message", "The chat has no message with this seq.")
        shown, next_cursor = cut_at(page.limit, rows, lambda row: encode_members(row[0]))
        return json_response(message_receipts_json(counts[0], shown, next_cursor))
