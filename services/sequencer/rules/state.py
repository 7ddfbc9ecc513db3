"""What deciding sees: chats, members, messages and remembered commands, as values, with views of them.

Values are what a fold of the log gives. A `View` answers for one partition; an `Overlay` lays the changes of a
batch that is not yet in the log over what is.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NewType, Protocol, cast

from msgspec import Struct

from schemas.bodies import ChatKind, Role
from schemas.ids import ChatId, CommandKey, UserId


class Chat(Struct, frozen=True, kw_only=True, gc=False):
    """The head of a chat."""

    kind: ChatKind
    last_seq: int
    last_position: int
    members: int
    """Present ones."""
    owners: int
    """Present ones; a group that has members has one."""


class Member(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody who is, or was, in a chat."""

    role: Role
    present: bool
    joined_seq: int
    read_seq: int
    delivered_seq: int
    creator: bool = False
    """Of the chat: may join again when nobody is present. Set by its creation, and kept for ever."""


def joined(role: Role, last_seq: int, *, creator: bool) -> Member:
    """Return a member who joins, for the first time or again: everything before counts as read and delivered."""
    return Member(
        role=role, present=True, joined_seq=last_seq, read_seq=last_seq, delivered_seq=last_seq, creator=creator
    )


class DedupEntry(Struct, frozen=True, kw_only=True, gc=False):
    """What an accepted command left under its key, for ever: by it a repeat is known and answered."""

    digest: bytes
    seq: int | None
    """Of a message; None for any other command."""
    position: int
    sent_at_ms: int


_DEDUP: Final = struct.Struct(">16sQQQ")
DedupBytes = NewType("DedupBytes", bytes)
"""A DedupEntry in 40 bytes, as it is kept in memory and on the disk: hardly one of those that are made is ever asked
for."""


pack_dedup: Final = cast("Callable[[bytes, int, int, int], DedupBytes]", _DEDUP.pack)
"""Of digest, seq or 0, position and sent_at_ms."""


def unpack_dedup(raw: DedupBytes) -> DedupEntry:
    """What `pack_dedup` was given. Raises struct.error where these are no 40 bytes."""
    digest, seq, position, sent_at_ms = _DEDUP.unpack(raw)
    return DedupEntry(digest=digest, seq=seq or None, position=position, sent_at_ms=sent_at_ms)


MemberKey = tuple[ChatId, UserId]
MessageKey = tuple[ChatId, int]
"""A chat and a seq."""


@dataclass(slots=True)
class StateChanges:
    """New values, by key: what the outcomes of a batch make of the state."""

    chats: dict[ChatId, Chat] = field(default_factory=dict)
    members: dict[MemberKey, Member] = field(default_factory=dict)
    dedup: dict[CommandKey, DedupBytes] = field(default_factory=dict)
    senders: defaultdict[ChatId, list[UserId]] = field(default_factory=lambda: defaultdict(list))
    """Of the messages that were sent, in order: the last of a chat's has the `last_seq` that `chats` holds. All that a
    send costs to be known by its author is one look-up and one place in a list."""
    deleted: dict[MessageKey, int] = field(default_factory=dict)
    """The positions at which messages were deleted."""

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        """Who sent a message, where it is among those that were sent here."""
        senders = self.senders.get(chat_id)
        if senders is None:
            return None
        from_end = self.chats[chat_id].last_seq - seq
        return senders[-1 - from_end] if 0 <= from_end < len(senders) else None


@dataclass(frozen=True, slots=True)
class Prefetched:
    """What a view knows without asking anybody: a key's value, or None where it has none. What is not here at all has
    to be asked for."""

    chats: Mapping[ChatId, Chat | None]
    members: Mapping[MemberKey, Member | None]
    dedup: Mapping[CommandKey, DedupBytes | None]


class View(Protocol):
    """The state of a partition at one point of its log."""

    def chat(self, chat_id: ChatId) -> Chat | None: ...

    def member(self, key: MemberKey) -> Member | None: ...

    def dedup(self, key: CommandKey) -> DedupEntry | None: ...

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        """Who sent a message; None where the chat has none of that seq."""
        ...

    def deleted(self, key: MessageKey) -> int | None:
        """The position at which a message was deleted; None where it was not."""
        ...


class LoadedView(View, Protocol):
    """A view for which much was looked up at once."""

    @property
    def prefetched(self) -> Prefetched: ...


class Overlay:
    """A view with a batch's changes laid over it, and under them those of the batch that is in flight, if one is."""

    __slots__ = ("below", "changes", "in_flight")

    def __init__(self, below: View, in_flight: StateChanges | None = None) -> None:
        self.below = below
        """May be put in the place of another, where it shows the same state."""
        self.in_flight = in_flight if in_flight is not None else _NONE
        self.changes = StateChanges()

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self.changes.chats.get(chat_id) or self.in_flight.chats.get(chat_id) or self.below.chat(chat_id)

    def member(self, key: MemberKey) -> Member | None:
        # Only marks and memberships change members: most batches have none, and need no hash of the key.
        changed, in_flight = self.changes.members, self.in_flight.members
        found = changed.get(key) if changed else None
        if found is None and in_flight:
            found = in_flight.get(key)
        return found if found is not None else self.below.member(key)

    def dedup(self, key: CommandKey) -> DedupEntry | None:
        raw = self.changes.dedup.get(key) or self.in_flight.dedup.get(key)
        return unpack_dedup(raw) if raw is not None else self.below.dedup(key)

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        return (
            self.changes.author(chat_id, seq) or self.in_flight.author(chat_id, seq) or self.below.author(chat_id, seq)
        )

    def deleted(self, key: MessageKey) -> int | None:
        return self.changes.deleted.get(key) or self.in_flight.deleted.get(key) or self.below.deleted(key)


_NONE: Final = StateChanges()
