"""The parts that all responses share: status, headers, body, the pending outcome, a rejection's problem. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, Field

from schemas import ids
from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.types import EVENT_OF, TAKES_SEQ
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.problems import RETRY_AFTER_S
from services.ingest.sending.pending import Pending
from services.runtime.web.openapi import TokenText, UuidText, example
from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import Problem, sentence

TOKEN_HEADER: Final = "Gapless-Token"  # noqa: S105  (a read-your-writes token, not a secret)
"""Header of the response to a receipt, whose body has no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResponse:
    status: int
    body: bytes
    """JSON of the model in the OpenAPI document."""
    headers: dict[str, str] = field(default_factory=dict)


class OutcomePending(BaseModel):
    """The command is in the log; query its outcome at `Location`."""

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
        default=None, description="For a send: the id of the message once it is accepted."
    )
    at: TokenText = Field(description="`P:offset` of the command.")


def outcome_pending(pending: Pending) -> CommandResponse:
    """Return 202 with the URL of the outcome, and when to retry."""
    command = pending.command
    assert command.command_id is not None
    at = f"{pending.partition}:{pending.offset}"
    message_id = command.command_id if EVENT_OF[command.type] in TAKES_SEQ else None
    body = OutcomePending(chat_id=command.chat_id, command_id=command.command_id, message_id=message_id, at=at)
    location = f"/v1/chats/{command.chat_id}/commands/{command.command_id}?at={at}"
    written = body.model_dump_json(exclude_none=True).encode()
    return CommandResponse(status=202, body=written, headers={"Location": location, "Retry-After": str(RETRY_AFTER_S)})


def instant(at_ms: int) -> str:
    """Return RFC 3339 in UTC with milliseconds."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    """Return the time without its fraction. Cached: under load most responses fall into the same second or two."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def to_json(body: BaseModel) -> bytes:
    return body.model_dump_json().encode()


def raise_if_rejected(command: Command, reply: Reply) -> None:
    if reply.outcome is not OutcomeKind.REJECTED:
        return
    reason = reply.reason.value if reply.reason is not None else ""
    if reply.reason is Reason.CHAT_EXISTS:
        detail = (
            "You created another group of this name, which chat_id names: use it (if everyone has left, join it again"
            f" by PUT /v1/chats/{command.chat_id}/members/{command.sender_id} with the role owner), choose another"
            ' name, or send "unique_name": false.'
        )
        raise Problem(reason, detail, chat_id=command.chat_id)
    if reason in PROBLEM_TYPES:
        raise Problem(reason, sentence(reply.detail))
    # wrong_partition: not the client's fault. Start-up checks the number of partitions, so this is a misconfiguration.
    raise Problem("internal", "The servers disagree about the partition of this chat; nothing was accepted.")


def changed(
    model: type[BaseModel], command: Command, reply: Reply, *, status: int = 200, **members: object
) -> CommandResponse:
    """Return the response to a command that changes something in a chat, also if it was changed before.

    Raises Problem for a rejection.

    :param members: those that the model has besides chat_id, position, token and duplicate.
    """
    raise_if_rejected(command, reply)
    duplicate = reply.outcome is OutcomeKind.DUPLICATE
    body = model(
        chat_id=command.chat_id, position=reply.position, token=token_of(reply), duplicate=duplicate, **members
    )
    return CommandResponse(status=status, body=to_json(body))


def created_status(reply: Reply) -> int:
    return 201 if reply.outcome is OutcomeKind.ACCEPTED else 200


def token_of(reply: Reply) -> str:
    """Return the token of this outcome. A repeat's token differs from the original's, and becomes visible no sooner."""
    return ids.token(reply.partition, reply.index)
