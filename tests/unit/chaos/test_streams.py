"""The checker judges what streams brought: a spoiled frame or copy of each kind is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.chaos.evidence import Json
from tests.chaos.violations import Kind
from tests.support.sound_run import ANNA, BEN, CARL, CHAT, T0, P, World, command_id, sound

STREAMS: Final = {kind for kind in Kind if kind.startswith(("live_", "copy_"))}
OTHER: Final = "99999999-1111-4111-8111-111111111111"


def frame(position: int, index: int, frame_type: str, /, **content: Any) -> Json:
    return {"type": frame_type, "chat_id": CHAT, "position": position, "token": [P, index], **content}


def message(seq: int, position: int, index: int, sender: str, key: str, text: str, at: int, prev: int) -> Json:
    as_sent = {
        "message_id": command_id(sender, key), "chat_id": CHAT, "seq": seq, "position": position,
        "changed_position": position, "sender_id": sender, "client_generated_id": key, "text": text,
        "reply_to_message_id": command_id(ANNA, "k1") if seq == 2 else None, "media_urls": [], "metadata": None,
        "sent_at": T0 + 1000 * at, "revision": 0, "edited_at": None, "deleted_at": None, "reactions": [],
        "reply_count": 0, "last_reply_seq": None,
    }  # fmt: skip
    return frame(position, index, "message", message=as_sent, prev=prev)


CREATED: Final = frame(
    1, 1, "chat", kind="group", name="Ops", created_by=ANNA, members=[ANNA, BEN], at=T0 + 1000, prev=None
)
HELLO: Final = message(1, 2, 2, ANNA, "k1", "hello", 2, 1)
READ: Final = frame(3, 5, "receipt", user_id=BEN, read_seq=1, at=T0 + 5000)
REPLY: Final = message(2, 4, 6, BEN, "k2", "hi", 8, 2)
REMOVED_BEN: Final = frame(5, 7, "member", user_id=BEN, change="removed", by=ANNA, at=T0 + 9000, prev=4)
ALL: Final = [CREATED, HELLO, READ, REPLY, REMOVED_BEN]
READY: Final[Json] = {"type": "ready", "cursor": "c", "heartbeat_s": 25}
REMOVED: Final[Json] = {"type": "removed", "chat_id": CHAT}
COPY: Final[Json] = {
    "position": 5, "removed": False,
    "messages": [
        [1, {"text": "hello", "deleted": False, "revision": 0, "reactions": {}}],
        [2, {"text": "hi", "deleted": False, "revision": 0, "reactions": {}}],
    ],
}  # fmt: skip


def gap(index: int) -> Json:
    return {"type": "gap", "chat_id": CHAT, "token": [P, index]}


def streamed(*frames: Json, user: str = ANNA, chat: str | None = None, **asked: Any) -> Callable[[World], None]:
    """Return what adds one connection to a run."""
    return lambda w: w.op("stream", {"caller": user, "chat": chat, **asked}, {"frames": [READY, *frames]})


def copied(chats: Json, *faults: str, user: str = ANNA, chat: str | None = None) -> Callable[[World], None]:
    return lambda w: w.op("copy", {"caller": user, "chat": chat}, {"chats": chats, "faults": list(faults)})


def found(add: Callable[[World], None]) -> set[Kind]:
    w = sound()
    add(w)
    return {violation.kind for violation in w.check().violations}


RIGHT: Final = {
    "everything from the beginning": streamed(*ALL, since=[]),
    "what follows a cursor": streamed(READ, REPLY, REMOVED_BEN, since=[[P, 2]]),
    "no receipts": streamed(CREATED, HELLO, REPLY, REMOVED_BEN, since=[]),
    "a stream that begins anywhere": streamed(REPLY, REMOVED_BEN),
    "one chat": streamed(REPLY, REMOVED_BEN, chat=CHAT, after_position=2),
    "a gap, and what follows it": streamed(gap(6), REMOVED_BEN, since=[]),
    "a process that does not know what was before": streamed({**REPLY, "prev": None}),
    "the reader is removed": streamed(CREATED, HELLO, REPLY, REMOVED, user=BEN, since=[]),
    "removed while away": streamed(REMOVED, user=BEN, since=[[P, 2]]),
    "signals": streamed({"type": "typing", "chat_id": CHAT, "user_id": BEN, "state": "started"}),
    "a whole copy": copied({CHAT: COPY}),
    "a copy of another chat": copied({}, chat=OTHER),
    "the copy of a reader who was removed": copied({CHAT: {**COPY, "position": 4, "removed": True}}, user=BEN),
    "nothing for a stranger": copied({}, user=CARL),
}
SPOILED: Final[list[tuple[Kind, Callable[[World], None]]]] = [
    (Kind.LIVE_GAP, streamed(CREATED, REPLY, since=[])),
    (Kind.LIVE_GAP, streamed(REPLY, since=[[P, 1]])),
    (Kind.LIVE_GAP, streamed(REPLY, since=[])),
    (Kind.LIVE_GAP, streamed(REPLY, chat=CHAT, after_position=1)),
    (Kind.LIVE_GAP, streamed(gap(2), REMOVED_BEN, since=[])),
    (Kind.LIVE_REPEATED, streamed(CREATED, HELLO, HELLO, since=[])),
    (Kind.LIVE_REPEATED, streamed(REPLY, READ)),
    (Kind.LIVE_REPEATED, streamed(HELLO, REPLY, since=[[P, 2]])),
    (Kind.LIVE_REPEATED, streamed(HELLO, chat=CHAT, after_position=2)),
    (Kind.LIVE_DIFFERS, streamed({**HELLO, "message": {**HELLO["message"], "text": "hullo"}})),
    (Kind.LIVE_DIFFERS, streamed({**READ, "read_seq": 2})),
    (Kind.LIVE_DIFFERS, streamed({**REPLY, "prev": 1})),
    (Kind.LIVE_DIFFERS, streamed({**REPLY, "token": [P, 7]})),
    (Kind.LIVE_DIFFERS, streamed({**REPLY, "position": 6})),
    (Kind.LIVE_DIFFERS, streamed({**REPLY, "chat_id": OTHER})),
    (Kind.LIVE_DIFFERS, streamed(REMOVED, since=[])),
    (Kind.LIVE_DIFFERS, streamed(gap(7), user=BEN)),
    (Kind.LIVE_AFTER_REMOVAL, streamed(REMOVED_BEN, user=BEN, since=[[P, 6]])),
    (Kind.LIVE_AFTER_REMOVAL, streamed(HELLO, user=CARL)),
    (Kind.LIVE_AFTER_REMOVAL, streamed(CREATED, REMOVED, READ, user=BEN, since=[])),
    (Kind.COPY_DIFFERS, copied({CHAT: COPY}, "a hole")),
    (Kind.COPY_DIFFERS, copied({})),
    (Kind.COPY_DIFFERS, copied({CHAT: {**COPY, "position": 4}})),
    (Kind.COPY_DIFFERS, copied({CHAT: {**COPY, "messages": COPY["messages"][:1]}})),
    (Kind.COPY_DIFFERS, copied({CHAT: {**COPY, "messages": [*COPY["messages"][:1], [2, {"text": "ha"}]]}})),
    (Kind.COPY_DIFFERS, copied({CHAT: {**COPY, "position": 2}}, user=BEN)),
]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_complained_of(name: str) -> None:
    assert found(RIGHT[name]) == set()


@pytest.mark.parametrize("number", range(len(SPOILED)))
def test_what_is_spoiled_is_found(number: int) -> None:
    kind, add = SPOILED[number]
    kinds = found(add)
    assert kind in kinds
    assert kinds <= STREAMS


def test_each_kind_is_spoiled() -> None:
    assert {kind for kind, _ in SPOILED} == STREAMS


def test_everything_is_counted() -> None:
    w = sound()
    RIGHT["a gap, and what follows it"](w)
    RIGHT["the reader is removed"](w)
    RIGHT["a whole copy"](w)
    assert w.check().live == {"connections": 2, "frames": 4, "gaps": 1, "removals": 1, "copies": 1}
