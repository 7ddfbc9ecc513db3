"""A client: makes a state of the frames that it receives, as an application would, and remembers cursors.

It takes an event if its position is after what it has of the chat. On a `gap`, and when it joins a chat, it fetches the
chat: it gets the truth of some moment that is not before what it asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.ids import ChatId, UserId, parse_token
from tests.unit.live.world import PARTITION_OF, SMALL, Said, Truth, World

Frame = dict[str, Any]


@dataclass(slots=True)
class State:
    """What a client keeps: it may come back with this, after any cut."""

    chats: dict[ChatId, tuple[int, Truth]] = field(default_factory=dict)
    """Each with the position up to which it is known."""

    def copy(self) -> State:
        return State(dict(self.chats))


@dataclass(frozen=True, slots=True)
class Saved:
    """A place to come back to: a cursor, and what the client had when it received it, or later."""

    user: UserId
    scope: frozenset[ChatId]
    """The chats that the cursor is of."""
    of_one: bool
    cursor: str | int
    """A text for all chats, a position for one chat."""
    state: State


class Client:
    def __init__(self, world: World, user: UserId, state: State, *, fetches_late: bool) -> None:
        self.world = world
        self.user = user
        self.state = state
        self.fetches_late = fetches_late
        self.denied: set[ChatId] = set()
        """Chats that were fetched after the user had left them: `removed` has yet to come."""
        self.on_cursor: Callable[[str], None] = lambda _: None

    def receive(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind in ("ready", "cursor"):
            if "cursor" in frame:
                self.on_cursor(frame["cursor"])
        elif kind == "gap":
            self._fetch(ChatId(frame["chat_id"]), parse_token(frame["token"])[1])
        elif kind == "removed":
            self.state.chats.pop(ChatId(frame["chat_id"]), None)
            self.denied.discard(ChatId(frame["chat_id"]))
        elif kind not in ("lagged", "bye"):
            self._event(ChatId(frame["chat_id"]), frame)

    def _fetch(self, chat: ChatId, index: int) -> None:
        if self.fetches_late:
            index = len(self.world.log[PARTITION_OF[chat]])
        position = self.world.position_at(chat, index)
        if self.world.is_member(self.user, chat, position):
            self.state.chats[chat] = (position, self.world.truths[chat][position])
            self.denied.discard(chat)
        else:
            self.state.chats.pop(chat, None)
            self.denied.add(chat)

    def _event(self, chat: ChatId, frame: Frame) -> None:
        known = self.state.chats.get(chat)
        if known is None:
            self._event_of_an_unknown_chat(chat, frame)
            return
        position, truth = known
        if frame["position"] <= position:
            return
        assert frame.get("prev") is None or frame["prev"] <= position, f"{frame}: only {position} is known"
        self.state.chats[chat] = (frame["position"], folded(truth, frame))

    def _event_of_an_unknown_chat(self, chat: ChatId, frame: Frame) -> None:
        if frame["type"] == "chat" and "members" in frame:
            self.state.chats[chat] = (frame["position"], folded(Truth(), frame))
        elif frame["type"] == "member" and frame["change"] == "added" and frame["user_id"] == self.user:
            self._fetch(chat, parse_token(frame["token"])[1])
        else:
            assert chat in self.denied, f"{frame} of a chat that the client knows nothing of"

    def check(self, scope: frozenset[ChatId]) -> None:
        """Everything was received: it is the truth."""
        for chat in scope:
            position = len(self.world.events[chat])
            truth = self.world.truths[chat][position]
            if self.user not in truth.members:
                assert chat not in self.state.chats, f"{self.user} left {chat}, and still has it"
                continue
            assert chat in self.state.chats, f"{self.user} is a member of {chat}, and does not have it"
            all_marks = max(self.world.sizes(chat, 0, position)) <= SMALL
            assert self._seen(self.state.chats[chat][1], all_marks) == self._seen(truth, all_marks), chat

    def _seen(self, truth: Truth, all_marks: bool) -> Truth:
        """Leave out what the reader need not receive."""
        marks = {key: seq for key, seq in truth.marks.items() if all_marks or key[0] == self.user}
        return replace(truth, marks=marks)


def folded(truth: Truth, frame: Frame) -> Truth:
    """Return a chat after a frame."""
    match frame:
        case {"type": "chat", "members": members}:
            roles = dict.fromkeys(map(UserId, members), "member") | {UserId(frame["created_by"]): "owner"}
            return Truth(frame["name"], roles)
        case {"type": "chat", "name": name}:
            return replace(truth, name=name)
        case {"type": "member", "change": "added", "user_id": user, "role": role}:
            return truth.joined(UserId(user), role)
        case {"type": "member", "change": "removed", "user_id": user}:
            return truth.left(UserId(user))
        case {"type": "member", "change": "role", "user_id": user, "role": role}:
            return replace(truth, members={**truth.members, UserId(user): role})
        case {"type": "message", "message": message}:
            return truth.changed(message["seq"], Said(message["text"], message["revision"]))
        case {"type": "edited", "seq": seq, "text": text}:
            before = truth.messages[seq]
            return truth.changed(seq, replace(before, text=text, revision=before.revision + 1))
        case {"type": "deleted", "seq": seq}:
            return truth.changed(seq, replace(truth.messages[seq], text=None))
        case {"type": "reaction", "seq": seq, "emoji": emoji, "change": change, "by": user}:
            before, kinds = truth.messages[seq], frozenset({(emoji, UserId(user))})
            reactions = before.reactions | kinds if change == "added" else before.reactions - kinds
            return truth.changed(seq, replace(before, reactions=reactions))
        case {"type": "receipt", "user_id": user}:
            (mark,) = {"read_seq", "delivered_seq"} & frame.keys()
            return truth.marked(UserId(user), mark, frame[mark])
    raise AssertionError(frame)
