"""Search: a row for each message that is not deleted, with the lexemes of its present text.

It is folded up to a position of its own, so it shares no rows with the other folds.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.events import AcceptedOutcome, Outcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements
from services.ops.verify.projection.tables import array_text
from services.ops.verify.projection.words import all_lexemes


class SearchFold:
    """Folds the valid outcomes of one partition, in order, into the table message_search of a scratch database."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._rows = Statements(scratch)

    def apply(self, outcome: Outcome) -> None:
        """Fold one valid outcome. Raises LogCorrupt if the log contradicts itself."""
        fold = _FOLDS.get(outcome.type)
        if fold is not None and isinstance(outcome, AcceptedOutcome):
            fold(self._rows, outcome)


def _sent(rows: Statements, outcome: AcceptedOutcome) -> None:
    at_us = outcome.at_ms * 1000
    rows.must(
        "add_search", outcome, "a message of this seq is there already",
        chat=outcome.chat_id, seq=outcome.seq, sender=outcome.sender_id, at=at_us,
        tokens=array_text(all_lexemes(outcome.chat_id, at_us, body_of(outcome, MessageSend).text)),
    )  # fmt: skip


def _edited(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MessageEdit)
    sent_us = next(rows.select("search_sent_at", chat=outcome.chat_id, seq=body.seq), (0,))[0]
    assert isinstance(sent_us, int)
    rows.must(
        "reword_search", outcome, "it edits a message that is not there, or is deleted",
        chat=outcome.chat_id, seq=body.seq,
        tokens=array_text(all_lexemes(outcome.chat_id, sent_us, body.text)),
    )  # fmt: skip


def _deleted(rows: Statements, outcome: AcceptedOutcome) -> None:
    rows.must(
        "forget_search", outcome, "it deletes a message that is not there, or is deleted already",
        chat=outcome.chat_id, seq=body_of(outcome, MessageDelete).seq,
    )  # fmt: skip


_FOLDS: Final[dict[str, Fold]] = {
    EventType.MESSAGE_SENT.value: _sent,
    EventType.MESSAGE_EDITED.value: _edited,
    EventType.MESSAGE_DELETED.value: _deleted,
}
