"""Members: a row for each user who ever joined, with the role and the time of leaving."""

from __future__ import annotations

from typing import Final

from schemas.bodies import MemberAdd, MemberRemove, MemberRole
from schemas.events import AcceptedOutcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements


def added(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MemberAdd)
    rows.chat_moved(outcome)
    rows.join(outcome, body.user_id, body.role)


def removed(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MemberRemove)
    rows.chat_moved(outcome)
    rows.must(
        "leave", outcome, f"{body.user_id} is no member",
        chat=outcome.chat_id, user=body.user_id, at=outcome.at_ms * 1000, position=outcome.position,
    )  # fmt: skip


def role_changed(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MemberRole)
    rows.chat_moved(outcome)
    rows.must(
        "give_role", outcome, f"{body.user_id} is no member",
        chat=outcome.chat_id, user=body.user_id, role=body.role, position=outcome.position,
    )  # fmt: skip


FOLDS: Final[dict[str, Fold]] = {
    EventType.MEMBER_ADDED.value: added,
    EventType.MEMBER_REMOVED.value: removed,
    EventType.MEMBER_ROLE_CHANGED.value: role_changed,
}
