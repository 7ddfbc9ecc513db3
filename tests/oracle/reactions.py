"""Reactions: a set of (message, user, emoji). A user has at most 20 to a message, and a message at most 50 kinds."""

from __future__ import annotations

from typing import Final

from tests.oracle.records import Outcome
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import Message, State

OF_A_USER: Final = 20
KINDS: Final = 50


def _message(ask: Ask) -> Message:
    chat, _ = ask.member()
    message = chat.messages.get(ask.body["seq"])
    if message is None or message.deleted_at is not None:
        raise Rejected("unknown_message")
    return message


def add(ask: Ask) -> Answer:
    message, emoji = _message(ask), ask.body["emoji"]
    if (ask.sender, emoji) in message.reactions:
        return ask.unchanged()
    if sum(user == ask.sender for user, _ in message.reactions) == OF_A_USER:
        raise Rejected("invalid")
    if emoji not in message.first_uses and len(message.first_uses) == KINDS:
        raise Rejected("invalid")
    return ask.accepted()


def remove(ask: Ask) -> Answer:
    message = _message(ask)
    return ask.accepted() if (ask.sender, ask.body["emoji"]) in message.reactions else ask.unchanged()


def added(state: State, outcome: Outcome) -> None:
    message = state.chats[outcome.chat or ""].messages.get(outcome.body["seq"])
    if message is not None:
        position, emoji = outcome.position or 0, outcome.body["emoji"]
        message.changed_position = message.reactions[outcome.sender or "", emoji] = position
        message.first_uses.setdefault(emoji, position)


def removed(state: State, outcome: Outcome) -> None:
    message = state.chats[outcome.chat or ""].messages.get(outcome.body["seq"])
    if message is not None:
        emoji = outcome.body["emoji"]
        message.changed_position = outcome.position or 0
        message.reactions.pop((outcome.sender or "", emoji), None)
        if not any(other == emoji for _, other in message.reactions):
            message.first_uses.pop(emoji, None)


RULES: Final = {
    "reaction.add.v1": Rule(event="reaction.added.v1", expect=add, fold=added),
    "reaction.remove.v1": Rule(event="reaction.removed.v1", expect=remove, fold=removed),
}
PLANNED: Final = frozenset[str]()
