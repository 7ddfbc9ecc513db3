"""Outcomes of any type from their parts."""

from __future__ import annotations

from typing import Any

from schemas.events import AcceptedOutcome, OtherOutcome, Outcome
from schemas.types import COMMAND_OF


def outcome_of_parts(outcome_type: str, at_ms: int, body: bytes, **parts: Any) -> Outcome:
    """Return an AcceptedOutcome if the type and the parts are those of one, and otherwise what a faulty writer has."""
    needed = [parts.get(name) for name in ("chat_id", "sender_id", "position")]
    if outcome_type not in COMMAND_OF or None in needed or parts.get("key") not in (None, parts["chat_id"].encode()):
        return OtherOutcome(outcome_type, at_ms, body, **parts)
    parts.pop("key", None)
    return AcceptedOutcome(outcome_type, at_ms, body, **parts)
