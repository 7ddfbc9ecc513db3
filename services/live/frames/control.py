"""Frames that the server itself says: about the stream, not about an event."""

from __future__ import annotations

from schemas.ids import ChatId
from schemas.instants import instant_of
from services.live.frames.frame import Frame


def ready(cursor: str | None, heartbeat_s: float) -> Frame:
    """The first frame: what follows comes after `cursor`. A stream of one chat has none: its ids are positions."""
    return Frame("ready", ({} if cursor is None else {"cursor": cursor}) | {"heartbeat_s": heartbeat_s})


def cursor(cursor: str) -> Frame:
    """Everything up to this cursor was sent. On an event stream it is the last event id instead."""
    return Frame("cursor", {"cursor": cursor})


def gap(chat_id: ChatId, token: str) -> Frame:
    """Events of the chat are missing before the next frame: fetch its changes, with `token` as Gapless-At-Least."""
    return Frame("gap", {"chat_id": chat_id, "token": token})


def removed(chat_id: ChatId, position: int | None = None) -> Frame:
    """The reader is no longer a member: no frame of the chat follows."""
    return Frame("removed", {"chat_id": chat_id}, position=position)


def lagged() -> Frame:
    """The reader was too slow, and events left the ring before it took them: `gap` frames follow."""
    return Frame("lagged", {})


def bye(reason: str, after_ms: int) -> Frame:
    """The server closes the stream. The client connects again after `after_ms`, at its cursor."""
    return Frame("bye", {"reason": reason, "after_ms": after_ms})


def authenticated(user_id: str, expires_at_s: float) -> Frame:
    """The answer to `auth`: who the caller is, and until when."""
    return Frame("authenticated", {"user_id": user_id, "expires_at": instant_of(round(expires_at_s * 1000))})


def error(reason: str, detail: str) -> Frame:
    """What was wrong with the client's last message. `bye` follows."""
    return Frame("error", {"reason": reason, "detail": detail})


def pong() -> Frame:
    """The answer to `ping`."""
    return Frame("pong", {})


def signal(kind: str, chat_id: ChatId, user_id: str, state: str, for_s: int) -> Frame:
    """`typing` or `presence` of another member. It is not in the log, and over after `for_s` without news."""
    return Frame(kind, {"chat_id": chat_id, "user_id": user_id, "state": state, "for_s": for_s})
