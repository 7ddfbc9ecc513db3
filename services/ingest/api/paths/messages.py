"""Messages: sending, editing and deleting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field

from schemas import limits
from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.ids import ChatId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler
from services.ingest.api.keys import required_key
from services.ingest.api.requests import (
    FIRST_FAULT,
    IMPORT,
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
from services.ingest.api.responses import (
    CommandResponse,
    changed,
    created_status,
    instant,
    raise_if_rejected,
    token_of,
)
from services.ingest.api.route import (
    ChatIdInPath,
    CommandRequest,
    KeyedRequest,
    SeqInPath,
    described,
    other_responses,
)
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import InstantText, TokenText, UuidText, example
from services.runtime.web.problems import Problem, sentence

MediaUrl = Annotated[
    str, Field(json_schema_extra={"maxLength": limits.MEDIA_URL_CHARACTERS, "pattern": "^https?://", "format": "uri"})
]


class SendMessage(RequestBody):
    model_config = example(
        {
            "text": "Is the log gap-free?",
            "media_urls": ["https://example.org/proof.png"],
            "metadata": {"topic": "logs"},
        }
    )

    text: str = Field(
        description="Empty only if media_urls is not.", json_schema_extra={"maxLength": limits.TEXT_CHARACTERS}
    )
    reply_to_message_id: AnyCaseUuid | None = None
    media_urls: Annotated[list[MediaUrl], FIRST_FAULT] | None = Field(
        default=None, json_schema_extra={"maxItems": limits.MEDIA_URLS}
    )
    metadata: dict[str, Any] | None = Field(default=None, description="Any JSON object, at most 16 KiB.")
    original_sent_at: str | None = Field(
        default=None, description="For scope import.", json_schema_extra={"format": "date-time"}
    )
    client_generated_id: Key | None = None
    sender_id: AnyCaseUuid | None = Field(default=None, description="For scope producer.")


class EditMessage(RequestBody):
    model_config = example({"text": "Is the log still gap-free?"})

    text: str = Field(
        description="Empty only if media_urls is not.", json_schema_extra={"maxLength": limits.TEXT_CHARACTERS}
    )
    media_urls: Annotated[list[MediaUrl], FIRST_FAULT] | None = Field(
        default=None, description="Absent: as they are.", json_schema_extra={"maxItems": limits.MEDIA_URLS}
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description="Any JSON object, at most 16 KiB. Absent: as it is."
    )


class MessageSent(BaseModel):
    model_config = example(
        {
            "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "seq": 1,
            "position": 2,
            "sent_at": "2026-01-31T12:00:00.045Z",
            "token": "5:1042",
            "duplicate": False,
        }
    )

    message_id: UuidText
    chat_id: UuidText
    seq: int
    position: int
    sent_at: InstantText
    token: TokenText
    duplicate: bool


class MessageEdited(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "seq": 1,
            "revision": 1,
            "position": 4,
            "token": "5:1044",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    seq: int
    revision: int | None
    """Revision of the message after the edit; for a repeat, after the original."""
    position: int | None
    """Position of the edit; if it changes nothing, of the last one."""
    token: TokenText
    duplicate: bool


class MessageDeleted(BaseModel):
    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "seq": 1,
            "position": 4,
            "token": "5:1044",
            "duplicate": False,
        }
    )

    chat_id: UuidText
    seq: int
    position: int | None
    """Position of the deletion, even if the message was deleted before."""
    token: TokenText
    duplicate: bool


def build_send(raw: bytes, chat_id: str, envelope: Envelope) -> Command:
    """Return the command of a request. Raises Problem, as the other builders do."""
    return build_parsed_send(parse_body(SendMessage, raw), chat_id, envelope)


def build_parsed_send(wanted: SendMessage, chat_id: str, envelope: Envelope) -> Command:
    """Return the command of a parsed message. Raises Problem."""
    sender_id = sender_of(envelope, wanted.sender_id)
    if wanted.original_sent_at is not None and IMPORT not in envelope.scopes:
        detail = "Only a token with the scope import may set original_sent_at."
        raise Problem("forbidden", detail, errors=[{"pointer": "/original_sent_at", "detail": detail}])
    key = required_key(envelope.key, wanted.client_generated_id)
    body = MessageSend(
        text=wanted.text,
        reply_to_message_id=wanted.reply_to_message_id,
        media_urls=wanted.media_urls,
        metadata=wanted.metadata,
        original_sent_at=wanted.original_sent_at,
    )
    check_body(body)
    return build_command(CommandType.MESSAGE_SEND, body, ChatId(chat_id), sender_id, key, envelope)


_REVISION: Final = re.compile(r'"(0|[1-9][0-9]{0,14})(?:\.[A-Za-z0-9_-]{1,64})?"', re.ASCII)
"""A revision as If-Match names it: alone, or in the ETag of the message, whose digest is not compared."""


def build_edit(raw: bytes, chat_id: str, seq: int, if_match: Sequence[str], envelope: Envelope) -> Command:
    """Return the command of a request.

    :param if_match: the lines of the header If-Match.
    """
    wanted = parse_body(EditMessage, raw)
    body = MessageEdit(
        seq=seq,
        text=wanted.text,
        media_urls=wanted.media_urls,
        metadata=wanted.metadata,
        if_revision=_revision_of(if_match),
    )
    return build_change(CommandType.MESSAGE_EDIT, body, chat_id, envelope)


def _revision_of(if_match: Sequence[str]) -> int | None:
    """Return the one revision that If-Match names, or None if it is absent or `*`. Raises Problem."""
    value = ",".join(if_match).strip(" \t")
    if value in ("", "*"):
        return None
    match = _REVISION.fullmatch(value)
    if match is None:
        detail = 'If-Match is the ETag of the message, or its revision in quotes, as "0", or *.'
        raise Problem("malformed", detail, errors=[{"in": "header", "pointer": "/if-match", "detail": detail}])
    return int(match[1])


def build_delete(raw: bytes, chat_id: str, seq: int, envelope: Envelope) -> Command:
    parse_body(NoFields, raw or b"{}")
    body = MessageDelete(seq=seq)
    return build_change(CommandType.MESSAGE_DELETE, body, chat_id, envelope)


def message_sent(command: Command, reply: Reply) -> CommandResponse:
    """Return 201 for a new message, 200 for a repeat. Raises Problem for a rejection, as the other responses do."""
    raise_if_rejected(command, reply)
    assert command.command_id is not None
    assert reply.seq is not None, "every accepted or repeated message has a seq"
    assert reply.position is not None
    assert reply.sent_at_ms is not None
    # Formatted by hand, not through the model: it is the response to every send, and nothing in it needs escaping.
    body = (
        f'{{"message_id":"{command.command_id}","chat_id":"{command.chat_id}","seq":{reply.seq}'
        f',"position":{reply.position},"sent_at":"{instant(reply.sent_at_ms)}","token":"{token_of(reply)}"'
        f',"duplicate":{"true" if reply.outcome is OutcomeKind.DUPLICATE else "false"}}}'
    ).encode("ascii")
    location = {"Location": f"/v1/chats/{command.chat_id}/messages/{reply.seq}"}
    return CommandResponse(status=created_status(reply), body=body, headers=location)


def message_edited(command: Command, reply: Reply, *, seq: int) -> CommandResponse:
    if reply.reason is Reason.STALE:
        # The message itself is not known here (decision 38). A read with the token shows at least this revision.
        url = f"/v1/chats/{command.chat_id}/messages/{seq}"
        detail = sentence(reply.detail)
        raise Problem("stale", detail, revision=reply.revision, message_url=url, token=token_of(reply))
    return changed(MessageEdited, command, reply, seq=seq, revision=reply.revision)


async def _described_edit(
    command_request: KeyedRequest,
    if_match: Annotated[
        str | None,
        Header(
            description='The `ETag` of the message, or its revision in quotes, as `"0"`: with another revision, `412`.'
        ),
    ] = None,
) -> CommandRequest:
    """Describe for OpenAPI the header that an edit takes in addition to the others. Never called."""
    raise NotImplementedError


EditRequest = Annotated[CommandRequest, Depends(_described_edit)]


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    @router.post(
        "/v1/chats/{chat_id}/messages",
        summary="Send a message",
        **described(SendMessage, MessageSent, created=True),
        responses=other_responses(
            MessageSent, "missing_key", "not_member", "unknown_chat", "unknown_message", "too_large", "conflict"
        ),
    )
    async def send_message(chat_id: ChatIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_send(await command_request.request.body(), chat_id, command_request.envelope)
        return await handler.respond(command_request, command, message_sent)

    @router.patch(
        "/v1/chats/{chat_id}/messages/{seq}",
        summary="Edit a message of yours",
        **described(EditMessage, MessageEdited),
        responses=other_responses(
            None, "not_member", "unknown_chat", "unknown_message", "stale", "too_large", "conflict"
        ),
    )
    async def edit_message(chat_id: ChatIdInPath, seq: SeqInPath, command_request: EditRequest) -> FastResponse:
        handler.admit(command_request)
        request = command_request.request
        if_match = request.header_lines(b"if-match")
        command = build_edit(await request.body(), chat_id, seq, if_match, command_request.envelope)
        return await handler.respond(command_request, command, partial(message_edited, seq=seq))

    @router.delete(
        "/v1/chats/{chat_id}/messages/{seq}",
        summary="Delete a message",
        **described(None, MessageDeleted),
        responses=other_responses(None, "not_member", "unknown_chat", "unknown_message", "conflict"),
    )
    async def delete_message(chat_id: ChatIdInPath, seq: SeqInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = build_delete(await command_request.request.body(), chat_id, seq, command_request.envelope)
        return await handler.respond(command_request, command, partial(changed, MessageDeleted, seq=seq))
