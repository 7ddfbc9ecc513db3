"""What a read shows of a chat in one state, by docs/api.md, in the form in which readers record answers.

A message is [seq, digest of what its send determines, what came later]; the last part leaves out what is as it was
sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.evidence import Json, message_digest
from tests.oracle.state import Chat, Message

EMOJIS: Final = ("👍", "❤", "+1")
"""The emojis that the clients of a run use."""


def unknown(problem: str) -> Json:
    """Return the answer about something that the reader does not see."""
    return {"http": 404, "problem": problem}


def page(chat: Chat, asked: Json) -> Json:
    after, limit = asked["after_seq"], asked["limit"]
    first = max(1, chat.last_seq - limit + 1) if after is None else after + 1
    last = min(chat.last_seq, first + limit - 1)
    messages = _messages(chat, range(first, last + 1), asked["caller"])
    return {"http": 200, "messages": messages, "more": first <= last < chat.last_seq, **_standing(chat)}


def threads(chat: Chat, asked: Json) -> Json:
    last_replies = {root: max(replies) for root, replies in _live_replies(chat).items()}
    roots = sorted(last_replies, key=lambda root: -last_replies[root])
    return _list_of_messages(chat, roots, asked)


def replies(chat: Chat, asked: Json) -> Json:
    thread = [m.seq for m in chat.messages.values() if m.root_seq == asked["seq"] and m.seq > asked["after_seq"]]
    return _list_of_messages(chat, sorted(thread), asked)


def edits(chat: Chat, asked: Json) -> Json:
    message = chat.messages.get(asked["seq"])
    items: list[list[Any]] = []
    if message is not None and message.deleted_at is None:
        written = [(message.body["text"], message.sent_at), *((e.body["text"], e.at_ms) for e in message.edits)]
        items = [[revision, text, at_ms] for revision, (text, at_ms) in enumerate(written[:-1])]
    return _cut(items[::-1], asked)


def reactions(chat: Chat, asked: Json) -> Json:
    message = chat.messages.get(asked["seq"])
    there = message.reactions if message is not None else {}
    return _cut(sorted([e, user] for user, e in there if asked["emoji"] in (None, e)), asked)


def receipts(chat: Chat, asked: Json) -> Json:
    message = chat.messages.get(asked["seq"])
    if message is None:
        return unknown("unknown_message")
    recipients = {
        user: member
        for user, member in chat.present().items()
        if member.joined_seq < message.seq and user != message.sender
    }
    items = []
    for user in sorted(recipients):
        member = recipients[user]
        if member.read_seq >= message.seq:
            items.append([user, "read"])
        elif member.delivered_seq >= message.seq:
            items.append([user, "delivered"])
    counts = [len(recipients), len(items), sum(status == "read" for _, status in items)]
    return {**_cut(items, asked), "counts": counts}


SHOWN: Final[dict[str, Callable[[Chat, Json], Json]]] = {
    "page": page, "threads": threads, "replies": replies, "edits": edits, "reactions": reactions, "receipts": receipts,
}  # fmt: skip
"""By kind of read. The reader is a present member."""


def message(chat: Chat, m: Message, live_replies: list[int], caller: str) -> list[Any]:
    """Return a message as `caller` is shown it."""
    kept = m.deleted_at is None
    digest = message_digest(
        message_id=m.message_id, sender=m.sender, key=m.key, text=m.said("text") if kept else None,
        sent_at_ms=m.sent_at, reply_to=m.body.get("reply_to_message_id"), position=m.position,
    )  # fmt: skip
    emojis = sorted(m.first_uses, key=lambda emoji: m.first_uses[emoji])
    users = {emoji: [user for user, other in m.reactions if other == emoji] for emoji in emojis}
    later: dict[str, tuple[Any, Any]] = {
        "changed_position": (m.changed_position, m.position),
        "revision": (len(m.edits), 0),
        "edited_at": (m.edits[-1].at_ms if m.edits else None, None),
        "deleted_at": (m.deleted_at, None),
        "media_urls": ((m.said("media_urls") or []) if kept else [], []),
        "metadata": (m.said("metadata") if kept else None, None),
        "status": (_status(chat, m), "sent"),
        "reactions": ([[emoji, len(users[emoji]), caller in users[emoji]] for emoji in emojis], []),
        "reply_count": (len(live_replies), 0),
        "last_reply_seq": (max(live_replies, default=None), None),
    }
    return [m.seq, digest, {name: value for name, (value, usual) in later.items() if value != usual}]


def _messages(chat: Chat, seqs: range | list[int], caller: str) -> list[Any]:
    live = _live_replies(chat)
    return [message(chat, chat.messages[seq], live[seq], caller) for seq in seqs]


def _live_replies(chat: Chat) -> defaultdict[int, list[int]]:
    """Return root → its live replies, in one pass over the chat."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for m in chat.messages.values():
        if m.root_seq is not None and m.deleted_at is None:
            found[m.root_seq].append(m.seq)
    return found


def _status(chat: Chat, m: Message) -> str:
    before = [member for user, member in chat.present().items() if user != m.sender and member.joined_seq < m.seq]
    if not before:
        return "sent"
    if all(member.read_seq >= m.seq for member in before):
        return "read"
    return "delivered" if all(max(b.read_seq, b.delivered_seq) >= m.seq for b in before) else "sent"


def _list_of_messages(chat: Chat, seqs: list[int], asked: Json) -> Json:
    limit = asked["limit"]
    items = _messages(chat, seqs[:limit], asked["caller"])
    return {"http": 200, "items": items, "more": len(seqs) > limit, **_standing(chat)}


def _standing(chat: Chat) -> Json:
    return {"position": chat.last_position, "last_seq": chat.last_seq}


def _cut(items: list[list[Any]], asked: Json) -> Json:
    return {"http": 200, "items": items[: asked["limit"]], "more": len(items) > asked["limit"]}
