"""Outcomes of commands in the log, and those bodies that are not the command's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar, Final, TypeAlias, TypeVar, final

from msgspec import Struct

from schemas.bodies import Body, decoder, malformed
from schemas.canonical import canonical_json
from schemas.errors import LogCorrupt, Reason
from schemas.ids import ChatId, CommandId, UserId
from schemas.types import BODY_OF, COMMAND_OF, EventType

B = TypeVar("B", bound=Body)


class OutcomeKind(StrEnum):
    """The kind of an outcome, as in replies."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


_REASONS: Final = frozenset(reason.value for reason in Reason)
_KIND_OF: Final = {
    EventType.DUPLICATE.value: OutcomeKind.DUPLICATE,
    EventType.UNCHANGED.value: OutcomeKind.UNCHANGED,
    EventType.REJECTED.value: OutcomeKind.REJECTED,
}


@final
class AcceptedOutcome(Struct, frozen=True, gc=False):
    """An outcome with an effect: the command became an event with a position in its chat."""

    type: str
    """A key of `types.COMMAND_OF`."""
    at_ms: int
    """When it was sequenced, ms since 1970 UTC; never decreasing in a partition. The record's timestamp."""
    body: bytes
    """The body of the command, byte for byte."""
    chat_id: ChatId
    sender_id: UserId
    position: int
    """Position in the chat."""
    seq: int | None = None
    """Seq in the chat, for messages."""
    command_id: CommandId | None = None
    """Not checked for a type without a key: it may be absent, or that of another command."""
    client_generated_id: str | None = None
    traceparent: str | None = None
    kind: ClassVar[OutcomeKind] = OutcomeKind.ACCEPTED

    @property
    def key(self) -> bytes:
        """Key of the record."""
        return self.chat_id.encode()


@final
class OtherOutcome(Struct, frozen=True, gc=False):
    """A duplicate, an unchanged or a rejected; or an opening; or an outcome of a type introduced after this build.

    Only `type`, `at_ms` and `body` are always there: a command may have been anything.
    """

    type: str
    at_ms: int
    """As in AcceptedOutcome."""
    body: bytes
    chat_id: ChatId | None = None
    """The record's key, if that is a UUID."""
    sender_id: UserId | None = None
    position: int | None = None
    """None but for a newer type: the others leave no trace in a chat. The same holds for `seq`."""
    seq: int | None = None
    command_id: CommandId | None = None
    client_generated_id: str | None = None
    traceparent: str | None = None
    key: bytes | None = None

    @property
    def kind(self) -> OutcomeKind:
        """An outcome of an unknown type has an effect."""
        return _KIND_OF.get(self.type, OutcomeKind.ACCEPTED)


Outcome: TypeAlias = AcceptedOutcome | OtherOutcome
"""The one record that answers one command, without its place in the log (that is its `log.Stamp`)."""


class Duplicate(Struct, frozen=True, kw_only=True):
    """Body of `command.duplicate.v1`: the figures and the time of the original."""

    seq: int | None
    position: int
    sent_at_ms: int
    revision: int | None = None
    """For an edit: the message's revision after the original."""


class Rejected(Struct, frozen=True, kw_only=True):
    """Body of `command.rejected.v1`. `command_type` is None if the command's own could not be repeated."""

    command_type: str | None
    reason: Reason
    detail: str


class TermOpened(Struct, frozen=True, kw_only=True):
    """Body of `term.opened.v1`: a writer took the partition over."""

    owner: str
    """A new UUID for each opening, by which its writer recognises it."""
    host: str
    partitions: int
    """Number of partitions for the life of the log."""
    commands_from: int | None = None
    """Offset of the next command, if an operator set it after a proven loss or an import."""


def encode_duplicate(body: Duplicate) -> bytes:
    seq = "" if body.seq is None else f'"seq":{body.seq},'
    revision = "" if body.revision is None else f',"revision":{body.revision}'
    return f'{{{seq}"position":{body.position},"sent_at_ms":{body.sent_at_ms}{revision}}}'.encode()


def encode_unchanged(position: int | None) -> bytes:
    return b"{}" if position is None else b'{"position":%d}' % position


def encode_rejected(body: Rejected) -> bytes:
    fields = {"command_type": body.command_type, "reason": body.reason.value, "detail": body.detail}
    return canonical_json({k: v for k, v in fields.items() if v is not None})


def encode_term_opened(body: TermOpened) -> bytes:
    fields = {
        "owner": body.owner,
        "host": body.host,
        "partitions": body.partitions,
        "commands_from": body.commands_from,
    }
    return canonical_json({k: v for k, v in fields.items() if v is not None})


def decode_duplicate(raw: bytes) -> Duplicate:
    """Raises LogCorrupt if the bytes are not such a body; so do the other decoders."""
    fields = _object(raw)
    return Duplicate(
        seq=_part(fields, "seq", int) if "seq" in fields else None,
        position=_part(fields, "position", int),
        sent_at_ms=_part(fields, "sent_at_ms", int),
        revision=_part(fields, "revision", int) if "revision" in fields else None,
    )


def decode_unchanged(raw: bytes) -> int | None:
    fields = _object(raw)
    return _part(fields, "position", int) if "position" in fields else None


def decode_rejected(raw: bytes) -> Rejected:
    fields = _object(raw)
    reason = _part(fields, "reason", str)
    if reason not in _REASONS:
        raise LogCorrupt(f"a command was rejected for no known reason: {reason!r:.80}")
    return Rejected(
        command_type=_part(fields, "command_type", str) if "command_type" in fields else None,
        reason=Reason(reason),
        detail=_part(fields, "detail", str),
    )


def decode_term_opened(raw: bytes) -> TermOpened:
    fields = _object(raw)
    return TermOpened(
        owner=_part(fields, "owner", str),
        host=_part(fields, "host", str),
        partitions=_part(fields, "partitions", int),
        commands_from=_part(fields, "commands_from", int) if "commands_from" in fields else None,
    )


def decode_accepted(outcome: AcceptedOutcome) -> Body:
    """Return the body of an accepted outcome, which was checked when it was decided.

    Raises LogCorrupt where it no longer parses: no writer of ours appended that.
    """
    try:
        return _DECODE[outcome.type](outcome.body)
    except (ValueError, RecursionError) as error:
        raise body_corrupt(outcome.type, error) from None


_DECODE: Final[dict[str, Callable[[bytes], Body]]] = {
    event: decoder(BODY_OF[command]) for event, command in COMMAND_OF.items()
}


def body_corrupt(outcome_type: str, error: Exception) -> LogCorrupt:
    """Return the error for an accepted outcome whose body does not decode. It does not repeat the content."""
    fault = malformed(error)
    return LogCorrupt(f"a {outcome_type} whose body cannot be read: {fault.detail} ({fault.pointer or 'the whole'})")


def body_of(outcome: AcceptedOutcome, model: type[B]) -> B:
    """Return the body of an accepted outcome whose type has this model. Raises LogCorrupt if it does not parse."""
    decode: Callable[[bytes], B] = decoder(model)
    try:
        return decode(outcome.body)
    except (ValueError, RecursionError) as error:
        raise body_corrupt(outcome.type, error) from None


def _object(raw: bytes) -> dict[str, object]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise LogCorrupt(f"an outcome's body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise LogCorrupt("an outcome's body is not an object")
    return fields


_Part = TypeVar("_Part", int, str)


def _part(fields: dict[str, object], name: str, kind: type[_Part]) -> _Part:
    value = fields.get(name)
    if type(value) is not kind:  # a bool is an int in Python, but not here
        raise LogCorrupt(f"an outcome's {name} is {value!r:.80}, not of type {kind.__name__}")
    return value
