"""Members: joining, leaving and roles. The members of a direct chat never change; a group keeps an owner."""

from __future__ import annotations

from typing import Final

from tests.oracle.records import Outcome
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import State


def add(ask: Ask) -> Answer:
    chat, me = ask.ever_member()
    user, role = ask.body["user_id"], ask.body["role"]
    if not me.present:
        if chat.present() or not ask.sender == chat.created_by == user:
            raise Rejected("not_member")
        if role != "owner":  # the creator returns to a group that everyone has left
            raise Rejected("invalid")
        return ask.accepted()
    if chat.kind == "direct" or me.role == "member" or (me.role == "admin" and role != "member"):
        raise Rejected("forbidden")
    member = chat.members.get(user)
    if member is None or not member.present:
        return ask.accepted()
    if member.role == role:
        return ask.unchanged()
    raise Rejected("invalid")


def remove(ask: Ask) -> Answer:
    chat, me = ask.member()
    user = ask.body["user_id"]
    if chat.kind == "direct":
        raise Rejected("forbidden")
    member = chat.present().get(user)
    if user != ask.sender:
        if me.role == "member":
            raise Rejected("forbidden")
        if me.role == "admin" and member is not None and member.role != "member":
            raise Rejected("forbidden")
    if member is None:
        return ask.unchanged()
    if chat.owners() == [user] and len(chat.present()) > 1:
        raise Rejected("invalid")
    return ask.accepted()


def give_role(ask: Ask) -> Answer:
    chat, me = ask.member()
    user, role = ask.body["user_id"], ask.body["role"]
    if chat.kind == "direct" or me.role != "owner":
        raise Rejected("forbidden")
    member = chat.present().get(user)
    if member is None:
        raise Rejected("invalid")
    if member.role == role:
        return ask.unchanged()
    if chat.owners() == [user]:
        raise Rejected("invalid")
    return ask.accepted()


def added(state: State, outcome: Outcome) -> None:
    state.chats[outcome.chat or ""].join(outcome.body["user_id"], outcome.body["role"], outcome)


def removed(state: State, outcome: Outcome) -> None:
    member = state.chats[outcome.chat or ""].members.get(outcome.body["user_id"])
    if member is not None:
        member.left_at = outcome.at_ms
        member.changed_by(outcome)


def role_changed(state: State, outcome: Outcome) -> None:
    member = state.chats[outcome.chat or ""].members.get(outcome.body["user_id"])
    if member is not None:
        member.role = outcome.body["role"]
        member.changed_by(outcome)


RULES: Final = {
    "member.add.v1": Rule(event="member.added.v1", expect=add, fold=added),
    "member.remove.v1": Rule(event="member.removed.v1", expect=remove, fold=removed),
    "member.role.v1": Rule(event="member.role.changed.v1", expect=give_role, fold=role_changed),
}
PLANNED: Final = frozenset[str]()
