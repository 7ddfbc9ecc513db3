"""Many messages in one request, each answered like a request of its own."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.handler import CommandHandler, rendered
from services.ingest.api.paths.messages import MessageSent, SendMessage, build_parsed_send, message_sent
from services.ingest.api.requests import AnyCaseUuid, Envelope, parse_body, sender_of
from services.ingest.api.responses import CommandResponse, OutcomePending, outcome_pending
from services.ingest.api.route import BATCH_PATH, CommandRequest, UnkeyedRequest
from services.ingest.sending.pending import Pending
from services.runtime.web.fast_routes import FastResponse
from services.runtime.web.openapi import example, headers, problem_responses
from services.runtime.web.problems import Problem, encode_document

BATCH_ITEMS: Final = 1_000
ERRORS_PER_ITEM: Final = 5
"""Maximum number of errors reported for one message of a batch."""
ITEM_BYTES: Final = 512 * 1024
"""Maximum size of one message of a batch as sent. The command, without white space and needless escapes, has a lower
limit; this one bounds the parsing."""
_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")
_ARRAY: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Items",
        [(f"item_{index}", msgspec.Raw, None) for index in range(BATCH_ITEMS)],
        array_like=True,
        forbid_unknown_fields=True,
    )
)
"""Decodes an array of at most BATCH_ITEMS. Unlike a list type, it fails at the first item too many."""
LONGEST_TURN_S: Final = 0.005
"""Maximum time for which a batch is parsed before other requests get a turn."""


class BatchMessage(SendMessage):
    """One message of a batch."""

    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "client_generated_id": "hello-1",
            "text": "Is the log gap-free?",
        }
    )

    chat_id: AnyCaseUuid


class BatchAnswer(BaseModel):
    """The response to one message of a batch: `result` on success, `problem` on failure."""

    model_config = example(
        {
            "index": 0,
            "status": 201,
            "location": "/v1/chats/f89e858f-5f2e-5152-b188-6a52cbec990b/messages/1",
            "result": {
                "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
                "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
                "seq": 1,
                "position": 2,
                "sent_at": "2026-01-31T12:00:00.045Z",
                "token": "5:1042",
                "duplicate": False,
            },
        },
        {"index": 1, "status": 404, "problem": Problem("unknown_chat", "No such chat, or none of yours.").document()},
    )

    index: int
    """Index of the message in the request, from 0."""
    status: int
    """Status that the message would have got in a request of its own."""
    location: str | None = Field(default=None, description="The header `Location` of that response.")
    retry_after_s: int | None = Field(default=None, description="The header `Retry-After` of a 202.")
    result: MessageSent | OutcomePending | None = None
    problem: dict[str, Any] | None = Field(default=None, description="A problem document (RFC 9457).")


def batch_items(raw: bytes, envelope: Envelope) -> Sequence[bytes | msgspec.Raw]:
    """Split a batch into its raw messages, each for `batch_message`.

    Raises Problem if the batch cannot be split or has too many messages, or if a header is at fault.
    """
    if envelope.key is not None:
        detail = "Each message of a batch has a key of its own, in client_generated_id."
        raise Problem("malformed", detail, errors=[{"in": "header", "pointer": "/idempotency-key", "detail": detail}])
    if envelope.sender is not None:
        sender_of(envelope)  # a header at fault would fail every message
    return _items(raw)


def batch_message(item: bytes | msgspec.Raw, envelope: Envelope) -> Command | Problem:
    """Return the command of one message of a batch, or the problem with it."""
    try:
        written = bytes(item)
        if len(written) > ITEM_BYTES:
            raise Problem("too_large", f"A message of a batch has at most {ITEM_BYTES} bytes.", limit_bytes=ITEM_BYTES)
        wanted = parse_body(BatchMessage, written, ERRORS_PER_ITEM)
        if wanted.client_generated_id is None:
            raise Problem("missing_key", "Each message of a batch needs its key in the field client_generated_id.")
        return build_parsed_send(wanted, wanted.chat_id, envelope)
    except Problem as problem:
        return problem


def _items(raw: bytes) -> Sequence[bytes | msgspec.Raw]:
    """Return the raw items of a JSON array, or the lines of NDJSON. Raises Problem."""
    first = _LINE.search(raw)
    if first is None:
        raise Problem("malformed", "A batch is a JSON array of messages, or one message on each line.")
    if not first[0].startswith(b"["):
        lines = [line[0] for line in islice(_LINE.finditer(raw), BATCH_ITEMS + 1)]
        if len(lines) > BATCH_ITEMS:
            raise _too_many_items()
        return lines
    try:
        items = msgspec.structs.astuple(_ARRAY.decode(raw))
    except msgspec.ValidationError:
        raise _too_many_items() from None
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise Problem("malformed", "The body cannot be read as JSON.") from None
    return items if items[-1] is not None else items[: items.index(None)]


def _too_many_items() -> Problem:
    return Problem("too_large", f"A batch has at most {BATCH_ITEMS} messages.", limit=BATCH_ITEMS)


def batch_answered(outcomes: Iterable[tuple[Command | None, Reply | Pending | Problem]]) -> CommandResponse:
    """Return 200 with a response to each message. A command is None only if its outcome is a problem."""
    items = [_batch_item(index, command, outcome) for index, (command, outcome) in enumerate(outcomes)]
    return CommandResponse(status=200, body=b"[%b]" % b",".join(items))


def _batch_item(index: int, command: Command | None, outcome: Reply | Pending | Problem) -> bytes:
    try:
        if isinstance(outcome, Problem):
            raise outcome
        if isinstance(outcome, Pending):
            answer = outcome_pending(outcome)
        else:
            assert command is not None
            answer = message_sent(command, outcome)
    except Problem as problem:
        document = encode_document(problem.document())
        return b'{"index":%d,"status":%d,"problem":%b}' % (index, problem.status, document)
    # Our locations consist of ids, digits and slashes: nothing needs escaping.
    members = b'"location":"%b",' % answer.headers["Location"].encode("ascii")
    if "Retry-After" in answer.headers:
        members += b'"retry_after_s":%b,' % answer.headers["Retry-After"].encode("ascii")
    return b'{"index":%d,"status":%d,%b"result":%b}' % (index, answer.status, members, answer.body)


def add_routes(router: APIRouter, handler: CommandHandler) -> None:
    @router.post(
        BATCH_PATH,
        summary="Send many messages",
        response_model=list[BatchAnswer],
        openapi_extra={"requestBody": {"required": True, "content": _batch_content()}},
        responses=problem_responses("unauthorized", "malformed", "too_large", "unsupported_media_type", "unavailable")
        | {200: headers("RateLimit", "RateLimit-Policy")},
    )
    async def send_messages(command_request: UnkeyedRequest) -> FastResponse:
        items = await _read_batch(handler, command_request)
        commands = [item for item in items if isinstance(item, Command)]
        preference = handler.preference(command_request)
        outcomes = iter(
            await handler.send_all(commands, preference.wait_s, command_request.request.receive) if commands else ()
        )
        answer = batch_answered((item, next(outcomes)) if isinstance(item, Command) else (None, item) for item in items)
        return rendered(answer, preference)


async def _read_batch(handler: CommandHandler, command_request: CommandRequest) -> list[Command | Problem]:
    """Parse the messages in slices, so that other requests do not wait for up to 4 MiB of them."""
    items: list[Command | Problem] = []
    paused_at_s = time.perf_counter()
    for written in batch_items(await command_request.request.body(), command_request.envelope):
        items.append(_admitted(handler, command_request, batch_message(written, command_request.envelope)))
        if time.perf_counter() - paused_at_s > LONGEST_TURN_S:
            await asyncio.sleep(0)
            paused_at_s = time.perf_counter()
    return items


def _admitted(handler: CommandHandler, command_request: CommandRequest, item: Command | Problem) -> Command | Problem:
    try:
        handler.admit(command_request)
    except Problem as problem:
        return problem
    return item


def _batch_content() -> dict[str, Any]:
    message = BatchMessage.model_json_schema()
    many = {"type": "array", "items": message, "maxItems": BATCH_ITEMS}
    return {"application/json": {"schema": many}, "application/x-ndjson": {"schema": message}}
