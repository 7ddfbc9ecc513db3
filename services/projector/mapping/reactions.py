"""Reactions: a row for each, and for each emoji of a message how many users react with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.bodies import Reaction
from schemas.errors import LogCorrupt
from schemas.types import EventType
from services.projector.mapping.builder import Accepted, ReactionState, RowBuilder
from services.projector.mapping.decode import ChangeEvent
from services.projector.mapping.lookups import Counted, ReactionKind
from services.projector.mapping.tables import (
    MessageReacted,
    ReactionAdded,
    ReactionRemoved,
    ReactionsCounted,
    ReactionsGone,
    RowChanges,
)


def added(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    kind, counted, reaction = _reaction(builder, accepted.event, was_there=False)
    reaction.position = accepted.event.position
    users, first_position = counted or (0, accepted.event.position)
    builder.reaction_counts[kind] = Counted(users + 1, first_position)


def removed(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    kind, counted, reaction = _reaction(builder, accepted.event, was_there=True)
    if counted is None:
        raise LogCorrupt(f"a reaction to message {kind[1]} of chat {kind[0]} is removed that is not there")
    reaction.position = None
    users, first_position = counted
    builder.reaction_counts[kind] = Counted(users - 1, first_position) if users > 1 else None


def _reaction(
    builder: RowBuilder, event: ChangeEvent, *, was_there: bool
) -> tuple[ReactionKind, Counted | None, ReactionState]:
    """Return the kind of the event's reaction, its count before the event, and the state of the sender's reaction.

    :param was_there: whether the reaction was there before the batch, if this is its first event in the batch.
    """
    body: Reaction = event.body
    builder.reacted[event.chat_id, body.seq] = event.position
    kind = (event.chat_id, body.seq, body.emoji)
    counts = builder.reaction_counts
    counted = counts[kind] if kind in counts else builder.looked_up.reaction_counts.get(kind)
    key = (*kind, event.sender_id)
    reaction = builder.reactions.get(key)
    if reaction is None:
        reaction = builder.reactions[key] = ReactionState(was_there=was_there)
    return kind, counted, reaction


MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[ChangeEvent]], None]]] = {
    EventType.REACTION_ADDED.value: added,
    EventType.REACTION_REMOVED.value: removed,
}


def add_rows(builder: RowBuilder, changes: RowChanges) -> None:
    """Add the rows of messages that the batch does not delete: a deletion takes all of a message's reactions."""
    deleted = builder.deletions
    for (chat_id, seq, emoji, user_id), reaction in builder.reactions.items():
        if (chat_id, seq) in deleted:
            continue
        if reaction.position is not None:
            changes.reactions_added.append(ReactionAdded(chat_id, seq, emoji, user_id, reaction.position))
        elif reaction.was_there:
            changes.reactions_removed.append(ReactionRemoved(chat_id, seq, emoji, user_id))
    for kind, counted in builder.reaction_counts.items():
        if kind[:2] in deleted:
            continue
        if counted is not None:
            changes.reactions_counted.append(ReactionsCounted(*kind, *counted))
        elif kind in builder.looked_up.reaction_counts:
            changes.reactions_gone.append(ReactionsGone(*kind))
    changes.messages_reacted.extend(
        MessageReacted(*message, position) for message, position in builder.reacted.items() if message not in deleted
    )
