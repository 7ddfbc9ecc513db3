"""Chats: a row for each, and the participants it was created with."""

from __future__ import annotations

from typing import Final

from schemas.bodies import ChatCreate, ChatRename
from schemas.events import AcceptedOutcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements


def created(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, ChatCreate)
    rows.must(
        "add_chat", outcome, "the chat exists already",
        chat=outcome.chat_id, kind=body.kind, name=body.name, sender=outcome.sender_id,
        at=outcome.at_ms * 1000, position=outcome.position,
    )  # fmt: skip
    others = "owner" if body.kind == "direct" else "member"
    for user_id, role in {**dict.fromkeys(body.members, others), outcome.sender_id: "owner"}.items():
        rows.join(outcome, user_id, role)


def renamed(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, ChatRename)
    rows.chat_moved(outcome)
    rows.must("rename", outcome, "there is no such chat", chat=outcome.chat_id, name=body.name)


FOLDS: Final[dict[str, Fold]] = {EventType.CHAT_CREATED.value: created, EventType.CHAT_RENAMED.value: renamed}
