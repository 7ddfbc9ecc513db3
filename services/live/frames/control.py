"""Frames that the server itself says: about the stream, not about an event."""

from __future__ import annotations

from schemas.ids import ChatId
from services.live.frames.frame import Frame


def ready(cursor: str | None, heartbeat_s: float) -> Frame:
    """The first frame: what follows comes after `cursor`. A stream of one chat has none: its ids are positions."""
    return Frame("ready", ({} if cursor is None else {"cursor": cursor}) | {"heartbeat_s": heartbeat_s})


def cursor(cursor: str) -> Frame:
    """Everything up to this cursor was sent. On an event stream it is the last event id instead."""
    return Frame("cursor", {"cursor": cursor})


def gap(chat_id: ChatId, at_least: str) -> Frame:
    """Events of the chat are missing before the next frame: fetch its changes, with `at_least` as Gapless-At-Least."""
    return Frame("gap", {"chat_id": chat_id, "at_least": at_least})


def removed(chat_id: ChatId, position: int | None = None) -> Frame:
    """The reader is no longer a member: no frame of the chat follows."""
    return Frame("removed", {"chat_id": chat_id}, position=position)


def lagged() -> Frame:
    """The reader was too slow, and events left the ring before it took them: `gap` frames follow."""
    return Frame("lagged", {})


def bye(reason: str, after_ms: int) -> Frame:
    """The server closes the stream. The client connects again after `after_ms`, at its cursor."""
    return Frame("bye", {"reason": reason, "after_ms": after_ms})


def signal(kind: str, chat_id: ChatId, user_id: str, state: str) -> Frame:
    """`typing` or `presence` of another member. It is not in the log."""
    return Frame(kind, {"chat_id": chat_id, "user_id": user_id, "state": state})
