"""Chats: created once, under an id derived from a name, a key or the other user; groups are renamed by moderators."""

from __future__ import annotations

from typing import Final

from schemas import ids
from schemas.bodies import ChatCreate, ChatRename
from schemas.ids import UserId
from schemas.types import EventType
from services.ops.verify.log.case import HIGH_ROLES, Case, Found, Judge, by_member
from services.ops.verify.log.chat import Member


def created(case: Case) -> Found:
    outcome, body = case.outcome, case.body
    if case.known:
        yield "chat_exists", f"chat {outcome.chat_id} was created before"
    allowed = _ids(outcome.sender_id, outcome.client_generated_id, body)
    if outcome.chat_id not in allowed:
        yield "identity", f"the chat it creates has the id {' or '.join(allowed)}, not {outcome.chat_id}"


def _ids(creator: UserId, key: str | None, body: ChatCreate) -> list[str]:
    if body.kind == "direct":
        other = UserId(body.members[0]) if body.members else creator
        return [ids.direct_chat_id(creator, other)]
    return [ids.group_chat_id(creator, body.name or ""), ids.uuid5(creator, f"key/{key}")]


def apply_created(case: Case) -> None:
    body: ChatCreate = case.body
    creator: str = case.outcome.sender_id
    if not case.known:
        case.chat.kind, case.chat.creator, case.chat.name = body.kind, creator, body.name
    others = "owner" if body.kind == "direct" else "member"
    for user_id, role in {**dict.fromkeys(body.members, others), creator: "owner"}.items():
        case.chat.join(user_id, role)


@by_member
def renamed(case: Case, sender: Member) -> Found:
    body: ChatRename = case.body
    chat, chat_id = case.chat, case.outcome.chat_id
    if chat.kind == "direct":
        yield "forbidden", f"direct chat {chat_id} has no name"
    elif sender.role not in HIGH_ROLES:
        yield "forbidden", f"{case.outcome.sender_id} is {sender.role} of chat {chat_id}, which does not allow it"
    if chat.name == body.name:
        yield "name", f"chat {chat_id} has that name already"


def apply_renamed(case: Case) -> None:
    case.chat.name = case.body.name


JUDGES: Final = {
    EventType.CHAT_CREATED.value: Judge(created, apply_created),
    EventType.CHAT_RENAMED.value: Judge(renamed, apply_renamed),
}
