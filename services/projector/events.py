"""From a valid outcome to an event this projector knows: its body parsed, its parts all there. Pure.

Whatever a correct writer cannot have appended is `LogCorrupt`; a type that was invented after this projector was
built is `UnknownType`. Both stop the partition before anything of the record is written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from schemas.bodies import Body
from schemas.checks import parse_instant
from schemas.errors import LogCorrupt, Refused, UnknownType
from schemas.events import (
    Duplicate,
    EventType,
    Outcome,
    OutcomeKind,
    Rejected,
    decode_accepted,
    decode_duplicate,
    decode_rejected,
    decode_unchanged,
)
from schemas.log import Stamp

ACCEPTED: Final = frozenset(
    {
        EventType.CHAT_CREATED.value,
        EventType.MEMBER_ADDED.value,
        EventType.MEMBER_REMOVED.value,
        EventType.MESSAGE_SENT.value,
        EventType.READ_ADVANCED.value,
        EventType.DELIVERED_ADVANCED.value,
    }
)
"""The accepted outcomes that rows.py turns into rows."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """A valid outcome, decoded."""

    stamp: Stamp
    outcome: Outcome
    body: Body | Duplicate | Rejected | int | None
    """Of the kind its type has; of `command.unchanged` the position, if it has one."""


def decode_event(stamp: Stamp, outcome: Outcome) -> Event:
    """Raises UnknownType, LogCorrupt."""
    if outcome.type in ACCEPTED:
        _require_parts(outcome)
        return Event(stamp, outcome, decode_accepted(outcome))
    match outcome.kind:
        case OutcomeKind.DUPLICATE:
            duplicate = decode_duplicate(outcome.body)
            _whole(duplicate.seq, duplicate.position)
            return Event(stamp, outcome, duplicate)
        case OutcomeKind.UNCHANGED:
            return Event(stamp, outcome, decode_unchanged(outcome.body))
        case OutcomeKind.REJECTED:
            return Event(stamp, outcome, decode_rejected(outcome.body))
    raise UnknownType(f"{outcome.type} is no event this projector knows; deploy a projector that does")


def _require_parts(outcome: Outcome) -> None:
    whole = outcome.chat_id is not None and outcome.sender_id is not None and outcome.position is not None
    if outcome.type == EventType.MESSAGE_SENT:
        whole = whole and None not in (outcome.seq, outcome.command_id, outcome.client_generated_id)
    if not whole:
        raise LogCorrupt(f"a {outcome.type} without its key or one of its headers")


def _whole(*numbers: object) -> None:
    if not all(number is None or type(number) is int for number in numbers):
        raise LogCorrupt("a command.duplicate whose figures are no numbers")


@lru_cache(maxsize=4_096)
def instant(at_ms: int) -> datetime:
    """A record's timestamp. Cached: the records of a batch share theirs. Raises LogCorrupt outside years 1970–9999."""
    try:
        if at_ms < 0:
            raise OverflowError
        return _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise LogCorrupt(f"a record's timestamp {at_ms} is no time between 1970 and 9999") from None


def original_instant(text: str) -> datetime:
    """`original_sent_at`, which was checked when the command was decided. Raises LogCorrupt."""
    try:
        return parse_instant(text)
    except Refused as error:
        raise LogCorrupt(f"an original_sent_at that is no time: {error.detail}") from None
