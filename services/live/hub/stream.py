"""A stream: what one connection follows, and how far it is. Pure; what carries it is a Sink.

A stream is in one of two states:

- live: everything up to the hub's head was written; the hub writes each new frame to it.
- catching up: it stands at `at`, and takes frames from the ring at the pace of its connection. When nothing is left it
  is live again, in the same step, so that nothing comes between.

A new connection, one that comes back and a slow one are all the second state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import islice
from operator import attrgetter
from typing import Final, Protocol, final

from schemas.ids import ChatId, UserId, partition_of
from services.live.frames import control
from services.live.frames.frame import Form, Frame
from services.live.hub.entry import Entry
from services.live.hub.ring import Ring

BACKLOG: Final = 4_000
"""Maximum events that a stream is given to take before they are searched for again."""


class Sink(Protocol):
    """The connection of a stream."""

    def takes_more(self) -> bool:
        """Return whether it should be written more now."""

    def write(self, data: bytes, /) -> None: ...

    def say_cursor(self, cursor: str, /) -> None:
        """Write the cursor up to which everything was written."""

    def close(self, reason: str, /) -> None:
        """Close after what was written."""


@final
class User:
    """A user that this process knows: the chats of which they are a member at the hub's head, and their streams."""

    __slots__ = ("_partitions", "chats", "left", "streams", "user_id")

    def __init__(self, user_id: UserId, chats: set[ChatId], left: set[ChatId]) -> None:
        self.user_id = user_id
        self.chats = chats
        self.left = left
        """The chats of which they were a member."""
        self.streams: set[Stream] = set()
        self._partitions: frozenset[int] | None = None

    def partitions(self, count: int) -> frozenset[int]:
        """Return the partitions of the chats of which the user is or was a member: those that their cursors name."""
        if self._partitions is None:
            self._partitions = frozenset([partition_of(chat_id, count) for chat_id in self.chats | self.left])
        return self._partitions

    def join(self, chat_id: ChatId) -> None:
        self.chats.add(chat_id)
        self.left.discard(chat_id)
        self._partitions = None

    def leave(self, chat_id: ChatId) -> None:
        self.chats.discard(chat_id)
        self.left.add(chat_id)
        self._partitions = None


@final
class Stream:
    """:param only: the chats that are followed; None follows all of the user's, also those that come.
    :param all_receipts: whether other members' receipts are sent of large chats too.
    :param ends_with_chat: whether it ends when the user is removed from a chat that it follows.
    """

    __slots__ = (
        "all_receipts",
        "at",
        "away",
        "backlog",
        "ends_with_chat",
        "form",
        "gone",
        "is_live",
        "named",
        "only",
        "sink",
        "user",
    )

    def __init__(
        self,
        user: User,
        sink: Sink,
        form: Form,
        *,
        only: frozenset[ChatId] | None = None,
        all_receipts: bool = False,
        ends_with_chat: bool = False,
    ) -> None:
        self.user = user
        self.sink = sink
        self.form = form
        self.only = only
        self.all_receipts = all_receipts
        self.ends_with_chat = ends_with_chat
        self.is_live = False
        self.at: dict[int, int] = {}
        """Partition → index up to which everything was written; used while it is catching up."""
        self.backlog: deque[Entry] = deque()
        """The next of the events that it has not taken, while it is catching up. They are kept even if they leave the
        ring."""
        self.named: frozenset[int] | None = None
        """The partitions that the cursor named at which it started, if it started at one."""
        self.gone: list[ChatId] = []
        """Chats that the user left, in partitions that the cursor does not name: told when it opens."""
        self.away: set[ChatId] | None = None
        """Chats of which the user is not a member at `at`, though they join later; set by `pending`."""

    def may_follow(self, chat_id: ChatId) -> bool:
        return self.only is None or chat_id in self.only

    def chats(self) -> Collection[ChatId]:
        """Return the chats that it follows at the hub's head."""
        return self.user.chats if self.only is None else self.only & self.user.chats

    def send(self, frame: Frame) -> None:
        self.sink.write(frame.in_form(self.form))

    def find_backlog(self, ring: Ring) -> bool:
        """Put the next events that it has not taken into `backlog`. Returns whether there are any."""
        self.backlog = deque(islice(self.pending(ring), BACKLOG))
        return bool(self.backlog)

    def pending(self, ring: Ring) -> list[Entry]:
        """Return the events that it has not taken yet, in the order in which they were read."""
        found: dict[int, Entry] = {}
        for chat_id in self.chats():
            for entry in ring.of_chat(chat_id, self.at):
                found[entry.serial] = entry
        first: dict[ChatId, bool] = {}
        for entry in ring.of_user(self.user.user_id, self.at):
            if self.may_follow(entry.chat_id):
                found[entry.serial] = entry
                first.setdefault(entry.chat_id, dict(entry.named)[self.user.user_id])
        # Only a user who is not a member can join.
        self.away = {chat_id for chat_id, joins in first.items() if joins}
        return sorted(found.values(), key=attrgetter("serial"))

    def take(self, entry: Entry, *, is_small: bool) -> Frame | None:
        """Take the next pending event. Returns what is sent of it, if anything."""
        self.at[entry.partition] = entry.index
        chat_id, user_id = entry.chat_id, self.user.user_id
        away = self.away if self.away is not None else set()
        for named, is_member in entry.named:
            if named == user_id and not is_member:
                away.add(chat_id)
                return control.removed(chat_id, entry.position)
            if named == user_id:
                away.discard(chat_id)
        if chat_id not in self.user.chats or chat_id in away:
            return None  # not a member at this event, or no longer at the head
        if entry.is_receipt and not self.takes_receipt(entry, is_small=is_small):
            return None
        return entry.frame()

    def takes_receipt(self, entry: Entry, *, is_small: bool) -> bool:
        return is_small or self.all_receipts or entry.outcome.sender_id == self.user.user_id
