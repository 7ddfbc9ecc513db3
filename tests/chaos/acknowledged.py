"""What an answer promised its client, in one form for HTTP and Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.chaos.evidence import Json, Op
from tests.oracle import oracle, records

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ACCEPTED: Final = frozenset({"accepted"})
DUPLICATE: Final = frozenset({"duplicate"})
UNCHANGED: Final = frozenset({"unchanged"})
DONE: Final = frozenset({"accepted", "unchanged"})
"""A 200 that does not say whether something changed."""
REJECTED: Final = frozenset({"rejected"})
REJECTIONS: Final = frozenset({400, 403, 404, 409, 412, 413, 422, 501})
"""HTTP statuses of rejections; tests/unit/chaos compares them with those that the contract declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The outcome of a command, as its client knows it. A part that the answer does not have is None."""

    op: Op
    outcome: frozenset[str]
    """The possible outcomes; the answer means one of them."""
    command_id: str | None
    answered_s: float
    reason: str | None = None
    partition: int | None = None
    index: int | None = None
    """Index of this attempt's outcome."""
    seq: int | None = None
    position: int | None = None
    revision: int | None = None
    sent_at_ms: int | None = None
    read_seq: int | None = None

    @property
    def place(self) -> str:
        return self.op.place

    @property
    def figures(self) -> tuple[int | None, ...]:
        return self.seq, self.position, self.revision, self.sent_at_ms


def command_id_of(op: Op) -> str | None:
    """Return the command's id, or None for a receipt."""
    asked = op.asked
    return None if asked.get("key") is None else records.command_id_of(asked["chat"], asked["sender"], asked["key"])


def acknowledged_by(op: Op) -> Acknowledged | None:
    """Return the promise of an answer, or None if there is no promise (202, 5xx, no answer)."""
    if op.kind != "command" or op.answer is None or op.answered_s is None:
        return None
    if op.asked["via"] == "kafka":
        return _by_kafka(op, op.answer, op.answered_s)
    return _by_http(op, op.answer, op.answered_s)


def _by_kafka(op: Op, reply: Json, answered_s: float) -> Acknowledged:
    return Acknowledged(
        op=op,
        outcome=frozenset({reply["outcome"]}),
        command_id=command_id_of(op),
        answered_s=answered_s,
        reason=reply.get("reason"),
        partition=reply["partition"],
        index=reply["index"],
        seq=reply.get("seq"),
        position=reply.get("position"),
        sent_at_ms=reply.get("sent_at_ms"),
    )


def _by_http(op: Op, answer: Json, answered_s: float) -> Acknowledged | None:
    status, body = answer["http"], answer.get("body") or {}
    if status in REJECTIONS:
        reason = body["type"].rsplit("/", 1)[-1]
        return Acknowledged(op=op, outcome=REJECTED, command_id=command_id_of(op), answered_s=answered_s, reason=reason)
    if status not in (200, 201):
        return None
    partition, index = (int(part) for part in (answer.get("token") or body["token"]).split(":"))
    return Acknowledged(
        op=op,
        outcome=_outcome(op.asked["type"], status, body),
        command_id=command_id_of(op),
        answered_s=answered_s,
        partition=partition,
        index=index,
        seq=body.get("seq") if op.asked["type"] == "message.send.v1" else None,  # any other only repeats the request's
        position=body.get("position"),
        revision=body.get("revision"),
        sent_at_ms=milliseconds(body["sent_at"]) if "sent_at" in body else None,
        read_seq=body.get("read_seq"),
    )


def _outcome(command_type: str, status: int, body: Json) -> frozenset[str]:
    if status == 201:
        return ACCEPTED
    if command_type in oracle.MARKS:
        return DONE
    if body["duplicate"]:
        return DUPLICATE
    return UNCHANGED if command_type == "chat.create.v1" else DONE


def milliseconds(text: str) -> int:
    """Return the milliseconds since 1970 UTC of an RFC 3339 time."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
