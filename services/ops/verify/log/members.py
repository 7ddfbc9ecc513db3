"""Members: who may add, remove and promote whom. The members of a direct chat never change; a group keeps an owner."""

from __future__ import annotations

from typing import Final

from schemas.bodies import MemberAdd, MemberRemove, MemberRole
from schemas.types import EventType
from services.ops.verify.log.case import HIGH_ROLES, Case, Found, Judge, by_member
from services.ops.verify.log.chat import Member


def added(case: Case) -> Found:
    if not _returns(case):
        yield from _added(case)


def _returns(case: Case) -> bool:
    """Return whether a creator adds themself again, as owner, to a group that every member has left."""
    chat, body = case.chat, case.body
    if chat.kind != "group" or not chat.deserted():
        return False
    return bool(chat.creator == case.outcome.sender_id == body.user_id and body.role == "owner")


@by_member
def _added(case: Case, sender: Member) -> Found:
    body: MemberAdd = case.body
    member = case.chat.present(body.user_id)
    if member is not None:
        yield "membership", f"{body.user_id} is a member of chat {case.outcome.chat_id} already"
    if case.chat.kind == "direct":
        yield _fixed(case)
    else:
        yield from _right(case, sender, member.role if member is not None else "member", body.role)


@by_member
def removed(case: Case, sender: Member) -> Found:
    body: MemberRemove = case.body
    chat, member = case.chat, case.chat.present(body.user_id)
    if member is None:
        yield _absent(case, body.user_id)
    if chat.kind == "direct":
        yield _fixed(case)
    elif body.user_id == case.outcome.sender_id:
        if sender.role == "owner" and chat.owners() == 1 and chat.others(body.user_id):
            yield (
                "forbidden",
                f"{body.user_id} is the last owner of chat {case.outcome.chat_id} and leaves others behind",
            )
    else:
        yield from _right(case, sender, member.role if member is not None else "member")


@by_member
def role_changed(case: Case, sender: Member) -> Found:
    body: MemberRole = case.body
    chat, member = case.chat, case.chat.present(body.user_id)
    if member is None:
        yield _absent(case, body.user_id)
    if chat.kind == "direct":
        yield _fixed(case)
        return
    if member is not None and member.role == body.role:
        yield "membership", f"{body.user_id} is {body.role} of chat {case.outcome.chat_id} already"
    elif member is not None and member.role == "owner" and chat.owners() == 1:
        yield "forbidden", f"{body.user_id} is the last owner of chat {case.outcome.chat_id}"
    yield from _right(case, sender, member.role if member is not None else "member", body.role)


def _absent(case: Case, user_id: str) -> tuple[str, str]:
    return "membership", f"{user_id} is no member of chat {case.outcome.chat_id}"


def _fixed(case: Case) -> tuple[str, str]:
    return "forbidden", f"the members of direct chat {case.outcome.chat_id} never change"


def _right(case: Case, sender: Member, *roles: str) -> Found:
    """Check that the sender may touch members of these roles: owners and admins are an owner's to change."""
    outcome = case.outcome
    needed = ("owner",) if set(roles) & set(HIGH_ROLES) else HIGH_ROLES
    if sender.role not in needed:
        yield "forbidden", f"{outcome.sender_id} is {sender.role} of chat {outcome.chat_id}, which does not allow it"


def apply_added(case: Case) -> None:
    case.chat.join(case.body.user_id, case.body.role)


def apply_removed(case: Case) -> None:
    member = case.chat.members.get(case.body.user_id)
    if member is not None:
        member.present = False


def apply_role_changed(case: Case) -> None:
    member = case.chat.members.get(case.body.user_id)
    if member is not None:
        member.role = case.body.role


JUDGES: Final = {
    EventType.MEMBER_ADDED.value: Judge(added, apply_added),
    EventType.MEMBER_REMOVED.value: Judge(removed, apply_removed),
    EventType.MEMBER_ROLE_CHANGED.value: Judge(role_changed, apply_role_changed),
}
