"""Receipts: a participant's two cursors."""

from __future__ import annotations

from typing import Final

from schemas.bodies import Mark
from schemas.events import AcceptedOutcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements


def read(rows: Statements, outcome: AcceptedOutcome) -> None:
    _mark(rows, "read_up_to", outcome)


def delivered(rows: Statements, outcome: AcceptedOutcome) -> None:
    _mark(rows, "delivered_up_to", outcome)


def _mark(rows: Statements, block: str, outcome: AcceptedOutcome) -> None:
    rows.chat_moved(outcome)
    rows.must(
        block, outcome, "its sender is no member",
        chat=outcome.chat_id, sender=outcome.sender_id, seq=body_of(outcome, Mark).up_to_seq,
        at=outcome.at_ms * 1000, position=outcome.position,
    )  # fmt: skip


FOLDS: Final[dict[str, Fold]] = {EventType.READ_ADVANCED.value: read, EventType.DELIVERED_ADVANCED.value: delivered}
