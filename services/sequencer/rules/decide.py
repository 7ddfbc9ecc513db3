"""Decides a command: a pure function of the state and the command. No clock, no randomness, no I/O.

This file has what all command types share; the files of the nouns decide each type.

For one command there is one outcome, always. The order of the checks is part of the contract: a repeat comes before
every limit and every right, so that a changed limit or a lost membership never turns an accepted send into a refusal.

    wrong_partition → malformed (no id derivable) → repeat or conflict → unknown_type → too_large → limits (invalid)
    → unknown_chat / chat_exists → not_member → forbidden → unknown_message → stale → invalid by state
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from schemas.commands import digest, parse_body
from schemas.errors import Reason, Refused
from schemas.events import (
    AcceptedOutcome,
    Duplicate,
    OtherOutcome,
    Outcome,
    Rejected,
    encode_duplicate,
    encode_rejected,
    encode_unchanged,
)
from schemas.types import EVENT_OF, EventType
from schemas.wire.encoding import Command, Unreadable
from schemas.wire.records import command_key
from schemas.wire.replies import AcceptedFigures, AnyFigures
from services.sequencer.rules.nouns import RULES
from services.sequencer.rules.rule import NO_FIGURES, Stale, Unchanged
from services.sequencer.rules.state import View


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """The outcome, and the other fields of the reply."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str | None = None
    figures: AnyFigures = NO_FIGURES
    sent_at_ms: int | None = None
    """For a repeat this is the original's, as its figures are."""


def decide(view: View, command: Command | Unreadable, at_ms: int) -> Decision:
    """Decide `command` in the state `view` at `at_ms` (ms since 1970; it must not decrease between calls)."""
    if type(command) is Unreadable:
        return _rejected(command, command.reason, command.detail, at_ms)
    try:
        repeat = _repeat(view, command, at_ms)
        if repeat is not None:
            return repeat
        decide_body = _DECIDE.get(command.type)
        if decide_body is None:
            raise Refused(Reason.UNKNOWN_TYPE, "no such command type, or none that is decided yet")
        figures = decide_body(view, command, parse_body(command.type, command.body))
    except Refused as refused:
        present = refused.figures if isinstance(refused, Stale) else NO_FIGURES
        return _rejected(command, refused.reason, refused.detail, at_ms, present)
    except Unchanged as unchanged:
        return _unchanged(command, unchanged, at_ms)
    return Decision(
        outcome=accepted_outcome(command, at_ms, figures.position, figures.seq), figures=figures, sent_at_ms=at_ms
    )


def accepted_outcome(command: Command, at_ms: int, position: int, seq: int | None) -> AcceptedOutcome:
    return AcceptedOutcome(
        type=_EVENT_OF[command.type],
        at_ms=at_ms,
        body=command.body,
        chat_id=command.chat_id,
        sender_id=command.sender_id,
        position=position,
        seq=seq,
        command_id=command.command_id,
        client_generated_id=command.client_generated_id,
        traceparent=command.traceparent,
    )


_DECIDE: Final[dict[str, Callable[[View, Command, Any], AcceptedFigures]]] = {
    command_type.value: rule.decide for command_type, rule in RULES.items()
}
_EVENT_OF: Final = {command: event.value for command, event in EVENT_OF.items()}


# --- the three ways to end without an effect ------------------------------------------------------------------


def _repeat(view: View, command: Command, at_ms: int) -> Decision | None:
    """Whether this key was used up by an accepted command. Receipts have none."""
    if command.client_generated_id is None or command.command_id is None:
        return None
    original = view.dedup(command_key(command.chat_id, command.command_id))
    if original is None:
        return None
    if original.digest != digest(command.type, command.body):
        raise Refused(Reason.CONFLICT, "this client_generated_id was used with another payload")
    body = Duplicate(
        seq=original.seq, position=original.position, sent_at_ms=original.sent_at_ms, revision=original.revision
    )
    return Decision(
        outcome=_without_effect(EventType.DUPLICATE, command, encode_duplicate(body), at_ms),
        figures=AcceptedFigures(seq=original.seq, position=original.position, revision=original.revision),
        sent_at_ms=original.sent_at_ms,
    )


def _rejected(
    command: Command | Unreadable, reason: Reason, detail: str, at_ms: int, figures: AnyFigures = NO_FIGURES
) -> Decision:
    body = Rejected(command_type=command.type, reason=reason, detail=detail)
    return Decision(
        outcome=_without_effect(EventType.REJECTED, command, encode_rejected(body), at_ms),
        reason=reason,
        detail=detail,
        figures=figures,
    )


def _unchanged(command: Command, unchanged: Unchanged, at_ms: int) -> Decision:
    return Decision(
        outcome=_without_effect(EventType.UNCHANGED, command, encode_unchanged(unchanged.figures.position), at_ms),
        figures=unchanged.figures,
        sent_at_ms=at_ms,
    )


def _without_effect(event: EventType, command: Command | Unreadable, body: bytes, at_ms: int) -> OtherOutcome:
    return OtherOutcome(
        type=event.value,
        at_ms=at_ms,
        body=body,
        key=command.key,
        chat_id=command.chat_id,
        command_id=command.command_id,
        client_generated_id=command.client_generated_id,
        sender_id=command.sender_id,
        traceparent=command.traceparent,
    )
