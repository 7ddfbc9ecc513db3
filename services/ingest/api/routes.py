"""The paths of ingest. Each reads a request, sends its command and turns the outcome into the answer.

FastAPI writes the OpenAPI document from what is declared here; what a request says is read by `CommandRoute`, bodies
are parsed by `requests` from their raw bytes, and answers are rendered here, so these are described to it by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Path
from pydantic import BaseModel

from schemas.errors import Reason
from schemas.types import CommandType
from schemas.wire.encoding import Command, is_traceparent
from schemas.wire.replies import Reply
from services.ingest import metrics
from services.ingest.api import requests, responses
from services.ingest.api.content import check_content
from services.ingest.api.keys import key_in_header
from services.ingest.api.preferences import Preference, read_prefer
from services.ingest.api.rate import RateLimit
from services.ingest.api.requests import PRODUCER, Envelope, RequestBody
from services.ingest.api.responses import CommandResponse
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending
from services.ingest.sending.receipts import ReceiptCoalescer, Send
from services.runtime.access.auth import Caller, authenticated, current_caller
from services.runtime.web.fast_routes import FastRequest, FastResponse, FastRoute
from services.runtime.web.openapi import headers, operation_id, problem_responses
from services.runtime.web.problem_handlers import validation_problem
from services.runtime.web.problems import Problem

_NO_UUID: Final = "Not a UUID, which looks like 11111111-1111-4111-8111-111111111111."
_NO_SEQ: Final = "Not a seq, which is a whole number from 1 on."
_JSON: Final = (b"content-type", b"application/json")
_UUID_SCHEMA: Final = {"format": "uuid"}
ChatIdInPath = Annotated[str, Path(alias="chat_id", json_schema_extra=_UUID_SCHEMA)]
SeqInPath = Annotated[int, Path(alias="seq", ge=1)]
UserIdInPath = Annotated[str, Path(alias="user_id", json_schema_extra=_UUID_SCHEMA)]


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A request without its body."""

    request: FastRequest
    envelope: Envelope
    prefer: Sequence[str]


async def _command_request(request: FastRequest) -> CommandRequest:
    """Headers, read and checked. Raises Problem: who may not come in is told so before anything else."""
    scope = request.scope
    caller = await authenticated(scope["app"].state.authenticator, request.header(b"authorization"))
    check_content(request, ndjson=scope["path"] == BATCH_PATH)
    traceparent = scope["state"]["traceparent"]
    keys = request.header_lines(b"idempotency-key")
    envelope = Envelope(
        caller_id=caller.user_id,
        scopes=caller.scopes,
        key=key_in_header(keys) if keys else None,
        sender=request.header(b"gapless-sender"),
        traceparent=traceparent if is_traceparent(traceparent) else None,
    )
    return CommandRequest(request, envelope, request.header_lines(b"prefer"))


async def _described_keyed(
    caller: Annotated[Caller, Depends(current_caller)],
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Your key of this command: the same for each retry, fresh for a new one. A string in quotes"
            " (RFC 8941; parameters are ignored), or bare if it has no space."
        ),
    ] = None,
    gapless_sender: Annotated[str | None, Header(description="For scope producer: on whose behalf.")] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N` (seconds, at most 30), `respond-async` (RFC 7240).")
    ] = None,
) -> CommandRequest:
    """What `_command_request` reads, as OpenAPI is told of it. FastAPI looks at the signature, and nothing calls it."""
    raise NotImplementedError


async def _described_without_key(
    caller: Annotated[Caller, Depends(current_caller)],
    gapless_sender: Annotated[str | None, Header(description="For scope producer: on whose behalf.")] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N` (seconds, at most 30), `respond-async` (RFC 7240).")
    ] = None,
) -> CommandRequest:
    """The same where no key is taken."""
    raise NotImplementedError


class CommandRoute(FastRoute):
    """Every path of ingest: ids in the path, who is asking and how, and a handler that takes just these."""

    async def respond(self, request: FastRequest) -> FastResponse:
        command_request = await _command_request(request)
        answer: FastResponse = await self.endpoint(command_request=command_request, **_in_path(request.path_params))
        return answer


def _in_path(path_params: Mapping[str, str]) -> dict[str, str | int]:
    """The ids in the path in the form of the wire, and a seq. Raises Problem with every one that is none."""
    found: dict[str, str | int] = {}
    wrong: list[dict[str, Any]] = []
    for name, text in path_params.items():
        is_seq = name == "seq"
        value = requests.seq_or_none(text) if is_seq else requests.wire_uuid_or_none(text)
        if value is None:
            wrong.append({"loc": ("path", name), "type": "value_error", "msg": _NO_SEQ if is_seq else _NO_UUID})
        else:
            found[name] = value
    if wrong:
        raise validation_problem(wrong)
    return found


KeyedRequest = Annotated[CommandRequest, Depends(_described_keyed)]
UnkeyedRequest = Annotated[CommandRequest, Depends(_described_without_key)]
"""Where a key means nothing (receipts), or stands in the body for each message."""
ResponseOf = Callable[[Command, Reply], CommandResponse]
SendPreferred = Callable[[float], Awaitable[Reply | Pending]]


SendAll = Callable[[Sequence[Command], float, ClientGone | None], Awaitable[list[Reply | Pending | Problem]]]
_ROLE_INSTEAD: Final = (Reason.INVALID, Reason.CONFLICT)
_NO_ROLE_TO_CHANGE: Final = (Reason.NOT_MEMBER, Reason.UNKNOWN_CHAT, Reason.UNKNOWN_TYPE)
"""What a sequencer says who cannot change the role: then the answer to the addition says more."""
BATCH_PATH: Final = "/v1/messages:batch"
LONGEST_TURN_S: Final = 0.005
"""Of reading a batch, before other requests have theirs."""
BODY_LIMIT_BYTES_BY_PATH: Final = {BATCH_PATH: 4 * 1024 * 1024}
"""For `build_app`: paths that take more than GAPLESS_HTTP_BODY_LIMIT_BYTES."""


def ingest_router(
    *, send: Send, send_all: SendAll, receipts: ReceiptCoalescer, default_wait_s: float, rate: RateLimit | None
) -> APIRouter:
    """All paths of ingest. `send` and `send_all` are the Dispatcher's, or a guard before them."""
    router = APIRouter(tags=["commands"], route_class=CommandRoute, generate_unique_id_function=operation_id)
    handler = _CommandHandler(send, send_all, receipts, default_wait_s, rate)

    @router.post(
        "/v1/chats/{chat_id}/messages",
        summary="Send a message",
        **_described(requests.SendMessage, responses.MessageSent, created=True),
        responses=_responses(
            responses.MessageSent,
            "missing_key",
            "not_member",
            "unknown_chat",
            "unknown_message",
            "too_large",
            "conflict",
        ),
    )
    async def send_message(chat_id: ChatIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = requests.send_message(await command_request.request.body(), chat_id, command_request.envelope)
        return await handler.respond(command_request, command, responses.message_sent)

    @router.post(
        BATCH_PATH,
        summary="Send many messages",
        response_model=list[responses.BatchAnswer],
        openapi_extra={"requestBody": {"required": True, "content": _batch_content()}},
        responses=problem_responses("unauthorized", "malformed", "too_large", "unsupported_media_type", "unavailable"),
    )
    async def send_messages(command_request: UnkeyedRequest) -> FastResponse:
        return await handler.respond_to_batch(command_request)

    @router.delete(
        "/v1/chats/{chat_id}/messages/{seq}",
        summary="Delete a message",
        **_described(None, responses.MessageDeleted),
        responses=_responses(None, "not_member", "unknown_chat", "unknown_message", "conflict"),
    )
    async def delete_message(chat_id: ChatIdInPath, seq: SeqInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = requests.delete_message(await command_request.request.body(), chat_id, seq, command_request.envelope)
        return await handler.respond(command_request, command, partial(responses.message_deleted, seq=seq))

    @router.post(
        "/v1/chats",
        summary="Create a group",
        **_described(requests.CreateChat, responses.ChatOpened, created=True),
        responses=_responses(responses.ChatOpened, "missing_key", "chat_exists", "conflict"),
    )
    async def create_chat(command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = requests.create_chat(await command_request.request.body(), command_request.envelope)
        return await handler.respond(command_request, command, responses.chat_opened)

    @router.put(
        "/v1/direct-chats/{user_id}",
        summary="Open the direct chat with a user",
        **_described(None, responses.ChatOpened, created=True),
        responses=_responses(responses.ChatOpened, "conflict"),
    )
    async def open_direct_chat(user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = requests.open_direct_chat(await command_request.request.body(), user_id, command_request.envelope)
        return await handler.respond(command_request, command, responses.chat_opened)

    @router.put(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Add a member, or give a present one the role named",
        **_described(requests.AddMember, responses.MemberChanged, required=False),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def add_member(chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        add, role = requests.add_member(
            await command_request.request.body(), chat_id, user_id, command_request.envelope
        )
        return await handler.respond_to_addition(
            command_request, add, role, partial(responses.member_changed, user_id=user_id)
        )

    @router.patch(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Change a member's role",
        **_described(requests.ChangeRole, responses.MemberChanged),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def change_role(chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest) -> FastResponse:
        handler.admit(command_request)
        command = requests.change_role(await command_request.request.body(), chat_id, user_id, command_request.envelope)
        return await handler.respond(command_request, command, partial(responses.member_changed, user_id=user_id))

    @router.delete(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Remove a member, or leave",
        **_described(None, responses.MemberChanged),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def remove_member(
        chat_id: ChatIdInPath, user_id: UserIdInPath, command_request: KeyedRequest
    ) -> FastResponse:
        handler.admit(command_request)
        command = requests.remove_member(
            await command_request.request.body(), chat_id, user_id, command_request.envelope
        )
        return await handler.respond(command_request, command, partial(responses.member_changed, user_id=user_id))

    @router.post(
        "/v1/chats/{chat_id}/read",
        summary="Mark as read",
        **_described(requests.MarkUpTo, responses.Marked),
        responses=_responses(None, "not_member", "unknown_chat") | {200: headers("Gapless-Token")},
    )
    async def mark_read(chat_id: ChatIdInPath, command_request: UnkeyedRequest) -> FastResponse:
        return await handler.respond_to_receipt(command_request, CommandType.READ_MARK, chat_id)

    @router.post(
        "/v1/chats/{chat_id}/delivered",
        summary="Mark as delivered",
        **_described(requests.MarkUpTo, responses.Marked),
        responses=_responses(None, "not_member", "unknown_chat") | {200: headers("Gapless-Token")},
    )
    async def mark_delivered(chat_id: ChatIdInPath, command_request: UnkeyedRequest) -> FastResponse:
        return await handler.respond_to_receipt(command_request, CommandType.DELIVERED_MARK, chat_id)

    return router


class _CommandHandler:
    """What all paths do alike: admit the caller, send, answer."""

    def __init__(
        self, send: Send, send_all: SendAll, receipts: ReceiptCoalescer, default_wait_s: float, rate: RateLimit | None
    ) -> None:
        self._send = send
        self._send_all = send_all
        self._receipts = receipts
        self._default_wait_s = default_wait_s
        self._rate = rate

    def admit(self, command_request: CommandRequest) -> None:
        """Raises Problem `rate_limited`."""
        if self._rate is None or PRODUCER in command_request.envelope.scopes:
            return
        retry_after_s = self._rate.take(command_request.envelope.caller_id, time.monotonic())
        if retry_after_s > 0:
            metrics.RATE_LIMITED.inc()
            raise Problem("rate_limited", "You send faster than you may.", retry_after_s=retry_after_s)

    async def respond(self, command_request: CommandRequest, command: Command, response_of: ResponseOf) -> FastResponse:
        return await self._respond(
            command_request,
            command,
            response_of,
            lambda wait_s: self._send(command, wait_s, command_request.request.receive),
        )

    async def respond_to_addition(
        self, command_request: CommandRequest, add: Command, role: Command | None, response_of: ResponseOf
    ) -> FastResponse:
        """Adds a member; gives the role to one who is present under another, or whom this key gave it before."""

        async def send(wait_s: float) -> Reply | Pending:
            deadline_s = time.monotonic() + wait_s
            added = await self._send(add, wait_s, command_request.request.receive)
            if role is None or isinstance(added, Pending) or added.reason not in _ROLE_INSTEAD:
                return added
            given = await self._send(role, max(0.0, deadline_s - time.monotonic()), command_request.request.receive)
            return added if isinstance(given, Reply) and given.reason in _NO_ROLE_TO_CHANGE else given

        return await self._respond(command_request, add, response_of, send)

    async def respond_to_batch(self, command_request: CommandRequest) -> FastResponse:
        """Each message is answered as it would be alone: what is wrong with one does not touch the others."""
        items = await self._read_batch(command_request)
        commands = [item for item in items if isinstance(item, Command)]
        preference = read_prefer(command_request.prefer, self._default_wait_s)
        outcomes = iter(
            await self._send_all(commands, preference.wait_s, command_request.request.receive) if commands else ()
        )
        answer = responses.batch_answered(
            (item, next(outcomes)) if isinstance(item, Command) else (None, item) for item in items
        )
        return _response(answer, preference)

    async def _read_batch(self, command_request: CommandRequest) -> list[Command | Problem]:
        """Lets other requests in between: 4 MiB of messages can take longer than anyone else should wait."""
        items: list[Command | Problem] = []
        paused_at_s = time.perf_counter()
        for written in requests.batch_items(await command_request.request.body(), command_request.envelope):
            items.append(self._admitted(command_request, requests.batch_message(written, command_request.envelope)))
            if time.perf_counter() - paused_at_s > LONGEST_TURN_S:
                await asyncio.sleep(0)
                paused_at_s = time.perf_counter()
        return items

    def _admitted(self, command_request: CommandRequest, item: Command | Problem) -> Command | Problem:
        if self._rate is None:
            return item
        try:
            self.admit(command_request)
        except Problem as problem:
            return problem
        return item

    async def respond_to_receipt(
        self,
        command_request: CommandRequest,
        command_type: Literal[CommandType.READ_MARK, CommandType.DELIVERED_MARK],
        chat_id: str,
    ) -> FastResponse:
        self.admit(command_request)
        command, up_to_seq = requests.mark(
            command_type, await command_request.request.body(), chat_id, command_request.envelope
        )
        return await self._respond(
            command_request,
            command,
            responses.marked,
            lambda wait_s: self._receipts.send(command, up_to_seq, wait_s, command_request.request.receive),
        )

    async def _respond(
        self, command_request: CommandRequest, command: Command, response_of: ResponseOf, send: SendPreferred
    ) -> FastResponse:
        """`receive`, after the body, returns when the client has hung up: that is what `send` watches."""
        preference = read_prefer(command_request.prefer, self._default_wait_s)
        outcome = await send(preference.wait_s)
        if isinstance(outcome, Pending):
            return _response(responses.outcome_pending(outcome), preference)
        return _response(response_of(command, outcome), preference)


def _response(answer: CommandResponse, preference: Preference) -> FastResponse:
    headers = [_JSON, (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if preference.applied is not None:
        headers.append((b"preference-applied", preference.applied.encode("latin-1")))
    return FastResponse(answer.status, headers, answer.body)


def _described(
    body: type[RequestBody] | None, answer: type[BaseModel], *, created: bool = False, required: bool = True
) -> dict[str, Any]:
    """What OpenAPI is told of the body and of the answer when all goes well."""
    described: dict[str, Any] = {"response_model": answer, "status_code": 201 if created else 200}
    if body is not None:
        content = {"application/json": {"schema": body.model_json_schema()}}
        described["openapi_extra"] = {"requestBody": {"required": required, "content": content}}
    return described


def _batch_content() -> dict[str, Any]:
    message = requests.BatchMessage.model_json_schema()
    many = {"type": "array", "items": message, "maxItems": requests.BATCH_ITEMS}
    return {"application/json": {"schema": many}, "application/x-ndjson": {"schema": message}}


def _responses(repeated: type[BaseModel] | None, *reasons: str) -> dict[int | str, dict[str, Any]]:
    """The other answers of a path: of a repeat, of one that is not decided yet, and its problems."""
    shared = (
        "unauthorized", "malformed", "forbidden", "unsupported_media_type", "invalid", "rate_limited", "unavailable"
    )  # fmt: skip
    by_status = problem_responses(*shared, *reasons)
    by_status[202] = {"model": responses.OutcomePending, "description": "In the log; ask at Location for the outcome."}
    if repeated is not None:
        by_status[200] = {"model": repeated, "description": "A repeat: the figures of the original."}
    return by_status
