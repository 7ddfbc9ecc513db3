"""Members: adding, removing, roles."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from schemas.bodies import MemberAdd, MemberRemove, MemberRole, Role
from schemas.errors import Reason
from schemas.ids import ChatId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler
from services.ingest.api.keys import fresh_key
from services.ingest.api.requests import (
    Envelope,
    NoFields,
    RequestBody,
    build_change,
    build_command,
    parse_body,
    sender_of,
)
from services.ingest.api.responses import changed
from services.ingest.api.route import ChatIdInPath, KeyedRequest, UserIdInPath, described, other_responses
from services.ingest.sending.pending import Pending
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import TokenText, UuidText, example

_ROLE_INSTEAD: Final = (Reason.INVALID, Reason.CONFLICT)
_NO_ROLE_TO_CHANGE: Final = (Reason.NOT_MEMBER, Reason.UNKNOWN_CHAT, Reason.UNKNOWN_TYPE)
"""Rejections of a sequencer that cannot change the role; then the outcome of the addition is more informative."""


class AddMember(RequestBody):
    model_config = example({"role": "admin"})

    role: Role = "member"


class ChangeRole(RequestBody):
    model_config = example({"role": "owner"})

    role: Role


class MemberChanged(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "user_id": "22222222-2222-4222-8222-222222222222",
            "position": 3,
            "token": "5:1043",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    user_id: UuidText
    position: int | None
    token: TokenText
    duplicate: bool


def build_add(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> tuple[Command, Command | None]:
    """Return the command that adds a member and, if the request names a role, the command that changes the role of a
    present member.

    Both have one key, so at most one of them is ever accepted, however often the request is sent.
    """
    wanted = parse_body(AddMember, raw or b"{}")
    key, sender_id = envelope.key or fresh_key(), sender_of(envelope)
    body = MemberAdd(user_id=user_id, role=wanted.role)
    add = build_command(CommandType.MEMBER_ADD, body, ChatId(chat_id), sender_id, key, envelope)
    if "role" not in wanted.model_fields_set:
        return add, None
    role = MemberRole(user_id=user_id, role=wanted.role)
    return add, build_command(CommandType.MEMBER_ROLE, role, ChatId(chat_id), sender_id, key, envelope)


def build_role_change(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> Command:
    body = MemberRole(user_id=user_id, role=parse_body(ChangeRole, raw).role)
    return build_change(CommandType.MEMBER_ROLE, body, chat_id, envelope)


def build_remove(raw: bytes, chat_id: str, user_id: str, envelope: Envelope) -> Command:
    parse_body(NoFields, raw or b"{}")
    return build_change(CommandType.MEMBER_REMOVE, MemberRemove(user_id=user_id), chat_id, envelope)


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    @router.put(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Add a member, or give a present one the role named",
        **described(AddMember, MemberChanged, required=False),
        responses=other_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def add_member(chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        add, role = build_add(await command_request.request.body(), chat_id, user_id, command_request.envelope)

        async def send(wait_s: float) -> Reply | Pending:
            """Add a member; if present with another role, or given the role by this key before, set the role."""
            deadline_s = time.monotonic() + wait_s
            added = await handler.send(add, wait_s, command_request.request.receive)
            if role is None or isinstance(added, Pending) or added.reason not in _ROLE_INSTEAD:
                return added
            given = await handler.send(role, max(0.0, deadline_s - time.monotonic()), command_request.request.receive)
            return added if isinstance(given, Reply) and given.reason in _NO_ROLE_TO_CHANGE else given

        return await handler.respond(command_request, add, partial(changed, MemberChanged, user_id=user_id), send)

    @router.patch(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Change a member's role",
        **described(ChangeRole, MemberChanged),
        responses=other_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def change_role(chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_role_change(await command_request.request.body(), chat_id, user_id, command_request.envelope)
        return await handler.respond(command_request, command, partial(changed, MemberChanged, user_id=user_id))

    @router.delete(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Remove a member, or leave",
        **described(None, MemberChanged),
        responses=other_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def remove_member(
        chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest
    ) -> FastResponse:
        handler.admit(command_request)
        command = build_remove(await command_request.request.body(), chat_id, user_id, command_request.envelope)
        return await handler.respond(command_request, command, partial(changed, MemberChanged, user_id=user_id))
