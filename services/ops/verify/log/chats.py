"""Chats: created once, under an id that its creator derives from a name, a key or the other user."""

from __future__ import annotations

from typing import Final

from schemas import ids
from schemas.bodies import ChatCreate
from schemas.ids import UserId
from schemas.types import EventType
from services.ops.verify.log.case import Case, Found, Judge, by_member, nothing
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
        case.chat.kind, case.chat.creator = body.kind, creator
    others = "owner" if body.kind == "direct" else "member"
    for user_id, role in {**dict.fromkeys(body.members, others), creator: "owner"}.items():
        case.chat.join(user_id, role)


@by_member
def renamed(_: Case, __: Member) -> Found:
    yield from ()


JUDGES: Final = {EventType.CHAT_CREATED.value: Judge(created, apply_created)}
PLANNED: Final = {EventType.CHAT_RENAMED.value: Judge(renamed, nothing)}
