"""Messages: sent by members, as a reply to a message of the same chat; deleted once, by the author or a moderator."""

from __future__ import annotations

from typing import Final

from schemas.bodies import MessageDelete, MessageSend
from schemas.types import EventType
from services.ops.verify.log.case import HIGH_ROLES, Case, Found, Judge, by_member, nothing
from services.ops.verify.log.chat import Member


@by_member
def sent(case: Case, _: Member) -> Found:
    body: MessageSend = case.body
    reply_to, chat_id = body.reply_to_message_id, case.outcome.chat_id
    if reply_to is not None and not case.messages.is_message_of(reply_to, chat_id):
        yield "unknown_message", f"it answers {reply_to}, which is no message of chat {chat_id}"


@by_member
def deleted(case: Case, sender: Member) -> Found:
    yield from _known(case)
    body: MessageDelete = case.body
    chat_id, sender_id = case.outcome.chat_id, case.outcome.sender_id
    if case.messages.is_deleted(chat_id, body.seq):
        yield "deleted_twice", f"message {body.seq} of chat {chat_id} was deleted before"
    author = case.messages.author_of(chat_id, body.seq)
    if author not in (None, sender_id) and (case.chat.kind == "direct" or sender.role not in HIGH_ROLES):
        yield "forbidden", f"message {body.seq} of chat {chat_id} is {author}'s, not {sender_id}'s to delete"


@by_member
def of_message(case: Case, _: Member) -> Found:
    """Check only that an event's message exists."""
    yield from _known(case)


def _known(case: Case) -> Found:
    seq, chat = case.body.seq, case.chat
    if seq > chat.last_seq:
        yield "unknown_message", f"seq {seq} of chat {case.outcome.chat_id} is beyond its last, {chat.last_seq}"


def apply_sent(case: Case) -> None:
    case.messages.sent(case.outcome.chat_id, case.outcome.seq, case.outcome.sender_id)


def apply_deleted(case: Case) -> None:
    case.messages.deleted(case.outcome.chat_id, case.body.seq)


JUDGES: Final = {
    EventType.MESSAGE_SENT.value: Judge(sent, apply_sent),
    EventType.MESSAGE_DELETED.value: Judge(deleted, apply_deleted),
}
PLANNED: Final = {
    EventType.MESSAGE_EDITED.value: Judge(of_message, nothing),
    EventType.REACTION_ADDED.value: Judge(of_message, nothing),
    EventType.REACTION_REMOVED.value: Judge(of_message, nothing),
}
