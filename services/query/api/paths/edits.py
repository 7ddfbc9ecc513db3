"""Edits: the texts of a message that its edits replaced."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field

from services.query.api.cursors import cut_at, decode_number, encode_number
from services.query.api.json_text import dumps, instant
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListQuery, SeqInPath
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, CallerOfRequest, json_response
from services.query.api.windows import MAX_SEQ
from services.runtime.web.openapi import example

_EDITS: Final = "e"
"""Kind of cursor."""


class EarlierText(BaseModel):
    revision: int = Field(description="The revision that had the text; 0 is the message as it was sent.")
    text: str
    written_at: datetime = Field(description="Time of that send or edit.")


class Edits(BaseModel):
    """What edits replaced, newest first."""

    model_config = example(
        {
            "items": [{"revision": 0, "text": "Is the log gap-fre?", "written_at": "2026-01-31T12:00:00.045Z"}],
            "next": None,
        }
    )

    items: list[EarlierText]
    next: str | None


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/messages/{seq}/edits", response_model=Edits, responses=OF_A_CHAT)
    async def list_edits(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        seq: SeqInPath,
        page: ListQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The earlier texts of a message, newest first. Empty if it was never edited, is deleted or does not exist."""
        rows = await reads.read_as_member(
            "edits",
            caller,
            chat_id,
            reads.token_of(at_least),
            seq=Int8(seq),
            from_revision=Int8(MAX_SEQ if page.cursor is None else decode_number(_EDITS, page.cursor)),
            fetch=Int8(page.limit + 1),
        )
        shown, next_cursor = cut_at(page.limit, rows, lambda row: encode_number(_EDITS, row[0]))
        items = [
            {"revision": revision, "text": text, "written_at": instant(written_at)}
            for revision, text, written_at in shown
        ]
        return json_response(dumps({"items": items, "next": next_cursor}))
