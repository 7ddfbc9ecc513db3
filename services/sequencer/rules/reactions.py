"""Reactions: a set of (message, user, emoji), to which users add and from which they remove their own."""

from __future__ import annotations

from typing import Final

from schemas import limits
from schemas.bodies import Reaction
from schemas.errors import LogCorrupt, Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import AcceptedFigures
from services.sequencer.rules.facts import DELETED, REACTED, REACTION_COUNTS
from services.sequencer.rules.rule import Rule, Unchanged, as_member, move_head
from services.sequencer.rules.state import Chat, StateChanges, View


def add(view: View, command: Command, body: Reaction) -> AcceptedFigures:
    chat, own = _reactions_of_sender(view, command, body)
    if body.emoji in own:
        raise Unchanged
    if len(own) >= limits.REACTIONS_OF_A_USER:
        raise Refused(
            Reason.INVALID, f"a user has at most {limits.REACTIONS_OF_A_USER} reactions to a message", "/emoji"
        )
    kinds = REACTION_COUNTS.of(view, (command.chat_id, body.seq)) or {}
    if body.emoji not in kinds and len(kinds) >= limits.REACTION_KINDS:
        raise Refused(Reason.INVALID, f"a message has at most {limits.REACTION_KINDS} kinds of reactions", "/emoji")
    return AcceptedFigures(position=chat.last_position + 1)


def remove(view: View, command: Command, body: Reaction) -> AcceptedFigures:
    chat, own = _reactions_of_sender(view, command, body)
    if body.emoji not in own:
        raise Unchanged
    return AcceptedFigures(position=chat.last_position + 1)


def _reactions_of_sender(view: View, command: Command, body: Reaction) -> tuple[Chat, tuple[str, ...]]:
    """Return the chat, and the sender's reactions to the message. Raises Refused."""
    chat, _ = as_member(view, command)
    message = (command.chat_id, body.seq)
    if body.seq > chat.last_seq:
        raise Refused(Reason.UNKNOWN_MESSAGE, f"the chat's last seq is {chat.last_seq}", "/seq")
    if DELETED.of(view, message) is not None:
        raise Refused(Reason.UNKNOWN_MESSAGE, "the message was deleted", "/seq")
    return chat, REACTED.of(view, (*message, command.sender_id)) or ()


def added(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    _change(view, outcome, changes, 1)


def removed(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    _change(view, outcome, changes, -1)


def _change(view: View, outcome: AcceptedOutcome, changes: StateChanges, step: int) -> None:
    body = body_of(outcome, Reaction)
    chat_id, chat = move_head(view, outcome, changes)
    message = (chat_id, body.seq)
    own = REACTED.of(view, (*message, outcome.sender_id)) or ()
    if outcome.seq is not None or not 1 <= body.seq <= chat.last_seq or (body.emoji in own) == (step > 0):
        raise LogCorrupt(
            f"a {outcome.type} of {outcome.sender_id} on message {body.seq} of chat {chat_id}, which stands at seq"
            f" {chat.last_seq}, and on which that user has {len(own)} reactions"
        )
    kept = (*own, body.emoji) if step > 0 else tuple(emoji for emoji in own if emoji != body.emoji)
    REACTED.record(changes, (*message, outcome.sender_id), kept)
    counts = dict(REACTION_COUNTS.of(view, message) or {})
    counts[body.emoji] = counts.get(body.emoji, 0) + step
    REACTION_COUNTS.record(changes, message, {emoji: count for emoji, count in counts.items() if count > 0})


RULES: Final = {
    CommandType.REACTION_ADD: Rule(add, added),
    CommandType.REACTION_REMOVE: Rule(remove, removed),
}
