"""Decodes a valid outcome into an event this projector knows, with its body parsed and all parts present. Pure.

Anything that a correct writer cannot have appended is `LogCorrupt`; a type that was added after this projector was
built is `UnknownType`. Both stop the partition before any part of the record is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, TypeAlias, final

from msgspec import Struct

from schemas.bodies import Body, decoder
from schemas.checks import parse_instant
from schemas.errors import LogCorrupt, Refused, UnknownType
from schemas.events import (
    Duplicate,
    OtherOutcome,
    Outcome,
    OutcomeKind,
    Rejected,
    body_corrupt,
    decode_duplicate,
    decode_rejected,
    decode_unchanged,
)
from schemas.ids import ChatId, CommandId, UserId, is_uuid
from schemas.log import Stamp
from schemas.types import BODY_OF, COMMAND_OF, TAKES_SEQ, EventType
from schemas.wire.records import MessageView

PLANNED: Final[frozenset[str]] = frozenset()
"""Outcomes that the contract declares but that become no rows yet: they stop the partition as `UnknownType`."""
ACCEPTED: Final = frozenset(COMMAND_OF) - PLANNED
"""The accepted outcomes that rows.py turns into rows."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AcceptedEvent(Struct, frozen=True, gc=False):
    """An accepted outcome: its command has an effect.

    `gc=False` here and below: a batch has a hundred thousand objects, none in a cycle.
    """

    is_view: ClassVar[Literal[False]] = False

    index: int
    type: str
    at_ms: int
    chat_id: ChatId
    sender_id: UserId
    position: int
    body: Any
    """The command's body, of the model that belongs to the type."""


@final
class MessageEvent(AcceptedEvent, frozen=True, gc=False):
    """A message."""

    seq: int
    command_id: CommandId
    client_generated_id: str


@final
class ChangeEvent(AcceptedEvent, frozen=True, gc=False):
    """Any other accepted outcome."""

    seq: int | None
    command_id: CommandId | None


@final
class OtherEvent(Struct, frozen=True, gc=False):
    """An outcome without effect."""

    is_view: ClassVar[Literal[False]] = False

    index: int
    type: str
    at_ms: int
    kind: OutcomeKind
    sender_id: UserId | None
    position: int | None
    body: Duplicate | Rejected | int | None
    """For `command.unchanged` the position, if it has one."""
    seq: int | None
    command_id: CommandId | None


Event: TypeAlias = MessageEvent | ChangeEvent | OtherEvent
AnyEvent: TypeAlias = Event | MessageView
"""Most events are plain messages, which stay as they are in their records (schemas/wire/records.py)."""


def decode_event(stamp: Stamp, outcome: Outcome) -> Event:
    """Decode a valid outcome. Raises UnknownType, LogCorrupt."""
    if type(outcome) is OtherOutcome:
        known = _OTHERS.get(outcome.type)
        if known is None:
            raise _unknown(outcome)
        decode_other, kind = known
        return OtherEvent(
            stamp.index, outcome.type, outcome.at_ms, kind, outcome.sender_id, outcome.position,
            decode_other(outcome.body), outcome.seq, outcome.command_id,
        )  # fmt: skip
    decode = _BODIES.get(outcome.type)
    if decode is None:
        raise _unknown(outcome)
    try:
        body = decode(outcome.body)
    except (ValueError, RecursionError) as error:
        raise body_corrupt(outcome.type, error) from None
    if not _is_uuid(outcome.sender_id):
        raise LogCorrupt(f"a {outcome.type} whose sender is no UUID")
    if outcome.type not in TAKES_SEQ:
        return ChangeEvent(
            stamp.index, outcome.type, outcome.at_ms, outcome.chat_id, outcome.sender_id, outcome.position, body,
            outcome.seq, outcome.command_id,
        )  # fmt: skip
    seq, command_id, client_generated_id = outcome.seq, outcome.command_id, outcome.client_generated_id
    if seq is None or command_id is None or client_generated_id is None:
        raise LogCorrupt(f"a {outcome.type} without seq, command_id or client_generated_id")
    return MessageEvent(
        stamp.index, outcome.type, outcome.at_ms, outcome.chat_id, outcome.sender_id, outcome.position, body, seq,
        command_id, client_generated_id,
    )  # fmt: skip


def _unknown(outcome: Outcome) -> UnknownType:
    return UnknownType(f"{outcome.type} is no event this projector knows; deploy a projector that does")


_BODIES: Final[dict[str, Callable[[bytes], Body]]] = {event: decoder(BODY_OF[COMMAND_OF[event]]) for event in ACCEPTED}
"""Decoders of bodies, by the type of the accepted outcome."""
_OTHERS: Final[dict[str, tuple[Callable[[bytes], Duplicate | Rejected | int | None], OutcomeKind]]] = {
    EventType.DUPLICATE.value: (decode_duplicate, OutcomeKind.DUPLICATE),
    EventType.UNCHANGED.value: (decode_unchanged, OutcomeKind.UNCHANGED),
    EventType.REJECTED.value: (decode_rejected, OutcomeKind.REJECTED),
}
"""The outcomes without effect, by type: the decoder of the body, and the kind."""


_is_uuid: Final = lru_cache(maxsize=65_536)(is_uuid)
"""Cached: senders repeat."""


@lru_cache(maxsize=4_096)
def instant(at_ms: int) -> datetime:
    """Return a record's timestamp as a datetime. Cached, because the records of a batch share theirs.

    Raises LogCorrupt outside the years 1970 to 9999.
    """
    try:
        if at_ms < 0:
            raise OverflowError
        return EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise LogCorrupt(f"a record's timestamp {at_ms} is no time between 1970 and 9999") from None


def original_instant(text: str) -> datetime:
    """Parse `original_sent_at`, which was checked when the command was decided. Raises LogCorrupt."""
    try:
        return parse_instant(text)
    except Refused as error:
        raise LogCorrupt(f"an original_sent_at that is no time: {error.detail}") from None
