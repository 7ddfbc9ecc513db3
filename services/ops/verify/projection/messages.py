"""Messages: a row for each, rewritten by edits, emptied by a deletion; a reply changes the root of its thread."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.events import AcceptedOutcome, body_of
from schemas.types import EventType
from services.ops.verify.projection.statements import Fold, Statements
from services.ops.verify.projection.tables import Value, array_text, instant_us, metadata_text


def sent(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MessageSend)
    place: dict[str, Value] = {"chat": outcome.chat_id, "position": outcome.position}
    at_us = outcome.at_ms * 1000
    rows.must("chat_got_message", outcome, "there is no such chat", **place, seq=outcome.seq, at=at_us)
    root_seq: int | None = None
    if body.reply_to_message_id is not None:
        found = rows.select("root_of", reply_to=body.reply_to_message_id, chat=outcome.chat_id)
        root = next(found, (None,))[0]
        assert not isinstance(root, str)
        root_seq = root
        rows.must("root_got_reply", outcome, "it answers a message that is not there", **place, root_seq=root_seq)
    rows.must(
        "add_message", outcome, "a message of this seq or id is there already",
        **place,
        seq=outcome.seq,
        message_id=outcome.command_id,
        sender=outcome.sender_id,
        text=body.text,
        client_generated_id=outcome.client_generated_id,
        reply_to=body.reply_to_message_id,
        root_seq=root_seq,
        media_urls=array_text(body.media_urls or []),
        metadata=metadata_text(body.metadata) if body.metadata is not None else None,
        at=at_us,
        original_sent_at=_instant(body.original_sent_at),
    )  # fmt: skip


def edited(rows: Statements, outcome: AcceptedOutcome) -> None:
    body = body_of(outcome, MessageEdit)
    rows.chat_moved(outcome)
    rows.run("keep_text", chat=outcome.chat_id, seq=body.seq)
    rows.must(
        "edit_message", outcome, "it edits a message that is not there, or is deleted",
        chat=outcome.chat_id,
        seq=body.seq,
        text=body.text,
        media_urls=array_text(body.media_urls) if body.media_urls is not None else None,
        metadata=metadata_text(body.metadata) if body.metadata is not None else None,
        at=outcome.at_ms * 1000,
        position=outcome.position,
    )  # fmt: skip


def deleted(rows: Statements, outcome: AcceptedOutcome) -> None:
    chat, seq = outcome.chat_id, body_of(outcome, MessageDelete).seq
    rows.chat_moved(outcome)
    rows.must(
        "delete_message", outcome, "it deletes a message that is not there, or is deleted already",
        chat=chat, seq=seq, at=outcome.at_ms * 1000, position=outcome.position,
    )  # fmt: skip
    rows.run("root_lost_reply", chat=chat, seq=seq, position=outcome.position)
    rows.run("drop_reactions", "drop_reaction_counts", "drop_texts", chat=chat, seq=seq)


def _instant(text: str | None) -> int | None:
    """Return an RFC 3339 time, which was checked when it was accepted, in microseconds since 1970 UTC."""
    return instant_us(datetime.fromisoformat(text)) if text is not None else None


FOLDS: Final[dict[str, Fold]] = {
    EventType.MESSAGE_SENT.value: sent,
    EventType.MESSAGE_EDITED.value: edited,
    EventType.MESSAGE_DELETED.value: deleted,
}
PLANNED: Final[frozenset[str]] = frozenset()
