"""Receipts: how far a member has read and received. A cursor moves forward only."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from schemas.bodies import Mark
from schemas.errors import Reason, Refused
from schemas.events import AcceptedOutcome, body_of
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import AcceptedFigures, Figures
from services.sequencer.rules.rule import Rule, Unchanged, as_member, known_member, move_head
from services.sequencer.rules.state import Chat, Member, MemberKey, StateChanges, View


def read(view: View, command: Command, body: Mark) -> AcceptedFigures:
    chat, member = as_member(view, command)
    position, moved_by = _advance(chat, body, member.read_seq, member)
    return AcceptedFigures(position=position, updated_count=moved_by, read_seq=body.up_to_seq)


def read_advanced(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body, key, member = _advanced(view, outcome, changes)
    changes.members[key] = replace(member, read_seq=body.up_to_seq)


def deliver(view: View, command: Command, body: Mark) -> AcceptedFigures:
    chat, member = as_member(view, command)
    position, moved_by = _advance(chat, body, member.delivered_seq, member)
    return AcceptedFigures(position=position, updated_count=moved_by, read_seq=member.read_seq)


def delivered_advanced(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> None:
    body, key, member = _advanced(view, outcome, changes)
    changes.members[key] = replace(member, delivered_seq=body.up_to_seq)


def _advance(chat: Chat, body: Mark, cursor: int, member: Member) -> tuple[int, int]:
    """Return the position of the receipt, and by how much it moves the cursor."""
    if body.up_to_seq > chat.last_seq:
        raise Refused(Reason.INVALID, f"the chat's last seq is {chat.last_seq}", "/up_to_seq")
    if body.up_to_seq <= cursor:
        raise Unchanged(Figures(updated_count=0, read_seq=member.read_seq))
    return chat.last_position + 1, body.up_to_seq - cursor


def _advanced(view: View, outcome: AcceptedOutcome, changes: StateChanges) -> tuple[Mark, MemberKey, Member]:
    body = body_of(outcome, Mark)
    key, member = known_member(view, outcome, outcome.sender_id)
    move_head(view, outcome, changes)
    return body, key, member


RULES: Final = {
    CommandType.READ_MARK: Rule(read, read_advanced),
    CommandType.DELIVERED_MARK: Rule(deliver, delivered_advanced),
}
