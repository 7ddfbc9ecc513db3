"""Chats: creating and renaming a group, opening a direct chat."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from schemas import ids, limits
from schemas.bodies import ChatCreate, ChatRename
from schemas.ids import UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler
from services.ingest.api.keys import fresh_key, required_key
from services.ingest.api.requests import (
    FIRST_FAULT,
    AnyCaseUuid,
    Envelope,
    Key,
    NoFields,
    RequestBody,
    build_change,
    build_command,
    check_body,
    parse_body,
    sender_of,
)
from services.ingest.api.responses import CommandResponse, changed, created_status
from services.ingest.api.route import ChatIdInPath, KeyedRequest, UserIdInPath, described, other_responses
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import TokenText, UuidText, example


class CreateChat(RequestBody):
    model_config = example(
        {
            "kind": "group",
            "name": "ops",
            "members": ["22222222-2222-4222-8222-222222222222"],
        }
    )

    kind: Literal["group"]
    name: str = Field(json_schema_extra={"minLength": 1, "maxLength": limits.NAME_CHARACTERS})
    unique_name: bool = Field(
        default=True,
        description="false: another group of yours may have this name; the chat's id is derived from your key instead,"
        " which must then be unique among all groups that you create this way.",
    )
    members: Annotated[list[AnyCaseUuid], FIRST_FAULT] = Field(
        default_factory=list, json_schema_extra={"maxItems": limits.MEMBERS_PER_COMMAND, "uniqueItems": True}
    )
    client_generated_id: Key | None = None
    sender_id: AnyCaseUuid | None = Field(default=None, description="For scope producer.")


class ChatOpened(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "position": 1,
            "token": "5:1041",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    position: int | None
    token: TokenText
    duplicate: bool


class RenameChat(RequestBody):
    model_config = example({"name": "operations"})

    name: str = Field(json_schema_extra={"minLength": 1, "maxLength": limits.NAME_CHARACTERS})


class ChatRenamed(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "position": 3,
            "token": "5:1043",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    position: int | None
    token: TokenText
    duplicate: bool


def build_create(raw: bytes, envelope: Envelope) -> Command:
    """Return the command that creates a group. Raises Problem."""
    wanted = parse_body(CreateChat, raw)
    sender_id = sender_of(envelope, wanted.sender_id)
    key = required_key(envelope.key, wanted.client_generated_id)
    body = ChatCreate(kind="group", name=wanted.name, members=wanted.members)
    check_body(body)  # before the name becomes part of an id: it must be encodable in UTF-8
    chat_id = ids.group_chat_id(sender_id, wanted.name) if wanted.unique_name else ids.keyed_chat_id(sender_id, key)
    return build_command(CommandType.CHAT_CREATE, body, chat_id, sender_id, key, envelope)


def build_direct(raw: bytes, user_id: str, envelope: Envelope) -> Command:
    parse_body(NoFields, raw or b"{}")
    sender_id = sender_of(envelope)
    other = UserId(user_id)
    body = ChatCreate(kind="direct", members=[other] if other != sender_id else [])
    chat_id = ids.direct_chat_id(sender_id, other)
    return build_command(CommandType.CHAT_CREATE, body, chat_id, sender_id, envelope.key or fresh_key(), envelope)


def build_rename(raw: bytes, chat_id: str, envelope: Envelope) -> Command:
    return build_change(CommandType.CHAT_RENAME, ChatRename(name=parse_body(RenameChat, raw).name), chat_id, envelope)


def chat_opened(command: Command, reply: Reply) -> CommandResponse:
    """Return 201 for a new chat, 200 for a repeat or an existing direct chat."""
    opened = changed(ChatOpened, command, reply, status=created_status(reply))
    return replace(opened, headers={"Location": f"/v1/chats/{command.chat_id}"})


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    @router.post(
        "/v1/chats",
        summary="Create a group",
        **described(CreateChat, ChatOpened, created=True),
        responses=other_responses(ChatOpened, "missing_key", "chat_exists", "conflict"),
    )
    async def create_chat(command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_create(await command_request.request.body(), command_request.envelope)
        return await handler.respond(command_request, command, chat_opened)

    @router.put(
        "/v1/direct-chats/{user_id}",
        summary="Open the direct chat with a user",
        **described(None, ChatOpened, created=True),
        responses=other_responses(ChatOpened, "conflict"),
    )
    async def open_direct_chat(user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_direct(await command_request.request.body(), user_id, command_request.envelope)
        return await handler.respond(command_request, command, chat_opened)

    @router.patch(
        "/v1/chats/{chat_id}",
        summary="Rename a group",
        **described(RenameChat, ChatRenamed),
        responses=other_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def rename_chat(chat_id: ChatIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_rename(await command_request.request.body(), chat_id, command_request.envelope)
        return await handler.respond(command_request, command, partial(changed, ChatRenamed))
