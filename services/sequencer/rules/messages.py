"""Messages: who may send and delete them, and what that changes."""

from __future__ import annotations

from typing import Final

from schemas.bodies import MessageDelete, MessageSend
from schemas.errors import LogCorrupt, Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.ids import CommandId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.records import command_key
from schemas.wire.replies import AcceptedFigures
from services.sequencer.rules.facts import DELETED
from services.sequencer.rules.rule import Rule, Unchanged, as_member, move_head
from services.sequencer.rules.state import StateChanges, View


def send(view: View, command: Command, body: MessageSend) -> AcceptedFigures:
    chat, _ = as_member(view, command)
    if body.reply_to_message_id is not None:
        # Keyed by chat, so that a message of another chat is as unknown as one that does not exist.
        replied = view.dedup(command_key(command.chat_id, CommandId(body.reply_to_message_id)))
        if replied is None or replied.seq is None:
            raise Refused(Reason.UNKNOWN_MESSAGE, "no such message in this chat", "/reply_to_message_id")
    return AcceptedFigures(position=chat.last_position + 1, seq=chat.last_seq + 1)


def sent(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    move_head(view, outcome, changes)
    if outcome.seq is None:
        raise LogCorrupt(f"a {outcome.type} without a seq")
    changes.senders[outcome.chat_id].append(outcome.sender_id)


def delete(view: View, command: Command, body: MessageDelete) -> AcceptedFigures:
    chat, sender = as_member(view, command)
    # The right to delete a message depends on its author, so first there has to be such a message.
    if body.seq > chat.last_seq:
        raise Refused(Reason.UNKNOWN_MESSAGE, f"the chat's last seq is {chat.last_seq}", "/seq")
    moderates = chat.kind == "group" and sender.role != "member"
    if not moderates and view.author(command.chat_id, body.seq) != command.sender_id:
        raise Refused(Reason.FORBIDDEN, "a message is deleted by its author, in a group by owners and admins too")
    deleted_at = DELETED.of(view, (command.chat_id, body.seq))
    if deleted_at is not None:
        raise Unchanged(AcceptedFigures(position=deleted_at))
    return AcceptedFigures(position=chat.last_position + 1)


def deleted(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body = body_of(outcome, MessageDelete)
    chat_id, chat = move_head(view, outcome, changes)
    if outcome.seq is not None or not 1 <= body.seq <= chat.last_seq:
        raise LogCorrupt(
            f"message {body.seq} of chat {chat_id}, which stands at seq {chat.last_seq}, is deleted by an"
            f" outcome of seq {outcome.seq}"
        )
    key = (chat_id, body.seq)
    if DELETED.of(view, key) is not None:
        raise LogCorrupt(f"message {body.seq} of chat {chat_id} is deleted twice")
    DELETED.record(changes, key, outcome.position)


RULES: Final = {
    CommandType.MESSAGE_SEND: Rule(send, sent),
    CommandType.MESSAGE_DELETE: Rule(delete, deleted),
}
PLANNED: Final = frozenset({CommandType.MESSAGE_EDIT, CommandType.REACTION_ADD, CommandType.REACTION_REMOVE})
"""Declared in the contract, without a rule yet."""
