"""Reactions: who reacts to a message."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field

from schemas import limits
from schemas.checks import one_form
from services.query.api.cursors import LOWEST_UUID, cut_at, decode_reactions, encode_reactions
from services.query.api.examples import BEN
from services.query.api.json_text import dumps
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, ListParameters, SeqInPath
from services.query.api.reads import Reads
from services.query.api.route import OF_A_CHAT, CallerOfRequest, json_response
from services.runtime.web.openapi import example


class UserReaction(BaseModel):
    emoji: str
    user_id: UUID


class Reactions(BaseModel):
    model_config = example({"items": [{"emoji": "👍", "user_id": BEN}], "next": None})

    items: list[UserReaction]
    next: str | None


class ReactionsParameters(ListParameters):
    emoji: str | None = Field(
        default=None,
        min_length=1,
        max_length=limits.EMOJI_BYTES,
        description="Only reactions with this emoji; U+FE0F makes no difference.",
    )


ReactionsQuery = Annotated[ReactionsParameters, Query()]


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get("/chats/{chat_id}/messages/{seq}/reactions", response_model=Reactions, responses=OF_A_CHAT)
    async def list_reactions(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        seq: SeqInPath,
        page: ReactionsQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The reactions to a message, by emoji and user_id. Empty if there is no such message."""
        emoji = None if page.emoji is None else one_form(page.emoji)
        from_emoji, from_user_id = (emoji or "", LOWEST_UUID) if page.cursor is None else decode_reactions(page.cursor)
        rows = await reads.read_as_member(
            "reactions" if emoji is None else "reactions_with",
            caller,
            chat_id,
            reads.token_of(at_least),
            seq=Int8(seq),
            from_emoji=from_emoji if emoji is None else emoji,
            from_user_id=from_user_id,
            fetch=Int8(page.limit + 1),
        )
        shown, next_cursor = cut_at(page.limit, rows, lambda row: encode_reactions(*row))
        items = [{"emoji": emoji, "user_id": user_id} for emoji, user_id in shown]
        return json_response(dumps({"items": items, "next": next_cursor}))
