"""Reactions: of members, to a message that is there; at most so many of a user, and so many kinds of a message."""

from __future__ import annotations

from typing import Final

from schemas import limits
from schemas.bodies import Reaction
from schemas.types import EventType
from services.ops.verify.log.case import Case, Found, Judge, by_member
from services.ops.verify.log.chat import Member


@by_member
def added(case: Case, _: Member) -> Found:
    yield from _of_message(case)
    body: Reaction = case.body
    chat_id, user_id = case.outcome.chat_id, case.outcome.sender_id
    reactions = case.reactions
    if reactions.has_reaction(chat_id, body.seq, user_id, body.emoji):
        yield "reaction", f"{user_id} reacts to message {body.seq} of chat {chat_id} in that way already"
    if reactions.reactions_of(chat_id, body.seq, user_id) >= limits.REACTIONS_OF_A_USER:
        yield "limit", f"{user_id} has {limits.REACTIONS_OF_A_USER} reactions to message {body.seq} of chat {chat_id}"
    kinds = reactions.reaction_kinds(chat_id, body.seq)
    if body.emoji not in kinds and len(kinds) >= limits.REACTION_KINDS:
        yield "limit", f"message {body.seq} of chat {chat_id} has {limits.REACTION_KINDS} kinds of reactions"


@by_member
def removed(case: Case, _: Member) -> Found:
    yield from _of_message(case)
    body: Reaction = case.body
    chat_id, user_id = case.outcome.chat_id, case.outcome.sender_id
    if not case.reactions.has_reaction(chat_id, body.seq, user_id, body.emoji):
        yield "reaction", f"{user_id} does not react to message {body.seq} of chat {chat_id} in that way"


def _of_message(case: Case) -> Found:
    seq, chat_id = case.body.seq, case.outcome.chat_id
    if seq > case.chat.last_seq:
        yield "unknown_message", f"seq {seq} of chat {chat_id} is beyond its last, {case.chat.last_seq}"
    elif case.messages.is_deleted(chat_id, seq):
        yield "unknown_message", f"message {seq} of chat {chat_id} was deleted before"


def apply_added(case: Case) -> None:
    case.reactions.reaction_added(case.outcome.chat_id, case.body.seq, case.outcome.sender_id, case.body.emoji)


def apply_removed(case: Case) -> None:
    case.reactions.reaction_removed(case.outcome.chat_id, case.body.seq, case.outcome.sender_id, case.body.emoji)


JUDGES: Final = {
    EventType.REACTION_ADDED.value: Judge(added, apply_added),
    EventType.REACTION_REMOVED.value: Judge(removed, apply_removed),
}
