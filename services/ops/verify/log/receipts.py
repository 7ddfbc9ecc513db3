"""Receipts: a read or delivered cursor only moves forward, and never past the chat's last message."""

from __future__ import annotations

from typing import Final

from schemas.types import EventType
from services.ops.verify.log.case import Case, Found, Judge, by_member
from services.ops.verify.log.chat import Member


@by_member
def read(case: Case, sender: Member) -> Found:
    yield from _moves(case, sender.read_seq)


@by_member
def delivered(case: Case, sender: Member) -> Found:
    yield from _moves(case, sender.delivered_seq)


def _moves(case: Case, cursor: int) -> Found:
    up_to_seq, chat = case.body.up_to_seq, case.chat
    if up_to_seq > chat.last_seq:
        yield "cursor", f"a receipt up to seq {up_to_seq} in chat {case.outcome.chat_id}, whose last is {chat.last_seq}"
    elif up_to_seq <= cursor:
        yield "cursor", f"a receipt up to seq {up_to_seq} does not move the cursor, which is at {cursor}"


def apply_read(case: Case) -> None:
    member = case.chat.members.get(case.outcome.sender_id)
    if member is not None:
        member.read_seq = case.body.up_to_seq


def apply_delivered(case: Case) -> None:
    member = case.chat.members.get(case.outcome.sender_id)
    if member is not None:
        member.delivered_seq = case.body.up_to_seq


JUDGES: Final = {
    EventType.READ_ADVANCED.value: Judge(read, apply_read),
    EventType.DELIVERED_ADVANCED.value: Judge(delivered, apply_delivered),
}
