"""Decodes a valid outcome into an event this projector knows, with its body parsed and all parts present. Pure.

Anything that a correct writer cannot have appended is `LogCorrupt`; a type that was added after this projector was
built is `UnknownType`. Both stop the partition before any part of the record is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct, json

from schemas.bodies import Body, Mark, MessageDelete, MessageSend
from schemas.checks import parse_instant
from schemas.errors import LogCorrupt, Refused, UnknownType
from schemas.events import (
    Duplicate,
    Outcome,
    OutcomeKind,
    Rejected,
    decode_accepted,
    decode_duplicate,
    decode_rejected,
    decode_unchanged,
)
from schemas.ids import ChatId, CommandId, UserId, is_uuid
from schemas.log import Stamp
from schemas.types import COMMAND_OF, TAKES_SEQ, EventType

if TYPE_CHECKING:
    from schemas.wire._scan import ScannedMessage

PLANNED: Final = frozenset(
    {
        EventType.CHAT_RENAMED.value,
        EventType.MESSAGE_EDITED.value,
        EventType.REACTION_ADDED.value,
        EventType.REACTION_REMOVED.value,
    }
)
"""Outcomes that the contract declares but that become no rows yet: they stop the partition as `UnknownType`."""
ACCEPTED: Final = frozenset(COMMAND_OF) - PLANNED
"""The accepted outcomes that rows.py turns into rows."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Sent(Struct, frozen=True, gc=False):
    """The body of a message, as in schemas.bodies.MessageSend."""

    text: str
    reply_to_message_id: str | None = None
    media_urls: list[str] | None = None
    metadata: dict[str, Any] | None = None
    original_sent_at: str | None = None


class Marked(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of a receipt."""

    up_to_seq: int


class Deleted(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of a deletion."""

    seq: int
    """The seq of the deleted message; the deletion itself has none."""


class Event(Struct, frozen=True, gc=False):
    """A valid outcome, decoded. `gc=False` here and above: a batch has a hundred thousand objects, none in a cycle."""

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
    body: Body | Sent | Marked | Deleted | Duplicate | Rejected | int | None
    """The body that belongs to its type; for `command.unchanged` the position, if it has one."""


AnyEvent: TypeAlias = "Event | ScannedMessage"
"""Most events are plain messages, which stay as they are in their records (schemas/wire/records.py)."""


def decode_event(stamp: Stamp, outcome: Outcome) -> Event:
    """Decode a valid outcome. Raises UnknownType, LogCorrupt."""
    if outcome.type in ACCEPTED:
        _require_parts(outcome)
        return _event(stamp, outcome, _ours(decode_accepted(outcome)))
    match outcome.kind:
        case OutcomeKind.DUPLICATE:
            duplicate = decode_duplicate(outcome.body)
            _whole(duplicate.seq, duplicate.position)
            return _event(stamp, outcome, duplicate)
        case OutcomeKind.UNCHANGED:
            return _event(stamp, outcome, decode_unchanged(outcome.body))
        case OutcomeKind.REJECTED:
            return _event(stamp, outcome, decode_rejected(outcome.body))
    raise UnknownType(f"{outcome.type} is no event this projector knows; deploy a projector that does")


def decode_event_fast(stamp: Stamp, outcome: Outcome) -> Event | None:
    """Decode a message, a receipt or a deletion, as a writer appends it, in a third of the time of `decode_event`.

    Returns None if the outcome is anything else, or if something is wrong with it.
    """
    decode = _FAST_DECODERS.get(outcome.type)
    if decode is None:
        return None
    try:
        body = decode(outcome.body)
        _require_parts(outcome)
    except (LogCorrupt, ValueError):
        return None
    return Event(
        stamp.index, outcome.type, _ACCEPTED, outcome.at_ms, outcome.chat_id, outcome.command_id,
        outcome.client_generated_id, outcome.sender_id, outcome.position, outcome.seq, body,
    )  # fmt: skip


class _SentWithoutMetadata(Sent, frozen=True, gc=False, forbid_unknown_fields=True):
    """A body without metadata: its numbers are left to the parser that checked the command."""

    metadata: None = None


_decode_sent: Final = json.Decoder(_SentWithoutMetadata).decode
_ACCEPTED: Final = OutcomeKind.ACCEPTED.value
_decode_marked: Final = json.Decoder(Marked).decode
_decode_deleted: Final = json.Decoder(Deleted).decode


def _decode_plain_sent(raw: bytes) -> Sent:
    body = _decode_sent(raw)
    if body.reply_to_message_id is not None and not is_uuid(body.reply_to_message_id):
        raise ValueError
    return body


_FAST_DECODERS: Final[dict[str, Callable[[bytes], Sent | Marked | Deleted]]] = {
    EventType.MESSAGE_SENT.value: _decode_plain_sent,
    EventType.MESSAGE_DELETED.value: _decode_deleted,
    EventType.READ_ADVANCED.value: _decode_marked,
    EventType.DELIVERED_ADVANCED.value: _decode_marked,
}


def _event(
    stamp: Stamp, outcome: Outcome, body: Body | Sent | Marked | Deleted | Duplicate | Rejected | int | None
) -> Event:
    return Event(
        stamp.index, outcome.type, outcome.kind.value, outcome.at_ms, outcome.chat_id, outcome.command_id,
        outcome.client_generated_id, outcome.sender_id, outcome.position, outcome.seq, body,
    )  # fmt: skip


def _ours(body: Body) -> Body | Sent | Marked | Deleted:
    if isinstance(body, MessageSend):
        return Sent(body.text, body.reply_to_message_id, body.media_urls, body.metadata, body.original_sent_at)
    if isinstance(body, Mark):
        return Marked(body.up_to_seq)
    if isinstance(body, MessageDelete):
        return Deleted(body.seq)
    return body


def _require_parts(outcome: Outcome) -> None:
    sender_id = outcome.sender_id
    whole = outcome.chat_id is not None and sender_id is not None and outcome.position is not None
    if outcome.type in TAKES_SEQ:
        whole = whole and None not in (outcome.seq, outcome.command_id, outcome.client_generated_id)
    if not whole:
        raise LogCorrupt(f"a {outcome.type} without its key or one of its headers")
    if sender_id is not None and not is_uuid(sender_id):
        raise LogCorrupt(f"a {outcome.type} whose sender is no UUID")


def _whole(*numbers: object) -> None:
    if not all(number is None or type(number) is int for number in numbers):
        raise LogCorrupt("a command.duplicate whose figures are no numbers")


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
