"""Chats: which id a new one has, who is in it, and who renames it."""

from __future__ import annotations

from typing import Final

from schemas import ids
from schemas.bodies import ChatCreate, ChatRename, Role
from schemas.errors import LogCorrupt, Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.ids import UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import AcceptedFigures
from services.sequencer.rules.facts import NAME, part_digest
from services.sequencer.rules.rule import Rule, Unchanged, as_member, move_head
from services.sequencer.rules.state import Chat, StateChanges, View, joined


def create(view: View, command: Command, body: ChatCreate) -> AcceptedFigures:
    sender = command.sender_id
    if body.kind == "group":
        expected = ids.group_chat_id(sender, body.name or "")
        if command.chat_id != expected and command.client_generated_id is not None:
            expected = ids.keyed_chat_id(sender, command.client_generated_id)
    else:
        other = UserId(body.members[0]) if body.members else sender
        if body.members and other == sender:
            raise Refused(Reason.INVALID, "a chat with oneself names no members", "/members")
        expected = ids.direct_chat_id(sender, other)
    if command.chat_id != expected:
        raise Refused(
            Reason.MALFORMED,
            "the chat_id is neither that of this creator and name, nor of this creator and key, nor of these two users",
        )
    chat = view.chat(expected)
    if chat is None:
        return AcceptedFigures(position=1)
    if chat.kind == "direct":
        raise Unchanged(AcceptedFigures(position=1))
    raise Refused(
        Reason.CHAT_EXISTS,
        "you have made a group of this name before; if it has no members left, you may join it again as owner",
    )


def created(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body = body_of(outcome, ChatCreate)
    if outcome.position != 1:
        raise LogCorrupt(f"a chat.created at position {outcome.position}")
    if view.chat(outcome.chat_id) is not None:
        raise LogCorrupt(f"chat {outcome.chat_id} is created twice")
    others = [UserId(m) for m in body.members if m != outcome.sender_id]
    role: Role = "owner" if body.kind == "direct" else "member"
    changes.chats[outcome.chat_id] = Chat(
        kind=body.kind,
        last_seq=0,
        last_position=1,
        members=1 + len(others),
        owners=1 + (len(others) if role == "owner" else 0),
    )
    changes.members[outcome.chat_id, outcome.sender_id] = joined("owner", 0, creator=True)
    for user in others:
        changes.members[outcome.chat_id, user] = joined(role, 0, creator=False)
    if body.name is not None:
        NAME.record(changes, (outcome.chat_id, 0), part_digest(body.name))


def rename(view: View, command: Command, body: ChatRename) -> AcceptedFigures:
    chat, sender = as_member(view, command)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "a direct chat has no name")
    if sender.role == "member":
        raise Refused(Reason.FORBIDDEN, "owners and admins rename a group")
    if NAME.of(view, (command.chat_id, 0)) == part_digest(body.name):
        raise Unchanged
    return AcceptedFigures(position=chat.last_position + 1)


def renamed(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body = body_of(outcome, ChatRename)
    chat_id, _ = move_head(view, outcome, changes)
    NAME.record(changes, (chat_id, 0), part_digest(body.name))


RULES: Final = {
    CommandType.CHAT_CREATE: Rule(create, created),
    CommandType.CHAT_RENAME: Rule(rename, renamed),
}
