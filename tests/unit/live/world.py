"""What happens, and the truth of it: a log of chats, told by itself and not by any code of the services.

A chat's events are its positions 1, 2, 3 …; each is an outcome of its partition, among outcomes that are no events.
`Truth` is a chat after each of them; a standing is what a snapshot of the read model shows of a user.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import strategies as st

from schemas.bodies import (
    Body,
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
    canonical_body,
)
from schemas.events import AcceptedOutcome
from schemas.ids import ChatId, UserId, command_id, group_chat_id, partition_of
from schemas.types import COMMAND_OF, MARKS, EventType
from services.live.hub.hub import ChatStanding, UserStanding

PARTITIONS: Final = 3
LOG_ID: Final = "0b4e4f5c-5a55-4b0e-9d8c-3c1c9a5b7e01"
SMALL: Final = 2
"""What the machine takes for hub.SMALL_CHAT_MEMBERS."""
USERS: Final = tuple(UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abcd")
CHATS: Final = tuple(group_chat_id(USERS[0], name) for name in ("one", "two", "three", "four", "five"))
PARTITION_OF: Final = {chat: partition_of(chat, PARTITIONS) for chat in CHATS}
assert len(set(PARTITION_OF.values())) == PARTITIONS
RECEIPTS: Final = (EventType.READ_ADVANCED, EventType.DELIVERED_ADVANCED)
EMOJIS: Final = ("👍", "❤")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    chat: ChatId
    index: int
    position: int
    type: EventType
    sender: UserId
    body: Body
    seq: int | None

    @property
    def is_receipt(self) -> bool:
        return self.type in RECEIPTS

    def joins(self, user: UserId) -> bool:
        match self.body:
            case ChatCreate(members=members):
                return user == self.sender or user in members
            case MemberAdd(user_id=added):
                return added == user
        return False

    def removes(self, user: UserId) -> bool:
        return isinstance(self.body, MemberRemove) and self.body.user_id == user

    @property
    def outcome(self) -> AcceptedOutcome:
        key = f"k-{self.position}"
        mark = COMMAND_OF[self.type] in MARKS
        return AcceptedOutcome(
            type=self.type.value, at_ms=1_000_000 + self.index, body=canonical_body(self.body), chat_id=self.chat,
            sender_id=self.sender, position=self.position, seq=self.seq,
            command_id=None if mark else command_id(self.chat, self.sender, key),
            client_generated_id=None if mark else key,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """A message."""

    text: str | None
    revision: int = 0
    reactions: frozenset[tuple[str, UserId]] = frozenset()


@dataclass(frozen=True, slots=True)
class Truth:
    """A chat after one of its events. Both the truth and what a client has made of frames."""

    name: str | None = None
    members: Mapping[UserId, str] = field(default_factory=dict)
    messages: Mapping[int, Said] = field(default_factory=dict)
    """By seq."""
    marks: Mapping[tuple[UserId, str], int] = field(default_factory=dict)

    def changed(self, seq: int, said: Said) -> Truth:
        return replace(self, messages={**self.messages, seq: said})

    def joined(self, user: UserId, role: str) -> Truth:
        """A member who returns begins with fresh cursors."""
        marks = {key: seq for key, seq in self.marks.items() if key[0] != user}
        return replace(self, members={**self.members, user: role}, marks=marks)

    def left(self, user: UserId) -> Truth:
        return replace(self, members={each: role for each, role in self.members.items() if each != user})

    def marked(self, user: UserId, mark: str, seq: int) -> Truth:
        return replace(self, marks={**self.marks, (user, mark): seq})

    def after(self, event: Event) -> Truth:
        match event.body:
            case ChatCreate(name=name, members=members):
                return Truth(name, dict.fromkeys(map(UserId, members), "member") | {event.sender: "owner"})
            case ChatRename(name=name):
                return replace(self, name=name)
            case MemberAdd(user_id=user, role=role):
                return self.joined(UserId(user), role)
            case MemberRemove(user_id=user):
                return self.left(UserId(user))
            case MemberRole(user_id=user, role=role):
                return replace(self, members={**self.members, UserId(user): role})
            case MessageSend(text=text):
                assert event.seq is not None
                return self.changed(event.seq, Said(text))
            case MessageEdit(seq=seq, text=text):
                before = self.messages[seq]
                return self.changed(seq, replace(before, text=text, revision=before.revision + 1))
            case MessageDelete(seq=seq):
                return self.changed(seq, replace(self.messages[seq], text=None))
            case Reaction(seq=seq, emoji=emoji):
                kinds = frozenset({(emoji, event.sender)})
                before = self.messages[seq]
                added = event.type is EventType.REACTION_ADDED
                reactions = before.reactions | kinds if added else before.reactions - kinds
                return self.changed(seq, replace(before, reactions=reactions))
            case Mark(up_to_seq=up_to):
                mark = "read_seq" if event.type is EventType.READ_ADVANCED else "delivered_seq"
                return self.marked(event.sender, mark, up_to)
        raise AssertionError(event)


@dataclass(frozen=True, slots=True)
class Act:
    """What someone tries. `World.happen` makes something of it that is possible."""

    what: str
    chat: ChatId
    user: UserId
    other: UserId
    number: int

    def __repr__(self) -> str:
        chat, user, other = CHATS.index(self.chat), USERS.index(self.user), USERS.index(self.other)
        return f"Act({self.what!r}, CHATS[{chat}], USERS[{user}], USERS[{other}], {self.number})"


WHATS: Final = (
    "send", "send", "send", "edit", "delete", "react", "read", "read", "deliver", "rename", "role", "add", "add", "add",
    "remove", "remove", "nothing",
)  # fmt: skip
acts: Final = st.builds(
    Act, st.sampled_from(WHATS), st.sampled_from(CHATS), st.sampled_from(USERS), st.sampled_from(USERS),
    st.integers(0, 7),
)  # fmt: skip


class World:
    def __init__(self) -> None:
        self.log: list[list[Event | None]] = [[] for _ in range(PARTITIONS)]
        """By partition; index 1 comes first. None: an outcome that is no event."""
        self.events: dict[ChatId, list[Event]] = {chat: [] for chat in CHATS}
        self.truths: dict[ChatId, list[Truth]] = {chat: [Truth()] for chat in CHATS}
        """By position."""

    def end(self) -> dict[int, int]:
        return {partition: len(outcomes) for partition, outcomes in enumerate(self.log)}

    # What happens

    def happen(self, act: Act) -> None:
        typed = self._possible(act)
        if typed is None:
            self.log[PARTITION_OF[act.chat]].append(None)
            return
        self.append(act.chat, *typed)

    def append(self, chat: ChatId, event_type: EventType, sender: UserId, body: Body) -> Event:
        outcomes, events, truths = self.log[PARTITION_OF[chat]], self.events[chat], self.truths[chat]
        event = Event(
            chat=chat, index=len(outcomes) + 1, position=len(events) + 1, type=event_type, sender=sender, body=body,
            seq=len(truths[-1].messages) + 1 if event_type is EventType.MESSAGE_SENT else None,
        )  # fmt: skip
        outcomes.append(event)
        events.append(event)
        truths.append(truths[-1].after(event))
        return event

    def _possible(self, act: Act) -> tuple[EventType, UserId, Body] | None:
        truth, user, other = self.truths[act.chat][-1], act.user, act.other
        if not self.events[act.chat]:
            members = [each for at, each in enumerate(USERS) if act.number >> at & 1 and each != user]
            return EventType.CHAT_CREATED, user, ChatCreate(kind="group", name="new", members=list(members))
        if not truth.members:
            creator = self.events[act.chat][0].sender
            return EventType.MEMBER_ADDED, creator, MemberAdd(creator, "owner")
        sender = user if user in truth.members else min(truth.members)
        live = [seq for seq, said in truth.messages.items() if said.text is not None]
        text = f"{act.what} {act.number}"
        if act.what == "add" and other not in truth.members:
            return EventType.MEMBER_ADDED, sender, MemberAdd(other, "member")
        if act.what == "remove" and other in truth.members:
            return EventType.MEMBER_REMOVED, sender, MemberRemove(other)
        if act.what == "role" and other in truth.members:
            role = "admin" if truth.members[other] == "member" else "member"
            return EventType.MEMBER_ROLE_CHANGED, sender, MemberRole(other, role)  # type: ignore[arg-type]
        if act.what == "rename" and truth.name != text:
            return EventType.CHAT_RENAMED, sender, ChatRename(text)
        if act.what == "send":
            return EventType.MESSAGE_SENT, sender, MessageSend(text)
        if act.what in ("read", "deliver"):
            event = EventType.READ_ADVANCED if act.what == "read" else EventType.DELIVERED_ADVANCED
            mark = "read_seq" if act.what == "read" else "delivered_seq"
            if len(truth.messages) > truth.marks.get((sender, mark), 0):
                return event, sender, Mark(len(truth.messages))
            return None
        if act.what in ("edit", "delete", "react") and live:
            seq = live[act.number % len(live)]
            if act.what == "edit":
                return EventType.MESSAGE_EDITED, sender, MessageEdit(seq, text)
            if act.what == "delete":
                return EventType.MESSAGE_DELETED, sender, MessageDelete(seq)
            emoji = EMOJIS[act.number % len(EMOJIS)]
            there = (emoji, sender) in truth.messages[seq].reactions
            return EventType.REACTION_REMOVED if there else EventType.REACTION_ADDED, sender, Reaction(seq, emoji)
        return None

    # What is true

    def position_at(self, chat: ChatId, index: int) -> int:
        """Return the position of the chat's last event up to an index of its partition; 0 if it has none."""
        return bisect_right(self.events[chat], index, key=lambda event: event.index)

    def is_member(self, user: UserId, chat: ChatId, position: int) -> bool:
        return user in self.truths[chat][position].members

    def content_before(self, chat: ChatId, position: int) -> int | None:
        """Return the position of the chat's last event before this one that is no receipt."""
        return max((e.position for e in self.events[chat][: position - 1] if not e.is_receipt), default=None)

    def sizes(self, chat: ChatId, first: int, last: int) -> Iterable[int]:
        """Return how many members the chat had after each of these positions."""
        return (len(truth.members) for truth in self.truths[chat][first : last + 1])

    def standing(self, user: UserId, at: Mapping[int, int], *, with_empty: bool = True) -> UserStanding:
        """Return what a snapshot of the read model shows that has each partition up to an index.

        :param with_empty: whether partitions of which nothing is projected yet are among its heads.
        """
        chats = []
        for chat, events in self.events.items():
            position = self.position_at(chat, at[PARTITION_OF[chat]])
            named = [e for e in events[:position] if e.joins(user) or e.removes(user)]
            if named:
                is_member = self.is_member(user, chat, position)
                chats.append(
                    ChatStanding(
                        chat_id=chat, is_member=is_member, last_position=position,
                        changed_index=(events[position - 1] if is_member else named[-1]).index,
                        members=min(len(self.truths[chat][position].members), SMALL + 1),
                    )
                )  # fmt: skip
        return UserStanding(chats, {p: index for p, index in at.items() if index or with_empty})
