"""Receipts: how far a member has read and received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.bodies import Mark
from schemas.types import EventType
from services.projector.mapping.builder import Accepted, MemberState, RowBuilder
from services.projector.mapping.decode import ChangeEvent


def read_advanced(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    member, up_to_seq = _moved(builder, accepted)
    member.read_seq, member.last_read_at = up_to_seq, accepted.at
    if member.own_after_read:
        member.own_after_read = [seq for seq in member.own_after_read if seq > up_to_seq]


def delivered_advanced(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    member, up_to_seq = _moved(builder, accepted)
    member.delivered_seq = up_to_seq


def _moved(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> tuple[MemberState, int]:
    event = accepted.event
    body: Mark = event.body
    member = builder.member(event.chat_id, event.sender_id)
    member.changed_by(event)
    return member, body.up_to_seq


MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[ChangeEvent]], None]]] = {
    EventType.READ_ADVANCED.value: read_advanced,
    EventType.DELIVERED_ADVANCED.value: delivered_advanced,
}
