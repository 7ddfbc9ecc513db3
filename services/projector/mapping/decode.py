"""Decodes a valid outcome into an event this projector knows, with its body parsed and all parts present. Pure.

Anything that a correct writer cannot have appended is `LogCorrupt`; a type that was added after this projector was
built is `UnknownType`. Both stop the partition before any part of the record is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import ClassVar, Final, Literal, TypeAlias

from msgspec import Struct

from schemas.bodies import Body, decoder
from schemas.checks import parse_instant
from schemas.errors import LogCorrupt, Refused, UnknownType
from schemas.events import (
    Duplicate,
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

PLANNED: Final = frozenset(
    {
        EventType.MESSAGE_EDITED.value,
        EventType.REACTION_ADDED.value,
        EventType.REACTION_REMOVED.value,
    }
)
"""Outcomes that the contract declares but that become no rows yet: they stop the partition as `UnknownType`."""
ACCEPTED: Final = frozenset(COMMAND_OF) - PLANNED
"""The accepted outcomes that rows.py turns into rows."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


AnyBody: TypeAlias = Body | Duplicate | Rejected | int | None


class Event(Struct, frozen=True, gc=False):
    """A valid outcome, decoded. `gc=False`: a batch has a hundred thousand objects, none in a cycle."""

    is_view: ClassVar[Literal[False]] = False

    index: int
    type: str
    kind: str
    """A value of OutcomeKind."""
    at_ms: int
    chat_id: ChatId | None
    command_id: CommandId | None
    client_generated_id: str | None
    sender_id: UserId | None
    position: int | None
    seq: int | None
    body: AnyBody
    """The body that belongs to its type; for `command.unchanged` the position, if it has one."""


AnyEvent: TypeAlias = Event | MessageView
"""Most events are plain messages, which stay as they are in their records (schemas/wire/records.py)."""


def decode_event(stamp: Stamp, outcome: Outcome) -> Event:
    """Decode a valid outcome. Raises UnknownType, LogCorrupt."""
    known = _KNOWN.get(outcome.type)
    if known is None:
        raise UnknownType(f"{outcome.type} is no event this projector knows; deploy a projector that does")
    decode, kind = known
    try:
        body = decode(outcome.body)
    except (ValueError, RecursionError) as error:
        raise body_corrupt(outcome.type, error) from None
    if kind is _ACCEPTED:
        _require_parts(outcome)
    return Event(
        stamp.index, outcome.type, kind, outcome.at_ms, outcome.chat_id, outcome.command_id,
        outcome.client_generated_id, outcome.sender_id, outcome.position, outcome.seq, body,
    )  # fmt: skip


_ACCEPTED: Final = OutcomeKind.ACCEPTED.value
_KNOWN: Final[dict[str, tuple[Callable[[bytes], AnyBody], str]]] = {
    **{event: (decoder(BODY_OF[COMMAND_OF[event]]), _ACCEPTED) for event in ACCEPTED},
    EventType.DUPLICATE.value: (decode_duplicate, OutcomeKind.DUPLICATE.value),
    EventType.UNCHANGED.value: (decode_unchanged, OutcomeKind.UNCHANGED.value),
    EventType.REJECTED.value: (decode_rejected, OutcomeKind.REJECTED.value),
}
"""Event type → the decoder of its body, and its kind."""


def _require_parts(outcome: Outcome) -> None:
    sender_id = outcome.sender_id
    whole = outcome.chat_id is not None and sender_id is not None and outcome.position is not None
    if outcome.type in TAKES_SEQ:
        whole = whole and None not in (outcome.seq, outcome.command_id, outcome.client_generated_id)
    if not whole:
        raise LogCorrupt(f"a {outcome.type} without its key or one of its headers")
    if sender_id is not None and not _is_uuid(sender_id):
        raise LogCorrupt(f"a {outcome.type} whose sender is no UUID")


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
        return _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise LogCorrupt(f"a record's timestamp {at_ms} is no time between 1970 and 9999") from None


def original_instant(text: str) -> datetime:
    """Parse `original_sent_at`, which was checked when the command was decided. Raises LogCorrupt."""
    try:
        return parse_instant(text)
    except Refused as error:
        raise LogCorrupt(f"an original_sent_at that is no time: {error.detail}") from None
