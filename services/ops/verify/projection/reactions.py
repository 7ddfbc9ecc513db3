"""Reactions: a row for each, and for each emoji of a message how many users react with it, and since when."""

from __future__ import annotations

from typing import Final

from schemas.bodies import Reaction
from schemas.events import AcceptedOutcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements
from services.ops.verify.projection.tables import Value


def added(rows: Statements, outcome: AcceptedOutcome) -> None:
    _change(rows, outcome, "the user reacts in that way already", "add_reaction", "count_one_more")


def removed(rows: Statements, outcome: AcceptedOutcome) -> None:
    _change(rows, outcome, "the user does not react in that way", "remove_reaction", "count_one_less")


def _change(rows: Statements, outcome: AcceptedOutcome, fault: str, *blocks: str) -> None:
    body = body_of(outcome, Reaction)
    message: dict[str, Value] = {"chat": outcome.chat_id, "seq": body.seq}
    rows.chat_moved(outcome)
    rows.must("message_changed", outcome, "there is no such message", **message, position=outcome.position)
    for block in blocks:
        rows.must(
            block, outcome, fault,
            **message, user=outcome.sender_id, emoji=body.emoji, position=outcome.position,
        )  # fmt: skip


FOLDS: Final[dict[str, Fold]] = {EventType.REACTION_ADDED.value: added, EventType.REACTION_REMOVED.value: removed}
