"""The rows of the read model that a state implies, with the columns that are compared. Counters are counted here."""

from __future__ import annotations

from tests.chaos.evidence import Json, Rows
from tests.chaos.judged import PartitionLog
from tests.oracle.oracle import COMMAND_TYPES
from tests.oracle.records import Outcome
from tests.oracle.state import Chat, Message, State


def rows_of(state: State, logs: dict[int, PartitionLog]) -> dict[str, Rows]:
    """Return the tables for this state, with the columns that are compared."""
    return {
        "chats": [
            {
                "chat_id": chat_id, "kind": c.kind, "name": c.name, "created_by": c.created_by,
                "created_at": c.created_at, "last_seq": c.last_seq, "last_position": c.last_position,
                "last_message_at": c.last_message_at,
                "deleted_total": len([m for m in c.messages.values() if m.deleted_at is not None]),
                "changed_index": c.changed_index,
            }
            for chat_id, c in state.chats.items()
        ],
        "chat_participants": [_participant(i, c, user) for i, c in state.chats.items() for user in c.members],
        "chat_messages": [_message(chat_id, c, m) for chat_id, c in state.chats.items() for m in c.messages.values()],
        "earlier_texts": [
            text
            for chat_id, c in state.chats.items()
            for m in c.messages.values()
            if m.deleted_at is None
            for text in _earlier_texts(chat_id, m)
        ],
        "reactions": [
            {"chat_id": chat_id, "seq": m.seq, "emoji": emoji, "user_id": user, "changed_position": position}
            for chat_id, c in state.chats.items()
            for m in c.messages.values()
            for (user, emoji), position in m.reactions.items()
        ],
        "reaction_counts": [
            {
                "chat_id": chat_id, "seq": m.seq, "emoji": emoji, "first_position": first_position,
                "users": sum(other == emoji for _, other in m.reactions),
            }
            for chat_id, c in state.chats.items()
            for m in c.messages.values()
            for emoji, first_position in m.first_uses.items()
        ],
        "outcomes": [_outcome(state, o) for log in logs.values() for o in log.outcomes if o.command_id is not None],
        "projection_positions": [
            {
                "partition": partition, "next_offset": log.head.next_offset, "term": log.head.term,
                "index": log.head.index, "command_offset": log.head.command_offset,
                "last_timestamp_ms": log.head.last_timestamp_ms,
            }
            for partition, log in logs.items()
        ],
    }  # fmt: skip


KEYS = {
    "chats": ("chat_id",),
    "chat_participants": ("chat_id", "user_id"),
    "chat_messages": ("chat_id", "seq"),
    "earlier_texts": ("chat_id", "seq", "revision"),
    "reactions": ("chat_id", "seq", "emoji", "user_id"),
    "reaction_counts": ("chat_id", "seq", "emoji"),
    "outcomes": ("partition", "index"),
    "projection_positions": ("partition",),
}
"""Primary key, by table."""
NOT_JUDGED = {
    "chat_messages": {"original_sent_at"},  # no client of the run sends it
    "projection_positions": {"topic_id", "updated_at"},  # where and when, not what
}
"""Columns that no state implies, by table. A column of the read model is judged or named here."""


def _participant(chat_id: str, chat: Chat, user: str) -> Json:
    m = chat.members[user]
    own = [
        sent
        for sent in chat.messages.values()
        if sent.sender == user and sent.seq > m.read_seq and sent.deleted_at is None
    ]
    return {
        "chat_id": chat_id, "user_id": user, "role": m.role, "joined_at": m.joined_at, "joined_seq": m.joined_seq,
        "left_at": m.left_at, "read_seq": m.read_seq, "last_read_at": m.last_read_at,
        "delivered_seq": m.delivered_seq, "changed_position": m.changed_position, "changed_index": m.changed_index,
        "own_live_after_read": len(own),
    }  # fmt: skip


def _earlier_texts(chat_id: str, m: Message) -> Rows:
    written = [(m.body["text"], m.sent_at), *((edit.body["text"], edit.at_ms) for edit in m.edits)]
    return [
        {"chat_id": chat_id, "seq": m.seq, "revision": revision, "message_text": text, "written_at": at}
        for revision, (text, at) in enumerate(written[:-1])
    ]


def _message(chat_id: str, chat: Chat, m: Message) -> Json:
    kept = m.deleted_at is None
    replies = chat.live_replies(m.seq)
    return {
        "chat_id": chat_id, "seq": m.seq, "message_id": m.message_id, "sender_id": m.sender,
        "message_text": m.said("text") if kept else None, "client_generated_id": m.key,
        "reply_to_message_id": m.body.get("reply_to_message_id"), "root_seq": m.root_seq,
        "reply_count": len(replies), "last_reply_seq": max(replies, default=None),
        "media_urls": (kept and m.said("media_urls")) or [],
        "metadata": m.said("metadata") if kept else None,
        "sent_at": m.sent_at, "edited_at": m.edits[-1].at_ms if m.edits else None, "deleted_at": m.deleted_at,
        "position": m.position, "revision": len(m.edits), "changed_position": m.changed_position,
    }  # fmt: skip


def _outcome(state: State, o: Outcome) -> Json:
    row: Json = {
        "partition": o.partition, "index": o.index, "command_id": o.command_id, "sender_id": o.sender,
        "type": COMMAND_TYPES.get(o.type), "outcome": o.kind, "reason": None, "seq": o.seq, "position": o.position,
        "at": o.at_ms, "detail": None, "revision": None,
    }  # fmt: skip
    if o.kind in ("accepted", "duplicate"):
        row["revision"] = state.revisions.get(o.command_id or "")
    if o.kind in ("duplicate", "unchanged"):
        row |= {"seq": o.body.get("seq"), "position": o.body.get("position")}
    elif o.kind == "rejected":
        row |= {"type": o.body.get("command_type"), "reason": o.body["reason"], "detail": o.body["detail"]}
    return row
