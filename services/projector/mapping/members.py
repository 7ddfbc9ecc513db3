"""Members: adding, removing, roles; and the rows of participants, which receipts and messages change too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.bodies import MemberAdd, MemberRemove, MemberRole
from schemas.ids import UserId
from schemas.types import EventType
from services.projector.mapping.builder import Accepted, JoinedMember, RowBuilder
from services.projector.mapping.decode import ChangeEvent
from services.projector.mapping.tables import ParticipantJoined, ParticipantMoved, RoleChanged, RowChanges


def added(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    body: MemberAdd = accepted.event.body
    last_seq = builder.last_seq_of(accepted.event.chat_id, accepted.chat)
    builder.join(accepted, UserId(body.user_id), body.role, last_seq)


def removed(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    body: MemberRemove = accepted.event.body
    member = builder.member(accepted.event.chat_id, UserId(body.user_id))
    member.left_at = accepted.at
    member.changed_by(accepted.event)


def role_changed(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    body: MemberRole = accepted.event.body
    member = builder.member(accepted.event.chat_id, UserId(body.user_id))
    member.role = body.role
    member.changed_by(accepted.event)


MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[ChangeEvent]], None]]] = {
    EventType.MEMBER_ADDED.value: added,
    EventType.MEMBER_REMOVED.value: removed,
    EventType.MEMBER_ROLE_CHANGED.value: role_changed,
}


def add_rows(builder: RowBuilder, changes: RowChanges) -> None:
    for (chat_id, user_id), m in builder.members.items():
        if isinstance(m, JoinedMember):
            changes.participants_joined.append(
                ParticipantJoined(
                    chat_id, user_id, m.role, m.joined_at, m.joined_seq, m.left_at, m.read_seq, m.last_read_at,
                    m.delivered_seq, len(m.own_after_read), m.changed_position, m.changed_index,
                )
            )  # fmt: skip
        else:
            changes.participants_moved.append(
                ParticipantMoved(
                    chat_id, user_id, m.read_seq, m.last_read_at, m.delivered_seq, m.left_at,
                    len(m.own_after_read), m.changed_position, m.changed_index,
                )
            )  # fmt: skip
            if m.role is not None:
                changes.roles_changed.append(RoleChanged(chat_id, user_id, m.role))
