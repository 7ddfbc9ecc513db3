"""Receipts: the caller's read and delivered cursors. They have no key."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from schemas import limits
from schemas.bodies import Mark, canonical_body
from schemas.ids import ChatId, CommandId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler
from services.ingest.api.requests import Envelope, RequestBody, check_body, parse_body, sender_of
from services.ingest.api.responses import TOKEN_HEADER, CommandResponse, raise_if_rejected, to_json, token_of
from services.ingest.api.route import ChatIdInPath, CommandRequest, UnkeyedRequest, described, other_responses
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import example, headers

MarkType = Literal[CommandType.READ_MARK, CommandType.DELIVERED_MARK]


class MarkUpTo(RequestBody):
    model_config = example({"up_to_seq": 1})

    up_to_seq: int = Field(json_schema_extra={"minimum": 0, "maximum": limits.SAFE_INTEGER})


class Marked(BaseModel):
    model_config = example({"updated_count": 1, "read_seq": 1})

    updated_count: int
    """Distance that the cursor moved: new − old."""
    read_seq: int


def build_mark(
    command_type: MarkType,
    raw: bytes,
    chat_id: str,
    envelope: Envelope,
) -> tuple[Command, int]:
    """Return the receipt and its seq. It has no key, and an id only so that its outcome can be queried."""
    up_to_seq = parse_body(MarkUpTo, raw).up_to_seq
    body = Mark(up_to_seq=up_to_seq)
    check_body(body)
    command = Command(
        offset=-1,
        type=command_type.value,
        body=canonical_body(body),
        chat_id=ChatId(chat_id),
        sender_id=sender_of(envelope),
        command_id=CommandId(str(uuid.uuid4())),
        traceparent=envelope.traceparent,
    )
    return command, up_to_seq


def marked(command: Command, reply: Reply) -> CommandResponse:
    raise_if_rejected(command, reply)
    body = Marked(updated_count=reply.updated_count or 0, read_seq=reply.read_seq or 0)
    return CommandResponse(status=200, body=to_json(body), headers={TOKEN_HEADER: token_of(reply)})


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    marks: dict[str, Any] = {
        **described(MarkUpTo, Marked),
        "responses": other_responses(None, "not_member", "unknown_chat") | {200: headers(TOKEN_HEADER)},
    }

    @router.post("/v1/chats/{chat_id}/read", summary="Mark as read", **marks)
    async def mark_read(chat_id: ChatIdInPath, command_request: UnkeyedRequest) -> FastResponse:
        return await respond(CommandType.READ_MARK, chat_id, command_request)

    @router.post("/v1/chats/{chat_id}/delivered", summary="Mark as delivered", **marks)
    async def mark_delivered(chat_id: ChatIdInPath, command_request: UnkeyedRequest) -> FastResponse:
        return await respond(CommandType.DELIVERED_MARK, chat_id, command_request)

    async def respond(command_type: MarkType, chat_id: str, command_request: CommandRequest) -> FastResponse:
        handler.admit(command_request)
        command, up_to_seq = build_mark(
            command_type, await command_request.request.body(), chat_id, command_request.envelope
        )
        return await handler.respond(
            command_request,
            command,
            marked,
            lambda wait_s: handler.receipts.send(command, up_to_seq, wait_s, command_request.request.receive),
        )
