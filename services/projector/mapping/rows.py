"""Maps a batch of one partition's events to the rows it changes, merged to the batch's end state. Pure.

However a history is cut into batches, the tables come out the same. Facts about earlier rows are looked up
(`lookups_of`, `LookedUp`) or left to the database in relative form: `own_in_batch` is added to what sql/apply.sql finds
above the new cursor, and None means "unchanged".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from schemas.events import Duplicate, OutcomeKind, Rejected
from schemas.ids import CommandId
from schemas.types import COMMAND_OF, EventType
from schemas.wire.records import MessageView
from services.projector.mapping import chats, members, messages, reactions, receipts
from services.projector.mapping.builder import Accepted, RowBuilder
from services.projector.mapping.decode import AnyEvent, Event, OtherEvent, instant
from services.projector.mapping.lookups import LookedUp
from services.projector.mapping.tables import AnyOutcomeRow, OutcomeRow, RowChanges

MAPPING_VERSION: Final = 2
"""Raise it with any change that maps a log, which older releases could already fold, to other rows. A projector feeds
only projections of its own mapping version, so that all rows of one schema come from one mapping.

`outcomes.detail` was added without raising it, because every row says whether a release that stores details wrote it
(docs/decisions/0031-outcome-rows-say-whether-they-hold-the-detail.md)."""

MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[Any]], None]]] = {
    **chats.MAPPED, **members.MAPPED, **messages.MAPPED, **reactions.MAPPED, **receipts.MAPPED
}  # fmt: skip
"""What each accepted outcome changes, by event type."""


def changes_of(
    events: Sequence[AnyEvent], looked_up: LookedUp, *, partition: int, outcomes_since_ms: int
) -> RowChanges:
    """Return the rows that these events change, without outcomes older than `outcomes_since_ms`.

    The events are in log order. Raises LogCorrupt for an invalid timestamp, for a reply or a join that refers to
    something neither in `looked_up` nor in the batch, and for a message that is deleted twice.
    """
    builder = RowBuilder(looked_up)
    outcomes: list[AnyOutcomeRow] = []
    for event in events:
        if event.is_view:
            _add_message(builder, event)
            if event.at_ms >= outcomes_since_ms:
                outcomes.append(event)
            continue
        if type(event) is not OtherEvent:
            chat = builder.moved(event.chat_id, event.position, event.index)
            MAPPED[event.type](builder, Accepted(event, instant(event.at_ms), chat))
        if event.command_id is not None and event.at_ms >= outcomes_since_ms:
            outcomes.append(_outcome_row(event, event.command_id, partition, _revision(builder, event)))
    changes = RowChanges(outcomes=outcomes)
    messages.apply_deletions(builder, changes)
    for noun in (chats, members, messages, reactions):
        noun.add_rows(builder, changes)
    return changes


def _add_message(builder: RowBuilder, message: MessageView) -> None:
    """Add a plain message."""
    builder.append(message, builder.moved(message.chat_id, message.position, message.index), instant(message.at_ms))


def _revision(builder: RowBuilder, event: Event) -> int | None:
    """Return the revision after an edit, which has just been added to the builder, or after a repeat's original."""
    if type(event) is OtherEvent:
        return event.body.revision if isinstance(event.body, Duplicate) else None
    return builder.edits[event.chat_id, event.body.seq].revision if event.type == _EDITED else None


_EDITED: Final = EventType.MESSAGE_EDITED.value


def _outcome_row(event: Event, command_id: CommandId, partition: int, revision: int | None) -> OutcomeRow:
    seq, position = event.seq, event.position
    command_type: str | None = COMMAND_OF.get(event.type)
    kind, reason, detail = OutcomeKind.ACCEPTED, None, None
    if type(event) is OtherEvent:
        kind, body = event.kind, event.body
        if isinstance(body, Duplicate):
            seq, position = body.seq, body.position
        elif isinstance(body, Rejected):
            command_type, reason, detail = body.command_type, body.reason.value, body.detail
        elif body is not None:
            position = body
    return OutcomeRow(
        partition, event.index, command_id, event.sender_id, command_type, kind.value, reason, seq, position,
        instant(event.at_ms), detail, revision,
    )  # fmt: skip


def outcome_row(outcome: AnyOutcomeRow, partition: int) -> OutcomeRow:
    """Return the full row of an outcome of that partition."""
    if not outcome.is_view:
        return outcome
    return OutcomeRow(
        partition, outcome.index, outcome.message_id, outcome.sender_id, *SENT, outcome.seq,
        outcome.position, instant(outcome.at_ms), None, None,
    )  # fmt: skip


SENT: Final = (COMMAND_OF[EventType.MESSAGE_SENT], OutcomeKind.ACCEPTED.value, None)
"""Type, outcome and reason in the row of every accepted send."""
