"""The state that deciding reads: chats, members, messages and dedup entries, as values, with views of them.

A fold of the log computes the values. A `View` returns those of one partition; an `Overlay` adds the changes of a batch
that is not in the log yet.
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
    """Number of present members."""
    owners: int
    """Number of present owners; a group with members has at least one."""


class Member(Struct, frozen=True, kw_only=True, gc=False):
    """A present or former member of a chat."""

    role: Role
    present: bool
    joined_seq: int
    read_seq: int
    delivered_seq: int
    creator: bool = False
    """Whether the member created the chat, and so may join again when all members have left. It never changes."""


def joined(role: Role, last_seq: int, *, creator: bool) -> Member:
    """Return a member who joins, for the first time or again: everything before counts as read and delivered."""
    return Member(
        role=role, present=True, joined_seq=last_seq, read_seq=last_seq, delivered_seq=last_seq, creator=creator
    )


class DedupEntry(Struct, frozen=True, kw_only=True, gc=False):
    """Stored permanently for each accepted command under its key, to recognise a repeat and answer it."""

    digest: bytes
    seq: int | None
    """Seq of the message; None for any other command."""
    position: int
    sent_at_ms: int
    revision: int | None = None
    """For an edit: the message's revision after it."""


_DEDUP: Final = struct.Struct(">16sQQQ")
DedupBytes = NewType("DedupBytes", bytes)
"""A DedupEntry packed into 40 bytes, the form used in memory and on disk. Packed eagerly because entries are almost
never read back."""


pack_dedup: Final = cast("Callable[[bytes, int, int, int], DedupBytes]", _DEDUP.pack)
"""Pack digest, seq (0 for None), position and sent_at_ms. In the place of a seq, an edit has REVISION + its
revision: the entry itself says which of the two it is, for an edit must never be taken for a message."""
REVISION: Final = 1 << 63


def unpack_dedup(raw: DedupBytes) -> DedupEntry:
    """The inverse of `pack_dedup`. Raises struct.error unless `raw` has 40 bytes."""
    digest, seq, position, sent_at_ms = _DEDUP.unpack(raw)
    if seq >= REVISION:
        return DedupEntry(digest=digest, seq=None, position=position, sent_at_ms=sent_at_ms, revision=seq - REVISION)
    return DedupEntry(digest=digest, seq=seq or None, position=position, sent_at_ms=sent_at_ms)


MemberKey = tuple[ChatId, UserId]
MessageKey = tuple[ChatId, int]
"""A chat and a seq."""
ReactorKey = tuple[ChatId, int, UserId]
"""A chat, a seq and a user who reacted to that message."""
FactKey = tuple[bytes, ChatId, int] | tuple[bytes, ChatId, int, UserId]
"""A letter for the kind of fact, and what it is a fact of: a message (seq 0: the chat itself), or a user's part in
it."""


@dataclass(slots=True)
class StateChanges:
    """New values by key: the changes that the outcomes of a batch make to the state."""

    chats: dict[ChatId, Chat] = field(default_factory=dict)
    members: dict[MemberKey, Member] = field(default_factory=dict)
    dedup: dict[CommandKey, DedupBytes] = field(default_factory=dict)
    senders: defaultdict[ChatId, list[UserId]] = field(default_factory=lambda: defaultdict(list))
    """Authors of the messages sent, in order; a chat's last one has the `last_seq` in `chats`. Recording the author of
    a send costs one dict lookup and one list append."""
    facts: dict[FactKey, bytes] = field(default_factory=dict)
    """What few messages have, packed: `facts` declares each kind."""

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        """Return the author of a message sent in this batch, or None."""
        senders = self.senders.get(chat_id)
        if senders is None:
            return None
        from_end = self.chats[chat_id].last_seq - seq
        return senders[-1 - from_end] if 0 <= from_end < len(senders) else None


@dataclass(frozen=True, slots=True)
class Prefetched:
    """The values that a view has loaded: None for a key that does not exist. Keys that are missing must be read."""

    chats: Mapping[ChatId, Chat | None]
    members: Mapping[MemberKey, Member | None]
    dedup: Mapping[CommandKey, DedupBytes | None]


class View(Protocol):
    """The state of a partition at one point of its log."""

    def chat(self, chat_id: ChatId) -> Chat | None: ...

    def member(self, key: MemberKey) -> Member | None: ...

    def dedup(self, key: CommandKey) -> DedupEntry | None: ...

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        """Return the author of a message; None if the chat has no message of that seq."""
        ...

    def fact(self, key: FactKey) -> bytes | None:
        """Return a fact of a message, packed; None if the message has none. `facts` reads and writes them by kind."""
        ...


class LoadedView(View, Protocol):
    """A view with many keys loaded at once."""

    @property
    def prefetched(self) -> Prefetched: ...


class Overlay:
    """A view with the changes of a batch on top and, below them, those of the batch in flight, if any."""

    __slots__ = ("below", "changes", "in_flight")

    def __init__(self, below: View, in_flight: StateChanges | None = None) -> None:
        self.below = below
        """May be replaced by another view of the same state."""
        self.in_flight = in_flight if in_flight is not None else _NONE
        self.changes = StateChanges()

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self.changes.chats.get(chat_id) or self.in_flight.chats.get(chat_id) or self.below.chat(chat_id)

    def member(self, key: MemberKey) -> Member | None:
        # Only receipts and memberships change members: most batches have neither and need no hash of the key.
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

    def fact(self, key: FactKey) -> bytes | None:
        return self.changes.facts.get(key) or self.in_flight.facts.get(key) or self.below.fact(key)


_NONE: Final = StateChanges()
