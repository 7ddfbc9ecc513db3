"""Members: who may add them, remove them and change their roles, and what that changes."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from schemas.bodies import MemberAdd, MemberRemove, MemberRole
from schemas.errors import Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.ids import UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import AcceptedFigures
from services.sequencer.rules.rule import (
    Rule,
    Unchanged,
    as_member,
    chat_and_sender,
    known_member,
    move_head,
    require_present,
)
from services.sequencer.rules.state import StateChanges, View, joined


def add(view: View, command: Command, body: MemberAdd) -> AcceptedFigures:
    chat, sender = chat_and_sender(view, command)
    if sender.creator and chat.members == 0 and body.user_id == command.sender_id:
        if body.role != "owner":
            raise Refused(Reason.INVALID, "the creator of a chat without members joins it again as owner", "/role")
        return AcceptedFigures(position=chat.last_position + 1)
    require_present(sender)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "a direct chat has the members it has")
    if sender.role == "member" or (sender.role == "admin" and body.role != "member"):
        raise Refused(Reason.FORBIDDEN, "owners add anybody, admins add members")
    member = view.member((command.chat_id, UserId(body.user_id)))
    if member is not None and member.present:
        if member.role == body.role:
            raise Unchanged
        raise Refused(
            Reason.INVALID, f"already a member, as {member.role}: a command member.role.v1 changes that", "/role"
        )
    return AcceptedFigures(position=chat.last_position + 1)


def added(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body = body_of(outcome, MemberAdd)
    chat_id, chat = move_head(view, outcome, changes, members=1, owners=1 if body.role == "owner" else 0)
    key = (chat_id, UserId(body.user_id))
    before = view.member(key)
    changes.members[key] = joined(body.role, chat.last_seq, creator=before is not None and before.creator)


def remove(view: View, command: Command, body: MemberRemove) -> AcceptedFigures:
    chat, sender = as_member(view, command)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "a direct chat has the members it has")
    leaving = body.user_id == command.sender_id
    member = view.member((command.chat_id, UserId(body.user_id)))
    if not leaving:
        if sender.role == "member":
            raise Refused(Reason.FORBIDDEN, "owners and admins remove others")
        if sender.role == "admin" and member is not None and member.present and member.role != "member":
            raise Refused(Reason.FORBIDDEN, "only an owner removes an owner or an admin")
    if member is None or not member.present:
        raise Unchanged
    if member.role == "owner" and chat.owners == 1 and chat.members > 1:
        raise Refused(
            Reason.INVALID,
            "the last owner leaves last; give another member the role owner first",
            "/user_id",
        )
    return AcceptedFigures(position=chat.last_position + 1)


def removed(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    key, member = known_member(view, outcome, UserId(body_of(outcome, MemberRemove).user_id))
    move_head(view, outcome, changes, members=-1, owners=-1 if member.role == "owner" else 0)
    changes.members[key] = replace(member, present=False)


def change_role(view: View, command: Command, body: MemberRole) -> AcceptedFigures:
    chat, sender = as_member(view, command)
    if chat.kind == "direct":
        raise Refused(Reason.FORBIDDEN, "both members of a direct chat are its owners")
    if sender.role != "owner":
        raise Refused(Reason.FORBIDDEN, "only an owner changes a role")
    member = view.member((command.chat_id, UserId(body.user_id)))
    if member is None or not member.present:
        raise Refused(Reason.INVALID, "not a member of this chat, who could be added with this role", "/user_id")
    if member.role == body.role:
        raise Unchanged
    if member.role == "owner" and chat.owners == 1:
        raise Refused(Reason.INVALID, "the last owner stays one; give another member the role owner first", "/role")
    return AcceptedFigures(position=chat.last_position + 1)


def role_changed(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body = body_of(outcome, MemberRole)
    key, member = known_member(view, outcome, UserId(body.user_id))
    move_head(view, outcome, changes, owners=(body.role == "owner") - (member.role == "owner"))
    changes.members[key] = replace(member, role=body.role)


RULES: Final = {
    CommandType.MEMBER_ADD: Rule(add, added),
    CommandType.MEMBER_REMOVE: Rule(remove, removed),
    CommandType.MEMBER_ROLE: Rule(change_role, role_changed),
}
