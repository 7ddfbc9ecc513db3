"""What a stream shows of one event, by docs/live.md, in the form in which readers record frames: times are
milliseconds, and a frame's `token` is [partition, index].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.chaos.evidence import Json
from tests.oracle.records import Outcome

RECEIPTS: Final = frozenset({"read.advanced.v1", "delivered.advanced.v1"})
"""Events that `prev` does not count, and that a stream may leave out."""
SIGNALS: Final = frozenset({"typing", "presence"})
ABOUT_THE_STREAM: Final = frozenset({"ready", "cursor", "lagged", "bye"})


def frame(outcome: Outcome) -> Json:
    """Return the frame of an accepted outcome, without `prev`."""
    place: Json = {"chat_id": outcome.chat, "position": outcome.position, "token": [outcome.partition, outcome.index]}
    return place | _CONTENT[outcome.type](outcome)


def joins(outcome: Outcome, user: str) -> bool:
    """Return whether the user is a member from this event on, and was not one before, as far as the event says."""
    if outcome.type == "chat.created.v1":
        return user in (outcome.sender, *outcome.body["members"])
    return outcome.type == "member.added.v1" and outcome.body["user_id"] == user


def removes(outcome: Outcome, user: str) -> bool:
    return outcome.type == "member.removed.v1" and outcome.body["user_id"] == user


def _created(o: Outcome) -> Json:
    members = list(dict.fromkeys([o.sender, *o.body["members"]]))
    return {
        "type": "chat", "kind": o.body["kind"], "name": o.body.get("name"), "created_by": o.sender, "members": members,
        "at": o.at_ms,
    }  # fmt: skip


def _sent(o: Outcome) -> Json:
    as_sent = {
        "message_id": o.command_id, "chat_id": o.chat, "seq": o.seq, "position": o.position,
        "changed_position": o.position, "sender_id": o.sender, "client_generated_id": o.client_id,
        "text": o.body["text"], "reply_to_message_id": o.body.get("reply_to_message_id"),
        "media_urls": o.body.get("media_urls") or [], "metadata": o.body.get("metadata"), "sent_at": o.at_ms,
        "revision": 0, "edited_at": None, "deleted_at": None, "reactions": [], "reply_count": 0,
        "last_reply_seq": None,
    }  # fmt: skip
    return {"type": "message", "message": as_sent}


def _edited(o: Outcome) -> Json:
    kept = {name: o.body[name] for name in ("media_urls", "metadata") if o.body.get(name) is not None}
    return {"type": "edited", "seq": o.body["seq"], "text": o.body["text"], **kept, **_by(o)}


def _reacted(o: Outcome) -> Json:
    change = "added" if o.type == "reaction.added.v1" else "removed"
    return {"type": "reaction", "seq": o.body["seq"], "emoji": o.body["emoji"], "change": change, **_by(o)}


def _member(change: str) -> Callable[[Outcome], Json]:
    def content(o: Outcome) -> Json:
        role = {} if change == "removed" else {"role": o.body["role"]}
        return {"type": "member", "user_id": o.body["user_id"], "change": change, **role, **_by(o)}

    return content


def _marked(o: Outcome) -> Json:
    mark = "read_seq" if o.type == "read.advanced.v1" else "delivered_seq"
    return {"type": "receipt", "user_id": o.sender, mark: o.body["up_to_seq"], "at": o.at_ms}


def _by(o: Outcome) -> Json:
    return {"by": o.sender, "at": o.at_ms}


_CONTENT: Final[dict[str, Callable[[Outcome], Json]]] = {
    "chat.created.v1": _created,
    "chat.renamed.v1": lambda o: {"type": "chat", "name": o.body["name"], **_by(o)},
    "member.added.v1": _member("added"),
    "member.removed.v1": _member("removed"),
    "member.role.changed.v1": _member("role"),
    "message.sent.v1": _sent,
    "message.edited.v1": _edited,
    "message.deleted.v1": lambda o: {"type": "deleted", "seq": o.body["seq"], **_by(o)},
    "reaction.added.v1": _reacted,
    "reaction.removed.v1": _reacted,
    "read.advanced.v1": _marked,
    "delivered.advanced.v1": _marked,
}
