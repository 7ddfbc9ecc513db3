"""Receipts: how far a member has read, and how far messages were delivered to them. A cursor only moves forward."""

from __future__ import annotations

from typing import Final

from tests.oracle.records import Outcome
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import State


def read(ask: Ask) -> Answer:
    _, me = ask.member()
    return _mark(ask, me.read_seq, read_seq=max(me.read_seq, ask.body["up_to_seq"]))


def delivered(ask: Ask) -> Answer:
    _, me = ask.member()
    return _mark(ask, me.delivered_seq, read_seq=me.read_seq)


def _mark(ask: Ask, cursor: int, *, read_seq: int) -> Answer:
    chat, _ = ask.member()
    up_to_seq = ask.body["up_to_seq"]
    if up_to_seq > chat.last_seq:
        raise Rejected("invalid")
    if up_to_seq <= cursor:
        return ask.unchanged(updated_count=0, read_seq=read_seq)
    return ask.accepted(updated_count=up_to_seq - cursor, read_seq=read_seq)


def read_advanced(state: State, outcome: Outcome) -> None:
    member = state.chats[outcome.chat or ""].members.get(outcome.sender or "")
    if member is not None:
        member.read_seq, member.last_read_at = outcome.body["up_to_seq"], outcome.at_ms
        member.changed_by(outcome)


def delivered_advanced(state: State, outcome: Outcome) -> None:
    member = state.chats[outcome.chat or ""].members.get(outcome.sender or "")
    if member is not None:
        member.delivered_seq = outcome.body["up_to_seq"]
        member.changed_by(outcome)


RULES: Final = {
    "read.mark.v1": Rule(event="read.advanced.v1", expect=read, fold=read_advanced, keyed=False),
    "delivered.mark.v1": Rule(event="delivered.advanced.v1", expect=delivered, fold=delivered_advanced, keyed=False),
}
PLANNED: Final = frozenset[str]()
