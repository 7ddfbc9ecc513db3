"""From the outcome of a command to its HTTP answer: status, headers and shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, Field

from schemas import ids
from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.types import EVENT_OF, TAKES_SEQ
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.problems import RETRY_AFTER_S
from services.ingest.sending.pending import Pending
from services.runtime.web.openapi import InstantText, TokenText, UuidText, example
from services.runtime.web.problems import PROBLEM_TYPES, Problem, encode_document, sentence

TOKEN_HEADER: Final = "Gapless-Token"  # noqa: S105  (a read-your-writes token, no secret)
"""On the answer to a receipt, whose body has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResponse:
    status: int
    body: bytes
    """JSON, of the model that OpenAPI is told of."""
    headers: dict[str, str] = field(default_factory=dict)


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
    """Of the deletion, also where the message was deleted before."""
    token: TokenText
    duplicate: bool


class Marked(BaseModel):
    model_config = example({"updated_count": 1, "read_seq": 1})

    updated_count: int
    """How far the cursor moved: new − old."""
    read_seq: int


class OutcomePending(BaseModel):
    """The command is in the log; ask for its outcome at `Location`."""

    model_config = example(
        {
            "chat_id": "f89e858f-5f2e-5152-b188-6a52cbec990b",
            "command_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
            "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
            "at": "5:99",
        }
    )

    chat_id: UuidText
    command_id: UuidText
    message_id: UuidText | None = Field(
        default=None, description="Of a message, which has this id once it is accepted."
    )
    at: TokenText = Field(description="`P:offset` of the command.")


class BatchAnswer(BaseModel):
    """The answer to one message of a batch: `result` where it went well, `problem` where it did not."""

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
        }
    )

    index: int
    """Its place in the request, from 0."""
    status: int
    """What it would have been answered by itself."""
    location: str | None = Field(default=None, description="The header `Location` of that answer.")
    retry_after_s: int | None = Field(default=None, description="The header `Retry-After` of a 202.")
    result: MessageSent | OutcomePending | None = None
    problem: dict[str, Any] | None = Field(default=None, description="A problem document (RFC 9457).")


def message_sent(command: Command, reply: Reply) -> CommandResponse:
    """201 for a new message, 200 for a repeat. This and the others below raise Problem for a rejection."""
    _raise_if_rejected(command, reply)
    assert command.chat_id is not None
    assert command.command_id is not None
    assert reply.seq is not None, "every accepted or repeated message has a seq"
    assert reply.position is not None
    assert reply.sent_at_ms is not None
    # Written out, not through the model: it is the answer to every send, and nothing in it needs escaping.
    body = (
        f'{{"message_id":"{command.command_id}","chat_id":"{command.chat_id}","seq":{reply.seq}'
        f',"position":{reply.position},"sent_at":"{instant(reply.sent_at_ms)}","token":"{_token(reply)}"'
        f',"duplicate":{"true" if reply.outcome is OutcomeKind.DUPLICATE else "false"}}}'
    ).encode("ascii")
    location = {"Location": f"/v1/chats/{command.chat_id}/messages/{reply.seq}"}
    return CommandResponse(status=_created(reply), body=body, headers=location)


def chat_opened(command: Command, reply: Reply) -> CommandResponse:
    """201 for a new chat; 200 for a repeat, and for a direct chat that was there."""
    _raise_if_rejected(command, reply)
    assert command.chat_id is not None
    duplicate = reply.outcome is OutcomeKind.DUPLICATE
    body = ChatOpened(chat_id=command.chat_id, position=reply.position, token=_token(reply), duplicate=duplicate)
    return CommandResponse(
        status=_created(reply), body=_json(body), headers={"Location": f"/v1/chats/{command.chat_id}"}
    )


def member_changed(command: Command, reply: Reply, *, user_id: str) -> CommandResponse:
    _raise_if_rejected(command, reply)
    assert command.chat_id is not None
    body = MemberChanged(
        chat_id=command.chat_id,
        user_id=user_id,
        position=reply.position,
        token=_token(reply),
        duplicate=reply.outcome is OutcomeKind.DUPLICATE,
    )
    return CommandResponse(status=200, body=_json(body))


def message_deleted(command: Command, reply: Reply, *, seq: int) -> CommandResponse:
    """200, also for a message that was deleted before."""
    _raise_if_rejected(command, reply)
    assert command.chat_id is not None
    body = MessageDeleted(
        chat_id=command.chat_id,
        seq=seq,
        position=reply.position,
        token=_token(reply),
        duplicate=reply.outcome is OutcomeKind.DUPLICATE,
    )
    return CommandResponse(status=200, body=_json(body))


def marked(command: Command, reply: Reply) -> CommandResponse:
    _raise_if_rejected(command, reply)
    body = Marked(updated_count=reply.updated_count or 0, read_seq=reply.read_seq or 0)
    return CommandResponse(status=200, body=_json(body), headers={TOKEN_HEADER: _token(reply)})


def outcome_pending(pending: Pending) -> CommandResponse:
    """202: where to ask, and when."""
    command = pending.command
    assert command.chat_id is not None
    assert command.command_id is not None
    at = f"{pending.partition}:{pending.offset}"
    message_id = command.command_id if EVENT_OF[command.type] in TAKES_SEQ else None
    body = OutcomePending(chat_id=command.chat_id, command_id=command.command_id, message_id=message_id, at=at)
    location = f"/v1/chats/{command.chat_id}/commands/{command.command_id}?at={at}"
    written = body.model_dump_json(exclude_none=True).encode()
    return CommandResponse(status=202, body=written, headers={"Location": location, "Retry-After": str(RETRY_AFTER_S)})


def batch_answered(outcomes: Iterable[tuple[Command | None, Reply | Pending | Problem]]) -> CommandResponse:
    """200 with an answer to each message; the command is None only where there is a problem in its place."""
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
    # Ids, figures and slashes: nothing in a location of ours needs escaping.
    members = b'"location":"%b",' % answer.headers["Location"].encode("ascii")
    if "Retry-After" in answer.headers:
        members += b'"retry_after_s":%b,' % answer.headers["Retry-After"].encode("ascii")
    return b'{"index":%d,"status":%d,%b"result":%b}' % (index, answer.status, members, answer.body)


def instant(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    """Cached: under load, most answers are of the same second or two."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json().encode()


def _raise_if_rejected(command: Command, reply: Reply) -> None:
    if reply.outcome is not OutcomeKind.REJECTED:
        return
    reason = reply.reason.value if reply.reason is not None else ""
    if reply.reason is Reason.CHAT_EXISTS:
        detail = (
            "You created another group of this name, which chat_id names: use it (if everybody has left, join it again"
            f" by PUT /v1/chats/{command.chat_id}/members/{command.sender_id} with the role owner), choose another"
            ' name, or send "unique_name": false.'
        )
        raise Problem(reason, detail, chat_id=command.chat_id)
    if reason in PROBLEM_TYPES:
        raise Problem(reason, sentence(reply.detail))
    # wrong_partition: not the client's doing. Start-up checks the number of partitions, so this is a broken set-up.
    raise Problem("internal", "The servers disagree about where this chat lives; nothing was accepted.")


def _created(reply: Reply) -> int:
    return 201 if reply.outcome is OutcomeKind.ACCEPTED else 200


def _token(reply: Reply) -> str:
    """Of its own outcome: a repeat's token is not the original's, and is visible no sooner than it."""
    return ids.token(reply.partition, reply.index)
