"""Commands: the status of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.types.numeric import Int8
from pydantic import BaseModel, Field

from schemas.errors import Reason
from schemas.ids import parse_token, partition_of
from schemas.instants import instant_of
from services.query.api.examples import CHAT
from services.query.api.json_text import dumps
from services.query.api.parameters import AtLeastHeader, ChatIdInPath, CommandIdInPath, QueryParameters
from services.query.api.paths.messages import MESSAGE_EXAMPLE
from services.query.api.reads import Reads
from services.query.api.route import CallerOfRequest, json_response
from services.query.problems import RETRY_AFTER_S, invalid_parameter
from services.query.snapshot.reader import Row, Statement
from services.runtime.access.auth import Caller
from services.runtime.web.openapi import TokenText, example, headers, problem_responses
from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import Problem, sentence

PRODUCER_SCOPE: Final = "producer"
_OF_A_COMMAND: Final = problem_responses("unauthorized", "malformed", "unknown_command", "unavailable")


class CommandStatus(BaseModel):
    """The status of a command. For an accepted message it has the fields of the response to the send."""

    model_config = example(
        {
            "outcome": "accepted",
            "chat_id": CHAT,
            "command_id": MESSAGE_EXAMPLE["message_id"],
            "message_id": MESSAGE_EXAMPLE["message_id"],
            "seq": 1,
            "position": 2,
            "sent_at": MESSAGE_EXAMPLE["sent_at"],
            "token": "5:1042",
        },
        {
            "outcome": "rejected",
            "chat_id": CHAT,
            "command_id": MESSAGE_EXAMPLE["message_id"],
            "reason": "not_member",
            "detail": "You are no longer a member of this chat.",
            "token": "5:1042",
        },
        {"outcome": "pending", "chat_id": CHAT, "command_id": MESSAGE_EXAMPLE["message_id"]},
    )

    outcome: Literal["pending", "accepted", "unchanged", "rejected"]
    chat_id: UUID
    command_id: UUID
    message_id: UUID | None = Field(default=None, description="Set for an accepted message.")
    reason: Reason | None = Field(default=None, description="Why it was rejected.")
    detail: str | None = Field(
        default=None,
        description="What was wrong with this command, if it was rejected, as in the response to it. For a command"
        " decided before the read model stored this: what the reason means.",
    )
    seq: int | None = None
    position: int | None = None
    revision: int | None = Field(default=None, description="For an edit: the revision of the message after it.")
    sent_at: datetime | None = Field(default=None, description="Set for an accepted message.")
    token: TokenText | None = Field(
        default=None, description="The token of its outcome, while that is stored: for Gapless-At-Least."
    )


class CommandParameters(QueryParameters):
    """The place of the command in the log."""

    at: str | None = Field(
        default=None,
        max_length=64,
        description="`P:offset` of the command, from the Location of a 202: until the read model has reached it, the "
        "answer is `pending`. Without it, the answer is what is known now.",
    )

    def offset_in(self, partition: int) -> int | None:
        """Return the command's offset in the partition of its chat, or None if `at` is absent.

        :raises Problem: `malformed` if `at` is invalid or names another partition.
        """
        if self.at is None:
            return None
        try:
            at_partition, offset = parse_token(self.at)
        except ValueError:
            detail = "`at` is the place of the command, `P:offset`, as in the Location of a 202."
            raise invalid_parameter("query", "at", detail) from None
        if at_partition != partition:
            detail = f"`at` names partition {at_partition}, but this chat is in partition {partition}."
            raise invalid_parameter("query", "at", detail)
        return offset


CommandQuery = Annotated[CommandParameters, Query()]


class Status(NamedTuple):
    """The status of a command, as a response."""

    body: bytes
    message_seq: int | None = None
    """The seq of the message that the command sent; None if it sent none."""
    pending: bool = False


def command_status(
    chat_id: str, command_id: str, partition: int, accepted_message: Row | None, outcome: Row | None
) -> tuple[bytes, int | None] | None:
    """Return a command's status, with the seq of the message that it sent, if any; None if nothing is known of it.

    It is `accepted` if its id ever was, otherwise its last outcome. A duplicate or a conflict is only decided against
    an id that was accepted before, so either proves `accepted`: a duplicate with the original's figures, a conflict
    without.

    :param accepted_message: (seq, position, sent_at in ms) of the message with this id.
    :param outcome: (outcome, reason, seq, position, index, detail, revision) as selected by `outcome_of_command`. A
        rejection without a detail was projected by a release that did not store it; its reason's title is used instead.
    """
    ids = {"chat_id": chat_id, "command_id": command_id}
    token = None if outcome is None else f"{partition}:{outcome[4]}"
    if accepted_message is not None:
        seq, position, sent_at = accepted_message
        figures = {"message_id": command_id, "seq": seq, "position": position, "sent_at": instant_of(sent_at)}
        return dumps(_present({"outcome": "accepted", **ids, **figures, "token": token})), seq
    if outcome is None:
        return None
    kind, reason, seq, position, _, detail, revision = outcome
    if kind == "duplicate":
        kind = "accepted"
    elif reason == "conflict":
        kind, reason = "accepted", None
    figures = {
        "reason": reason,
        "detail": None if reason is None else sentence(detail or _title(reason)),
        "seq": seq,
        "position": position,
        "revision": revision,
        "token": token,
    }
    return dumps(_present({"outcome": kind, **ids, **figures})), None


def _title(reason: str) -> str | None:
    problem = PROBLEM_TYPES.get(reason)
    return None if problem is None else problem.title


def command_pending(chat_id: str, command_id: str) -> bytes:
    return dumps({"outcome": "pending", "chat_id": chat_id, "command_id": command_id})


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


async def read_status(
    reads: Reads, caller: Caller, chat_id: str, command_id: str, place: CommandParameters, at_least: str | None
) -> Status:
    """Return the status of a command: pending while the projection has not reached its place in the log."""
    partition = partition_of(chat_id, reads.partitions)
    command_offset = place.offset_in(partition)
    any_sender = PRODUCER_SCOPE in caller.scopes
    known_to = {"command_id": command_id, "caller_id": caller.user_id, "any_sender": any_sender}
    head, messages, outcomes = await reads.read(
        Statement("head", {"partition": Int8(partition)}),
        Statement("accepted_message", {**known_to, "chat_id": chat_id}),
        Statement("outcome_of_command", {**known_to, "partition": Int8(partition)}),
        at_least=reads.token_of(at_least),
    )
    reached = head[0][1] if head else -1
    if command_offset is not None and command_offset > reached:
        return Status(command_pending(chat_id, command_id), pending=True)
    status = command_status(chat_id, command_id, partition, _first(messages), _first(outcomes))
    if status is None:
        raise Problem("unknown_command", "No outcome of a command with this id is known to you.")
    return Status(*status)


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None


def add_routes(router: APIRouter, reads: Reads) -> None:
    @router.get(
        "/chats/{chat_id}/commands/{command_id}",
        response_model=CommandStatus,
        response_model_exclude_none=True,
        responses=_OF_A_COMMAND | {200: headers("Location", "Retry-After")},
    )
    async def get_command(
        caller: CallerOfRequest,
        chat_id: ChatIdInPath,
        command_id: CommandIdInPath,
        place: CommandQuery,
        at_least: AtLeastHeader = None,
    ) -> Response:
        """The status of a command that you sent; with the scope `producer`, of any user's command."""
        status = await read_status(reads, caller, chat_id, command_id, place, at_least)
        more = {}
        if status.pending:
            more["Retry-After"] = f"{RETRY_AFTER_S:.0f}"
        if status.message_seq is not None:
            more["Location"] = f"/v1/chats/{chat_id}/messages/{status.message_seq}"
        return json_response(status.body, more)
