"""Messages: sending, editing and deleting. A message has a text or media. Its author edits it, and its author or a
moderator deletes it."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.oracle.records import Outcome
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import Message, State


def send(ask: Ask) -> Answer:
    _check_content(ask)
    chat, _ = ask.member()
    reply_to = ask.body.get("reply_to_message_id")
    if reply_to is not None and reply_to not in chat.seq_of:
        raise Rejected("unknown_message")
    return ask.accepted(seq=chat.last_seq + 1)


def edit(ask: Ask) -> Answer:
    _check_content(ask)
    chat, _ = ask.member()
    message = chat.messages.get(ask.body["seq"])
    if message is None:
        raise Rejected("unknown_message")
    if message.sender != ask.sender:
        raise Rejected("forbidden")
    if message.deleted_at is not None:
        raise Rejected("unknown_message")
    revision = len(message.edits)
    if ask.body.get("if_revision") not in (None, revision):
        raise Rejected("stale", revision=revision)
    named = [name for name in ("text", "media_urls", "metadata") if ask.body.get(name) is not None]
    if all(_spelt(ask.body[name]) == _spelt(message.edited(name)) for name in named):
        return ask.unchanged(position=message.edits[-1].position, revision=revision)
    return ask.accepted(revision=revision + 1)


def _check_content(ask: Ask) -> None:
    text = ask.body["text"]
    if len(text) > ask.text_characters:
        raise Rejected("too_large")
    if not text and not ask.body.get("media_urls"):
        raise Rejected("invalid")


def _spelt(part: Any) -> str:
    return json.dumps(part, sort_keys=True)


def delete(ask: Ask) -> Answer:
    chat, me = ask.member()
    message = chat.messages.get(ask.body["seq"])
    if message is None:
        raise Rejected("unknown_message")
    moderates = chat.kind == "group" and me.role != "member"
    if message.sender != ask.sender and not moderates:
        raise Rejected("forbidden")
    if message.deleted_at is not None:
        return ask.unchanged(position=message.deleted_position)
    return ask.accepted()


def sent(state: State, outcome: Outcome) -> None:
    chat = state.chats[outcome.chat or ""]
    position, seq, message_id = outcome.position or 0, outcome.seq or 0, outcome.command_id or ""
    root: Message | None = None
    replied = chat.seq_of.get(outcome.body.get("reply_to_message_id", ""))
    if replied is not None:
        parent = chat.messages[replied]
        root = parent if parent.root_seq is None else chat.messages[parent.root_seq]
        root.changed_position = position
    chat.messages[seq] = Message(
        seq=seq, position=position, index=outcome.index, message_id=message_id, sender=outcome.sender or "",
        key=outcome.client_id or "", sent_at=outcome.at_ms, body=outcome.body,
        root_seq=root.seq if root is not None else None, changed_position=position,
    )  # fmt: skip
    chat.seq_of[message_id] = seq
    chat.last_seq, chat.last_message_at = seq, outcome.at_ms


def edited(state: State, outcome: Outcome) -> None:
    message = state.chats[outcome.chat or ""].messages.get(outcome.body["seq"])
    if message is not None:
        message.edits.append(outcome)
        message.changed_position = outcome.position or 0
        state.revisions[outcome.command_id or ""] = len(message.edits)


def deleted(state: State, outcome: Outcome) -> None:
    message = state.chats[outcome.chat or ""].messages.get(outcome.body["seq"])
    if message is not None:
        message.deleted_at, message.deleted_index = outcome.at_ms, outcome.index
        message.deleted_position = message.changed_position = outcome.position or 0
        if message.root_seq is not None:
            root = state.chats[outcome.chat or ""].messages[message.root_seq]
            root.changed_position = outcome.position or 0
        message.reactions.clear()
        message.first_uses.clear()


RULES: Final = {
    "message.send.v1": Rule(event="message.sent.v1", expect=send, fold=sent, takes_seq=True),
    "message.edit.v1": Rule(event="message.edited.v1", expect=edit, fold=edited),
    "message.delete.v1": Rule(event="message.deleted.v1", expect=delete, fold=deleted),
}
PLANNED: Final = frozenset[str]()
