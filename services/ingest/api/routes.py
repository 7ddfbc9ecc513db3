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
from services.ingest.api import requests
from services.ingest.api import responses as answers
from services.ingest.api.content import check_content
from services.ingest.api.keys import key_in_header
from services.ingest.api.preferences import Preference, read_prefer
from services.ingest.api.rate import RateLimit
from services.ingest.api.requests import PRODUCER, Envelope, RequestBody
from services.ingest.api.responses import Answer
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending
from services.ingest.sending.receipts import MarkMerger, Send
from services.runtime.access.auth import Caller, authenticated, current_caller
from services.runtime.web.fast_routes import DirectAnswer, DirectRequest, DirectRoute
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
class Asked:
    """A request without its body."""

    request: DirectRequest
    envelope: Envelope
    prefer: Sequence[str]


async def _asked(request: DirectRequest) -> Asked:
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
    return Asked(request, envelope, request.header_lines(b"prefer"))


async def _described_asked(
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
) -> Asked:
    """What `_asked` reads, as OpenAPI is told of it. FastAPI looks at the signature, and nothing calls it."""
    raise NotImplementedError


async def _described_without_key(
    caller: Annotated[Caller, Depends(current_caller)],
    gapless_sender: Annotated[str | None, Header(description="For scope producer: on whose behalf.")] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N` (seconds, at most 30), `respond-async` (RFC 7240).")
    ] = None,
) -> Asked:
    """The same where no key is taken."""
    raise NotImplementedError


class CommandRoute(DirectRoute):
    """Every path of ingest: ids in the path, who is asking and how, and a handler that takes just these."""

    async def respond(self, request: DirectRequest) -> DirectAnswer:
        asked = await _asked(request)
        answer: DirectAnswer = await self.endpoint(asked=asked, **_in_path(request.path_params))
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


AskedHere = Annotated[Asked, Depends(_described_asked)]
AskedWithoutKey = Annotated[Asked, Depends(_described_without_key)]
"""Where a key means nothing (marks), or stands in the body for each message."""
AnswerOf = Callable[[Command, Reply], Answer]
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
    *, send: Send, send_all: SendAll, marks: MarkMerger, default_wait_s: float, rate: RateLimit | None
) -> APIRouter:
    """All paths of ingest. `send` and `send_all` are the Dispatcher's, or a guard before them."""
    router = APIRouter(tags=["commands"], route_class=CommandRoute, generate_unique_id_function=operation_id)
    desk = _Desk(send, send_all, marks, default_wait_s, rate)

    @router.post(
        "/v1/chats/{chat_id}/messages",
        summary="Send a message",
        **_described(requests.SendMessage, answers.MessageSent, created=True),
        responses=_responses(
            answers.MessageSent, "missing_key", "not_member", "unknown_chat", "unknown_message", "too_large", "conflict"
        ),
    )
    async def send_message(chat_id: ChatIdInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.send_message(await asked.request.body(), chat_id, asked.envelope)
        return await desk.answer(asked, command, answers.message_sent)

    @router.post(
        BATCH_PATH,
        summary="Send many messages",
        response_model=list[answers.BatchAnswer],
        openapi_extra={"requestBody": {"required": True, "content": _batch_content()}},
        responses=problem_responses("unauthorized", "malformed", "too_large", "unsupported_media_type", "unavailable"),
    )
    async def send_messages(asked: AskedWithoutKey) -> DirectAnswer:
        return await desk.answer_batch(asked)

    @router.delete(
        "/v1/chats/{chat_id}/messages/{seq}",
        summary="Delete a message",
        **_described(None, answers.MessageDeleted),
        responses=_responses(None, "not_member", "unknown_chat", "unknown_message", "conflict"),
    )
    async def delete_message(chat_id: ChatIdInPath, seq: SeqInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.delete_message(await asked.request.body(), chat_id, seq, asked.envelope)
        return await desk.answer(asked, command, partial(answers.message_deleted, seq=seq))

    @router.post(
        "/v1/chats",
        summary="Create a group",
        **_described(requests.CreateChat, answers.ChatOpened, created=True),
        responses=_responses(answers.ChatOpened, "missing_key", "chat_exists", "conflict"),
    )
    async def create_chat(asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.create_chat(await asked.request.body(), asked.envelope)
        return await desk.answer(asked, command, answers.chat_opened)

    @router.put(
        "/v1/direct-chats/{user_id}",
        summary="Open the direct chat with a user",
        **_described(None, answers.ChatOpened, created=True),
        responses=_responses(answers.ChatOpened, "conflict"),
    )
    async def open_direct_chat(user_id: UserIdInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.open_direct_chat(await asked.request.body(), user_id, asked.envelope)
        return await desk.answer(asked, command, answers.chat_opened)

    @router.put(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Add a member, or give a present one the role named",
        **_described(requests.AddMember, answers.MemberChanged, required=False),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def add_member(chat_id: ChatIdInPath, user_id: UserIdInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        add, role = requests.add_member(await asked.request.body(), chat_id, user_id, asked.envelope)
        return await desk.answer_addition(asked, add, role, partial(answers.member_changed, user_id=user_id))

    @router.patch(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Change a member's role",
        **_described(requests.ChangeRole, answers.MemberChanged),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def change_role(chat_id: ChatIdInPath, user_id: UserIdInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.change_role(await asked.request.body(), chat_id, user_id, asked.envelope)
        return await desk.answer(asked, command, partial(answers.member_changed, user_id=user_id))

    @router.delete(
        "/v1/chats/{chat_id}/members/{user_id}",
        summary="Remove a member, or leave",
        **_described(None, answers.MemberChanged),
        responses=_responses(None, "not_member", "unknown_chat", "conflict"),
    )
    async def remove_member(chat_id: ChatIdInPath, user_id: UserIdInPath, asked: AskedHere) -> DirectAnswer:
        desk.admit(asked)
        command = requests.remove_member(await asked.request.body(), chat_id, user_id, asked.envelope)
        return await desk.answer(asked, command, partial(answers.member_changed, user_id=user_id))

    @router.post(
        "/v1/chats/{chat_id}/read",
        summary="Mark as read",
        **_described(requests.MarkUpTo, answers.Marked),
        responses=_responses(None, "not_member", "unknown_chat") | {200: headers("Gapless-Token")},
    )
    async def mark_read(chat_id: ChatIdInPath, asked: AskedWithoutKey) -> DirectAnswer:
        return await desk.answer_mark(asked, CommandType.READ_MARK, chat_id)

    @router.post(
        "/v1/chats/{chat_id}/delivered",
        summary="Mark as delivered",
        **_described(requests.MarkUpTo, answers.Marked),
        responses=_responses(None, "not_member", "unknown_chat") | {200: headers("Gapless-Token")},
    )
    async def mark_delivered(chat_id: ChatIdInPath, asked: AskedWithoutKey) -> DirectAnswer:
        return await desk.answer_mark(asked, CommandType.DELIVERED_MARK, chat_id)

    return router


class _Desk:
    """What all paths do alike: admit the caller, send, answer."""

    def __init__(
        self, send: Send, send_all: SendAll, marks: MarkMerger, default_wait_s: float, rate: RateLimit | None
    ) -> None:
        self._send = send
        self._send_all = send_all
        self._marks = marks
        self._default_wait_s = default_wait_s
        self._rate = rate

    def admit(self, asked: Asked) -> None:
        """Raises Problem `rate_limited`."""
        if self._rate is None or PRODUCER in asked.envelope.scopes:
            return
        retry_after_s = self._rate.take(asked.envelope.caller_id, time.monotonic())
        if retry_after_s > 0:
            metrics.RATE_LIMITED.inc()
            raise Problem("rate_limited", "You send faster than you may.", retry_after_s=retry_after_s)

    async def answer(self, asked: Asked, command: Command, answer_of: AnswerOf) -> DirectAnswer:
        return await self._answered(
            asked, command, answer_of, lambda wait_s: self._send(command, wait_s, asked.request.receive)
        )

    async def answer_addition(
        self, asked: Asked, add: Command, role: Command | None, answer_of: AnswerOf
    ) -> DirectAnswer:
        """Adds a member; gives the role to one who is present under another, or whom this key gave it before."""

        async def send(wait_s: float) -> Reply | Pending:
            deadline_s = time.monotonic() + wait_s
            added = await self._send(add, wait_s, asked.request.receive)
            if role is None or isinstance(added, Pending) or added.reason not in _ROLE_INSTEAD:
                return added
            given = await self._send(role, max(0.0, deadline_s - time.monotonic()), asked.request.receive)
            return added if isinstance(given, Reply) and given.reason in _NO_ROLE_TO_CHANGE else given

        return await self._answered(asked, add, answer_of, send)

    async def answer_batch(self, asked: Asked) -> DirectAnswer:
        """Each message is answered as it would be alone: what is wrong with one does not touch the others."""
        items = await self._read_batch(asked)
        commands = [item for item in items if isinstance(item, Command)]
        preference = read_prefer(asked.prefer, self._default_wait_s)
        outcomes = iter(await self._send_all(commands, preference.wait_s, asked.request.receive) if commands else ())
        answer = answers.batch_answered(
            (item, next(outcomes)) if isinstance(item, Command) else (None, item) for item in items
        )
        return _response(answer, preference)

    async def _read_batch(self, asked: Asked) -> list[Command | Problem]:
        """Lets other requests in between: 4 MiB of messages can take longer than anyone else should wait."""
        items: list[Command | Problem] = []
        paused_at_s = time.perf_counter()
        for written in requests.batch_items(await asked.request.body(), asked.envelope):
            items.append(self._admitted(asked, requests.batch_message(written, asked.envelope)))
            if time.perf_counter() - paused_at_s > LONGEST_TURN_S:
                await asyncio.sleep(0)
                paused_at_s = time.perf_counter()
        return items

    def _admitted(self, asked: Asked, item: Command | Problem) -> Command | Problem:
        if self._rate is None:
            return item
        try:
            self.admit(asked)
        except Problem as problem:
            return problem
        return item

    async def answer_mark(
        self,
        asked: Asked,
        command_type: Literal[CommandType.READ_MARK, CommandType.DELIVERED_MARK],
        chat_id: str,
    ) -> DirectAnswer:
        self.admit(asked)
        command, up_to_seq = requests.mark(command_type, await asked.request.body(), chat_id, asked.envelope)
        return await self._answered(
            asked,
            command,
            answers.marked,
            lambda wait_s: self._marks.send(command, up_to_seq, wait_s, asked.request.receive),
        )

    async def _answered(self, asked: Asked, command: Command, answer_of: AnswerOf, send: SendPreferred) -> DirectAnswer:
        """`receive`, after the body, returns when the client has hung up: that is what `send` watches."""
        preference = read_prefer(asked.prefer, self._default_wait_s)
        outcome = await send(preference.wait_s)
        if isinstance(outcome, Pending):
            return _response(answers.outcome_pending(outcome), preference)
        return _response(answer_of(command, outcome), preference)


def _response(answer: Answer, preference: Preference) -> DirectAnswer:
    headers = [_JSON, (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if preference.applied is not None:
        headers.append((b"preference-applied", preference.applied.encode("latin-1")))
    return DirectAnswer(answer.status, headers, answer.body)


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
    responses = problem_responses(*shared, *reasons)
    responses[202] = {"model": answers.OutcomePending, "description": "In the log; ask at Location for the outcome."}
    if repeated is not None:
        responses[200] = {"model": repeated, "description": "A repeat: the figures of the original."}
    return responses
