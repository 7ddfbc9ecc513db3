"""Reactions: adding and removing the caller's own."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from schemas.bodies import Reaction
from schemas.checks import one_form
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler
from services.ingest.api.requests import Envelope, NoFields, build_change, parse_body
from services.ingest.api.responses import CommandResponse, changed
from services.ingest.api.route import (
    ChatIdInPath,
    CommandRequest,
    EmojiInPath,
    KeyedRequest,
    SeqInPath,
    described,
    other_responses,
)
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import TokenText, UuidText, example

_PATH: Final = "/v1/chats/{chat_id}/messages/{seq}/reactions/{emoji}"


class ReactionChanged(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "seq": 1,
            "emoji": "👍",
            "position": 4,
            "token": "5:1044",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    seq: int
    emoji: str = Field(description="In its one form, without U+FE0F.")
    position: int | None
    token: TokenText
    duplicate: bool


def build_reaction(
    command_type: CommandType, raw: bytes, chat_id: str, seq: int, emoji: str, envelope: Envelope
) -> Command:
    """Return the command that adds or removes a reaction. Raises Problem."""
    parse_body(NoFields, raw or b"{}")
    return build_change(command_type, Reaction(seq=seq, emoji=one_form(emoji)), chat_id, envelope)


def reaction_changed(command: Command, reply: Reply, *, seq: int, emoji: str) -> CommandResponse:
    """Return 200, even if the reaction was there, or gone, before."""
    return changed(ReactionChanged, command, reply, seq=seq, emoji=one_form(emoji))


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    changes: dict[str, Any] = {
        **described(None, ReactionChanged),
        "responses": other_responses(None, "not_member", "unknown_chat", "unknown_message", "conflict"),
    }

    @router.put(_PATH, summary="Add a reaction", **changes)
    async def add_reaction(
        chat_id: ChatIdInPath, seq: SeqInPath, emoji: EmojiInPath, command_request: KeyedRequest
    ) -> FastResponse:
        return await respond(CommandType.REACTION_ADD, chat_id, seq, emoji, command_request)

    @router.delete(_PATH, summary="Remove a reaction", **changes)
    async def remove_reaction(
        chat_id: ChatIdInPath, seq: SeqInPath, emoji: EmojiInPath, command_request: KeyedRequest
    ) -> FastResponse:
        return await respond(CommandType.REACTION_REMOVE, chat_id, seq, emoji, command_request)

    async def respond(
        command_type: CommandType, chat_id: str, seq: int, emoji: str, command_request: CommandRequest
    ) -> FastResponse:
        handler.admit(command_request)
        raw = await command_request.request.body()
        command = build_reaction(command_type, raw, chat_id, seq, emoji, command_request.envelope)
        return await handler.respond(command_request, command, partial(reaction_changed, seq=seq, emoji=emoji))
