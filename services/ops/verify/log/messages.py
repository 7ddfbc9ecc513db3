"""Messages: sent by members, as a reply to a message of the same chat; edited by the author until they are deleted;
deleted once, by the author or a moderator."""

from __future__ import annotations

import json
from typing import Any, Final

from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.errors import Reason
from schemas.events import OtherOutcome, OutcomeKind, decode_rejected, decode_unchanged
from schemas.types import EventType
from services.ops.verify.log.case import HIGH_ROLES, Case, Found, Judge, LastEdit, Messages, by_member
from services.ops.verify.log.chat import Member


@by_member
def sent(case: Case, _: Member) -> Found:
    body: MessageSend = case.body
    reply_to, chat_id = body.reply_to_message_id, case.outcome.chat_id
    if reply_to is not None and not case.messages.is_message_of(reply_to, chat_id):
        yield "unknown_message", f"it answers {reply_to}, which is no message of chat {chat_id}"


@by_member
def edited(case: Case, _: Member) -> Found:
    yield from _known(case)
    body: MessageEdit = case.body
    chat_id, sender_id = case.outcome.chat_id, case.outcome.sender_id
    author = case.messages.author_of(chat_id, body.seq)
    if author not in (None, sender_id):
        yield "forbidden", f"message {body.seq} of chat {chat_id} is {author}'s, not {sender_id}'s to edit"
    if case.messages.is_deleted(chat_id, body.seq):
        yield "edited_deleted", f"message {body.seq} of chat {chat_id} was deleted before it was edited"
    last = case.messages.last_edit(chat_id, body.seq)
    if body.if_revision not in (None, last.revision):
        yield "stale", f"message {body.seq} of chat {chat_id} has revision {last.revision}, not {body.if_revision}"
    if _says(last, body):
        yield "edited_twice", f"message {body.seq} of chat {chat_id} is edited to what its edits left there"


def not_edited(outcome: OtherOutcome, body: MessageEdit, messages: Messages) -> Found:
    last, where = messages.last_edit(outcome.chat_id or "", body.seq), f"message {body.seq} of chat {outcome.chat_id}"
    if outcome.kind is OutcomeKind.UNCHANGED:
        if not _says(last, body):
            yield "unchanged", f"{where} does not say yet what the edit says"
        elif decode_unchanged(outcome.body) != last.position:
            yield "unchanged", f"{where} was last edited at position {last.position}"
    elif decode_rejected(outcome.body).reason is Reason.STALE and body.if_revision in (None, last.revision):
        yield "rejected", f"stale, yet {where} has revision {last.revision}"


def _parts(body: MessageEdit) -> dict[str, Any]:
    parts = {"text": body.text, "media_urls": body.media_urls, "metadata": body.metadata}
    return {name: part for name, part in parts.items() if part is not None}


def _says(last: LastEdit, body: MessageEdit) -> bool:
    """Return whether each part that an edit names is what the edits before it left there, letter for letter."""
    return all(
        name in last.parts and json.dumps(part, sort_keys=True) == json.dumps(last.parts[name], sort_keys=True)
        for name, part in _parts(body).items()
    )


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


def _known(case: Case) -> Found:
    seq, chat = case.body.seq, case.chat
    if seq > chat.last_seq:
        yield "unknown_message", f"seq {seq} of chat {case.outcome.chat_id} is beyond its last, {chat.last_seq}"


def apply_sent(case: Case) -> None:
    case.messages.sent(case.outcome.chat_id, case.outcome.seq, case.outcome.sender_id)


def apply_edited(case: Case) -> int:
    chat_id, body = case.outcome.chat_id, case.body
    last = case.messages.last_edit(chat_id, body.seq)
    edit = LastEdit(last.revision + 1, case.outcome.position, last.parts | _parts(body))
    case.messages.edited(chat_id, body.seq, edit)
    return edit.revision


def apply_deleted(case: Case) -> None:
    case.messages.deleted(case.outcome.chat_id, case.body.seq)


JUDGES: Final = {
    EventType.MESSAGE_SENT.value: Judge(sent, apply_sent),
    EventType.MESSAGE_EDITED.value: Judge(edited, apply_edited, not_edited),
    EventType.MESSAGE_DELETED.value: Judge(deleted, apply_deleted),
}
