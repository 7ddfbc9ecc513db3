"""Messages: who may send, edit and delete them, and what that changes."""

from __future__ import annotations

from typing import Final

from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.errors import LogCorrupt, Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.ids import CommandId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.records import command_key
from schemas.wire.replies import AcceptedFigures, Figures
from services.sequencer.rules.facts import DELETED, EDITED, Edit
from services.sequencer.rules.rule import Rule, Stale, Unchanged, as_member, move_head
from services.sequencer.rules.state import Chat, StateChanges, View


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


def edit(view: View, command: Command, body: MessageEdit) -> AcceptedFigures:
    chat, _ = as_member(view, command)
    message = (command.chat_id, body.seq)
    _require_sent(chat, body.seq)
    if view.author(*message) != command.sender_id:
        raise Refused(Reason.FORBIDDEN, "a message is edited by its author alone")
    if DELETED.of(view, message) is not None:
        raise Refused(Reason.UNKNOWN_MESSAGE, "the message was deleted", "/seq")
    last = EDITED.of(view, message) or Edit()
    if body.if_revision not in (None, last.revision):
        raise Stale(last.revision)
    position = chat.last_position + 1
    if last.then(position, body).content == last.content:
        raise Unchanged(Figures(position=last.position, revision=last.revision))
    return AcceptedFigures(position=position, revision=last.revision + 1)


def edited(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> int:
    body = body_of(outcome, MessageEdit)
    chat_id, chat = move_head(view, outcome, changes)
    message = (chat_id, body.seq)
    if outcome.seq is not None or not 1 <= body.seq <= chat.last_seq or DELETED.of(view, message) is not None:
        raise LogCorrupt(
            f"message {body.seq} of chat {chat_id}, which stands at seq {chat.last_seq}, is not there or was deleted,"
            f" and is edited by an outcome of seq {outcome.seq}"
        )
    edit = (EDITED.of(view, message) or Edit()).then(outcome.position, body)
    EDITED.record(changes, message, edit)
    return edit.revision


def _require_sent(chat: Chat, seq: int) -> None:
    """Raise Refused if there is no such message. Checked before the rights to it, which depend on its author."""
    if seq > chat.last_seq:
        raise Refused(Reason.UNKNOWN_MESSAGE, f"the chat's last seq is {chat.last_seq}", "/seq")


def delete(view: View, command: Command, body: MessageDelete) -> AcceptedFigures:
    chat, sender = as_member(view, command)
    _require_sent(chat, body.seq)
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
    CommandType.MESSAGE_EDIT: Rule(edit, edited),
    CommandType.MESSAGE_DELETE: Rule(delete, deleted),
}
PLANNED: Final[frozenset[CommandType]] = frozenset()
"""Declared in the contract, without a rule yet."""
