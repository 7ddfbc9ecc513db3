"""The table of all judges: whether an event could be accepted, by docs/log-protocol.md, without the writer's code."""

from __future__ import annotations

from typing import Final

from services.ops.verify.log import chats, members, messages, reactions, receipts
from services.ops.verify.log.case import Judge

JUDGES: Final[dict[str, Judge]] = {
    **chats.JUDGES, **members.JUDGES, **messages.JUDGES, **reactions.JUDGES, **receipts.JUDGES
}  # fmt: skip
"""Judges by event type."""
PLANNED: Final[dict[str, Judge]] = {}
"""Declared event types that no release writes yet: only what holds for any event in a chat is checked."""


def judge_of(event_type: str) -> Judge:
    """Return the judge of a declared event type."""
    return JUDGES.get(event_type) or PLANNED[event_type]
