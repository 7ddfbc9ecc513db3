"""The frame of each event: what it did, in the names of the HTTP API. Pure.

A `message` frame holds the message as `GET …/messages` shows it, without `status`, which differs by reader. The others
hold what changed: a reader applies them to what it has, in the order of `position`. `prev` is the position of the
chat's event before, receipts not counted, or null if this process does not know it: if a reader is not there yet, it
missed something, and fetches the chat's changes, with `token` as Gapless-At-Least.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schemas.bodies import (
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
)
from schemas.events import AcceptedOutcome, body_of
from schemas.ids import UserId
from schemas.instants import instant_of
from schemas.types import EventType
from services.live.frames.frame import Frame

Content = dict[str, Any]
Maker = Callable[[AcceptedOutcome], tuple[str, Content]]


def frame_of(outcome: AcceptedOutcome, prev: int | None, token: str) -> Frame:
    """Return the frame of an event. Raises LogCorrupt if its body does not parse."""
    kind, content = MAKERS[outcome.type](outcome)
    place = {"chat_id": outcome.chat_id, "position": outcome.position, "token": token}
    prior = {} if outcome.type in RECEIPTS else {"prev": prev}
    return Frame(kind, place | prior | content, position=outcome.position)


def named_users(outcome: AcceptedOutcome) -> list[tuple[UserId, bool]]:
    """Return the users whose membership the event changes, each with whether they are members after it.

    Raises LogCorrupt if its body does not parse.
    """
    if outcome.type == EventType.CHAT_CREATED:
        members = [outcome.sender_id, *map(UserId, body_of(outcome, ChatCreate).members)]
        return [(user_id, True) for user_id in dict.fromkeys(members)]
    if outcome.type == EventType.MEMBER_ADDED:
        return [(UserId(body_of(outcome, MemberAdd).user_id), True)]
    if outcome.type == EventType.MEMBER_REMOVED:
        return [(UserId(body_of(outcome, MemberRemove).user_id), False)]
    return []


def _created(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, ChatCreate)
    return "chat", {
        "kind": body.kind,
        "name": body.name,
        "created_by": outcome.sender_id,
        "members": [user_id for user_id, _ in named_users(outcome)],
        "at": instant_of(outcome.at_ms),
    }


def _renamed(outcome: AcceptedOutcome) -> tuple[str, Content]:
    return "chat", {"name": body_of(outcome, ChatRename).name} | _by(outcome)


def _added(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, MemberAdd)
    return "member", {"user_id": body.user_id, "change": "added", "role": body.role} | _by(outcome)


def _removed(outcome: AcceptedOutcome) -> tuple[str, Content]:
    return "member", {"user_id": body_of(outcome, MemberRemove).user_id, "change": "removed"} | _by(outcome)


def _role(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, MemberRole)
    return "member", {"user_id": body.user_id, "change": "role", "role": body.role} | _by(outcome)


def _sent(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, MessageSend)
    return "message", {
        "message": {
            "message_id": outcome.command_id,
            "chat_id": outcome.chat_id,
            "seq": outcome.seq,
            "position": outcome.position,
            "changed_position": outcome.position,
            "sender_id": outcome.sender_id,
            "client_generated_id": outcome.client_generated_id,
            "text": body.text,
            "reply_to_message_id": body.reply_to_message_id,
            "media_urls": body.media_urls or [],
            "metadata": body.metadata,
            "sent_at": instant_of(outcome.at_ms),
            "revision": 0,
            "edited_at": None,
            "deleted_at": None,
            "reactions": [],
            "reply_count": 0,
            "last_reply_seq": None,
        }
    }


def _edited(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, MessageEdit)
    kept = {"media_urls": body.media_urls, "metadata": body.metadata}
    changed = {name: value for name, value in kept.items() if value is not None}
    return "edited", {"seq": body.seq, "text": body.text} | changed | _by(outcome)


def _deleted(outcome: AcceptedOutcome) -> tuple[str, Content]:
    return "deleted", {"seq": body_of(outcome, MessageDelete).seq} | _by(outcome)


def _reacted(outcome: AcceptedOutcome) -> tuple[str, Content]:
    body = body_of(outcome, Reaction)
    change = "added" if outcome.type == EventType.REACTION_ADDED else "removed"
    return "reaction", {"seq": body.seq, "emoji": body.emoji, "change": change} | _by(outcome)


def _marked(outcome: AcceptedOutcome) -> tuple[str, Content]:
    mark = "read_seq" if outcome.type == EventType.READ_ADVANCED else "delivered_seq"
    content = {"user_id": outcome.sender_id, mark: body_of(outcome, Mark).up_to_seq}
    return "receipt", content | {"at": instant_of(outcome.at_ms)}


def _by(outcome: AcceptedOutcome) -> Content:
    return {"by": outcome.sender_id, "at": instant_of(outcome.at_ms)}


MAKERS: Final[dict[str, Maker]] = {
    EventType.CHAT_CREATED.value: _created,
    EventType.CHAT_RENAMED.value: _renamed,
    EventType.MEMBER_ADDED.value: _added,
    EventType.MEMBER_REMOVED.value: _removed,
    EventType.MEMBER_ROLE_CHANGED.value: _role,
    EventType.MESSAGE_SENT.value: _sent,
    EventType.MESSAGE_EDITED.value: _edited,
    EventType.MESSAGE_DELETED.value: _deleted,
    EventType.REACTION_ADDED.value: _reacted,
    EventType.REACTION_REMOVED.value: _reacted,
    EventType.READ_ADVANCED.value: _marked,
    EventType.DELIVERED_ADVANCED.value: _marked,
}
"""By the type of the event."""
PLANNED: Final[frozenset[str]] = frozenset()
"""Event types that have no frame yet."""
RECEIPTS: Final = frozenset({EventType.READ_ADVANCED.value, EventType.DELIVERED_ADVANCED.value})
