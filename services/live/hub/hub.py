"""The hub: takes each event once, and writes its frame to every stream that follows its chat. Pure: it knows no socket.

It holds what this process knows of memberships: for each user with a stream here, or who had one a short while ago, the
chats of which they are a member at the hub's head. It is read from the read model once, and kept true by the events
themselves; so a reader who comes back costs no statement, and nothing is sent after a removal.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, final

from msgspec import Struct

from schemas.ids import ChatId, UserId, partition_of, token
from schemas.sync_cursor import SyncCursor, encode_sync_cursor
from services.live.frames import control
from services.live.frames.frame import Form, Frame
from services.live.hub.entry import Entry
from services.live.hub.ring import Ring
from services.live.hub.stream import Stream, User

SMALL_CHAT_MEMBERS: Final = 256
"""Other members' receipts are sent in chats of up to this many members, unless a reader asks for all."""
KNOWN_USERS: Final = 20_000
"""Users without a stream that are remembered, those who left last."""
REMEMBERED_SIZES: Final = 100_000
UNCOUNTED: Final = 2**31
"""The size of a chat of which is known only that it is large. It counts as large until a member's chats are read again.
"""
PIECE_BYTES: Final = 32 * 1024
"""What a stream that is catching up is written at a time."""


@final
class ChatStanding(Struct, frozen=True, gc=False):
    """A chat in which a user is or was a member, in a snapshot of the read model."""

    chat_id: ChatId
    is_member: bool
    changed_index: int
    """Index of the last event that changed the chat or the user's membership."""
    last_position: int
    members: int
    """Number of members, counted up to SMALL_CHAT_MEMBERS + 1."""


@final
class UserStanding(Struct, frozen=True, gc=False):
    """A user's chats in a snapshot of the read model, and the index of each partition there."""

    chats: list[ChatStanding]
    heads: Mapping[int, int]


class CaughtUp(Enum):
    """What a step of catching up came to."""

    LIVE = auto()
    MORE = auto()
    """There is more to write, and the connection takes it."""
    LATER = auto()
    """The connection takes no more for now."""
    MISSED = auto()
    """Events that the stream has not taken are no longer in the ring: `skip` comes first."""
    CLOSED = auto()


class NotCovered(Exception):
    """The read model is so far behind that the ring does not go back to it."""


class NotReached(NotCovered):
    """The hub has not taken all that a snapshot shows: it can be used as soon as the hub has."""


class Hub:
    """:param partitions: number of partitions of the log, all of which are read."""

    def __init__(self, ring: Ring, *, partitions: int) -> None:
        self.ring = ring
        self.partitions = partitions
        self.log_id = ""
        """What names the log in cursors."""
        self.heads: dict[int, int] = {}
        """Partition → index of the last event taken."""
        self._users: dict[UserId, User] = {}
        self._without_stream: OrderedDict[UserId, None] = OrderedDict()
        self._followers: dict[ChatId, dict[Form, set[Stream]]] = {}
        self._sizes: OrderedDict[ChatId, int] = OrderedDict()
        self.moved: set[Stream] = set()
        """Streams that follow all chats and were sent something since their last cursor."""

    # Events

    def begin(self, partition: int, index: int) -> None:
        """Say that a partition is read from the event after `index` on."""
        self.ring.begin(partition, index)
        self.heads[partition] = index

    def take(self, entries: Iterable[Entry], now_s: float) -> None:
        """Take the next events of a partition. Each stream gets its frames of them in one write, because under load the
        write is most of the cost of a delivery."""
        pushed: list[Entry] = []
        size = 0
        for entry in entries:
            if entry.named or size > PIECE_BYTES:
                self._push(pushed)
                pushed, size = [], 0
            self.ring.add(entry, now_s)
            self.heads[entry.partition] = entry.index
            if entry.named:
                self._count(entry)
            for user_id, is_member in entry.named:
                user = self._users.get(user_id)
                if user is not None:
                    (self._join if is_member else self._leave)(user, entry)
            if entry.chat_id in self._followers:
                pushed.append(entry)
                size += entry.size_bytes
        self._push(pushed)

    def pass_over(self, partition: int, index: int) -> None:
        """Take the next outcome of a partition that is no event."""
        self.heads[partition] = index

    def _push(self, entries: Sequence[Entry]) -> None:
        """Write events to the live streams that follow their chats. A stream whose connection is full by that stands at
        the heads: so nothing of the events before the heads may be left to be written."""
        pieces: dict[Stream, list[bytes]] = {}
        for entry in entries:
            frame = entry.frame()
            selective = entry.is_receipt and not self._is_small(entry.chat_id)
            for form, streams in self._followers.get(entry.chat_id, {}).items():
                data = frame.in_form(form)
                for stream in streams:
                    if stream.is_live and not (selective and not stream.takes_receipt(entry, is_small=False)):
                        pieces.setdefault(stream, []).append(data)
                if form is not Form.SSE_OF_A_CHAT:
                    self.moved |= streams
        for stream, piece in pieces.items():
            stream.sink.write(piece[0] if len(piece) == 1 else b"".join(piece))

    def signal(self, chat_id: ChatId, user_id: UserId, frame: Frame) -> None:
        """Write a frame that is not in the log to the live streams of a chat, except the user's own."""
        for form, streams in self._followers.get(chat_id, {}).items():
            data = frame.in_form(form)
            for stream in streams:
                if stream.is_live and stream.user.user_id != user_id:
                    stream.sink.write(data)

    def _join(self, user: User, entry: Entry) -> None:
        user.join(entry.chat_id)
        for stream in user.streams:
            stream.backlog.clear()  # what is pending depends on the chats of which the user is a member
            if stream.may_follow(entry.chat_id):
                self._follow(stream, entry.chat_id)

    def _leave(self, user: User, entry: Entry) -> None:
        user.leave(entry.chat_id)
        for stream in tuple(user.streams):
            stream.backlog.clear()
            if stream.may_follow(entry.chat_id):
                self._unfollow(stream, entry.chat_id)
                if stream.is_live:
                    self._say_removed(stream, control.removed(entry.chat_id, entry.position))

    def _say_removed(self, stream: Stream, frame: Frame) -> None:
        stream.send(frame)
        if stream.ends_with_chat:
            self.close(stream, "removed")
        elif stream.form is not Form.SSE_OF_A_CHAT:
            self.moved.add(stream)

    # Users

    def user(self, user_id: UserId) -> User | None:
        """Return a user whose memberships are known."""
        return self._users.get(user_id)

    def learn(self, user_id: UserId, standing: UserStanding) -> User:
        """Return the user, with the memberships of a snapshot and of the events after it.

        Raises NotCovered if the ring does not go back to the snapshot, or NotReached.
        """
        known = self._users.get(user_id)
        if known is not None:
            return known
        at = self._indexes(standing)
        self._refuse_uncovered(at)
        chats = {chat.chat_id for chat in standing.chats if chat.is_member}
        user = User(user_id, chats, {chat.chat_id for chat in standing.chats} - chats)
        for entry in self.ring.of_user(user_id, at):
            for named, is_member in entry.named:
                if named == user_id:
                    (user.join if is_member else user.leave)(entry.chat_id)
        for chat in standing.chats:
            self._learn_size(chat, at)
        self._users[user_id] = user
        self._remember(user)
        return user

    def _indexes(self, standing: UserStanding) -> dict[int, int]:
        """Return the index of every partition in a snapshot. It has no row of one of which nothing is projected."""
        return {p: standing.heads.get(p, 0) for p in range(self.partitions)}

    def _refuse_uncovered(self, at: Mapping[int, int]) -> None:
        """Raise an error if the chats of a snapshot, with the events after it, are not those of the hub's head."""
        behind = [p for p, index in at.items() if not self.ring.covers(p, index)]
        if behind:
            raise NotCovered(f"the read model is behind what is kept of partition {behind[0]}")
        ahead = [p for p, index in at.items() if index > self.heads[p]]
        if ahead:
            raise NotReached(f"the read model is ahead of what was read of partition {ahead[0]}")

    def _remember(self, user: User) -> None:
        self._without_stream[user.user_id] = None
        while len(self._without_stream) > KNOWN_USERS:
            forgotten, _ = self._without_stream.popitem(last=False)
            del self._users[forgotten]

    # Streams

    def missed_partitions(self, stream: Stream) -> list[int]:
        """Return the partitions of which events after `stream.at` are no longer in the ring."""
        return [p for p, index in stream.at.items() if not self.ring.covers(p, index)]

    def skip(self, stream: Stream, missed: Iterable[int], standing: UserStanding) -> None:
        """Go on from a snapshot where events are no longer in the ring, and say of which chats some are missing.

        Raises NotCovered if the ring does not go back to the snapshot, or NotReached.
        """
        at_before = dict(stream.at)
        at = self._indexes(standing)
        missed = set(missed)
        self._refuse_uncovered({p: at[p] for p in missed})
        for chat in standing.chats:
            partition = partition_of(chat.chat_id, self.partitions)
            if partition not in missed or not stream.may_follow(chat.chat_id):
                continue
            if chat.changed_index > at_before[partition]:
                if chat.is_member:
                    stream.send(control.gap(chat.chat_id, token(partition, at[partition])))
                else:
                    self._say_removed(stream, control.removed(chat.chat_id))
        for partition in missed:
            stream.at[partition] = at[partition]

    def open(self, stream: Stream) -> bool:
        """Add a stream. It is catching up, from its `at`.

        Returns False if its user was forgotten meanwhile: their memberships may have changed unseen.
        """
        user = stream.user
        if self._users.get(user.user_id) is not user:
            return False
        user.streams.add(stream)
        self._without_stream.pop(user.user_id, None)
        for chat_id in stream.chats():
            self._follow(stream, chat_id)
        for chat_id in stream.gone:
            stream.send(control.removed(chat_id))
        stream.gone = []
        return True

    def start_at(self, cursor: SyncCursor | None, stream: Stream) -> list[ChatId]:
        """Set a stream of all chats to a cursor, or to the head. Returns the chats of partitions that the cursor does
        not name: the user had none there, so these were joined since.

        Those that were joined and left since get a `removed`: the reader may have got events after the cursor. The
        cursor is of this log.
        """
        if cursor is None:
            stream.at = dict(self.heads)
            return []
        assert cursor.log_id == self.log_id, "indexes of another log"
        stream.at = {p: min(cursor.indexes.get(p, head), head) for p, head in self.heads.items()}
        stream.named = frozenset(cursor.indexes.keys() & self.heads.keys())
        stream.gone = self._unnamed(filter(stream.may_follow, stream.user.left), cursor)
        return self._unnamed(stream.chats(), cursor)

    def _unnamed(self, chats: Iterable[ChatId], cursor: SyncCursor) -> list[ChatId]:
        return [chat_id for chat_id in chats if partition_of(chat_id, self.partitions) not in cursor.indexes]

    def catch_up(self, stream: Stream) -> CaughtUp:
        """Write the next piece of what is pending."""
        if stream not in stream.user.streams:
            return CaughtUp.CLOSED
        if not stream.sink.takes_more():
            return CaughtUp.LATER
        while True:
            if not stream.backlog:
                if self.missed_partitions(stream):
                    return CaughtUp.MISSED
                if not stream.find_backlog(self.ring):
                    break
            ended = self._write_piece(stream)
            if ended:
                self.close(stream, "removed")
                return CaughtUp.CLOSED
            if not stream.sink.takes_more():
                return CaughtUp.LATER
            if stream.backlog:
                return CaughtUp.MORE
        if stream.ends_with_chat and not stream.chats():  # the user left before `at`
            for chat_id in stream.only or ():
                self._say_removed(stream, control.removed(chat_id))
            return CaughtUp.CLOSED
        stream.at, stream.away, stream.is_live = {}, None, True
        stream.backlog = deque()
        if stream.form is not Form.SSE_OF_A_CHAT:
            self.moved.add(stream)
        return CaughtUp.LIVE

    def _write_piece(self, stream: Stream) -> bool:
        """Write up to PIECE_BYTES of a backlog at once. Returns whether the stream ends with it."""
        piece: list[bytes] = []
        size = 0
        ended = False
        while stream.backlog and size < PIECE_BYTES and not ended:
            entry = stream.backlog.popleft()
            is_small = not entry.is_receipt or self._is_small(entry.chat_id)
            frame = stream.take(entry, is_small=is_small)
            if frame is not None:
                data = frame.in_form(stream.form)
                piece.append(data)
                size += len(data)
                ended = frame.kind == "removed" and stream.ends_with_chat
        if piece:
            stream.sink.write(b"".join(piece))
        return ended

    def pause(self, stream: Stream) -> None:
        """The connection takes no more for now: the stream stands at the head, and catches up later."""
        if stream.is_live:
            stream.is_live = False
            stream.at = self._heads_of(stream)

    def _heads_of(self, stream: Stream) -> dict[int, int]:
        """Return the heads of the partitions of which the stream may follow chats: the others cannot be missed."""
        if stream.only is None:
            return dict(self.heads)
        return {p: self.heads[p] for p in {partition_of(chat_id, self.partitions) for chat_id in stream.only}}

    def say_cursors(self) -> None:
        """Write their cursor to the live streams of all chats that were sent something since their last one."""
        moved, self.moved = self.moved, set()
        cursors: dict[frozenset[int], str] = {}
        for stream in moved:
            if stream.is_live:
                named = stream.user.partitions(self.partitions)
                cursor = cursors.get(named)
                if cursor is None:
                    cursor = cursors[named] = self._cursor(named, self.heads)
                stream.sink.say_cursor(cursor)

    def cursor_of(self, stream: Stream) -> str:
        """Return the cursor of a stream of all chats that is not open yet, at its `at`.

        It names what the client's own cursor names: the chats of other partitions were joined since, and the client has
        yet to receive their gaps.
        """
        named = stream.user.partitions(self.partitions) if stream.named is None else stream.named
        return self._cursor(named, stream.at)

    def _cursor(self, named: Iterable[int], at: Mapping[int, int]) -> str:
        return encode_sync_cursor(SyncCursor(self.log_id, {p: at[p] for p in named}))

    def close(self, stream: Stream, reason: str) -> None:
        """Remove a stream, and close its connection."""
        self.forget(stream)
        stream.sink.close(reason)

    def forget(self, stream: Stream) -> None:
        """Remove a stream whose connection is gone."""
        stream.is_live = False
        user = stream.user
        if stream not in user.streams:
            return
        user.streams.discard(stream)
        self.moved.discard(stream)
        for chat_id in stream.chats():
            self._unfollow(stream, chat_id)
        if not user.streams:
            self._remember(user)

    def _follow(self, stream: Stream, chat_id: ChatId) -> None:
        self._followers.setdefault(chat_id, defaultdict(set))[stream.form].add(stream)

    def _unfollow(self, stream: Stream, chat_id: ChatId) -> None:
        followers = self._followers.get(chat_id)
        if followers is None:
            return
        followers[stream.form].discard(stream)
        if not any(followers.values()):
            del self._followers[chat_id]

    def _is_small(self, chat_id: ChatId) -> bool:
        """Return whether all receipts of a chat are sent. So they are if its size is not known."""
        return self._sizes.get(chat_id, 0) <= SMALL_CHAT_MEMBERS

    def _learn_size(self, chat: ChatStanding, at: Mapping[int, int]) -> None:
        size = chat.members
        if size > SMALL_CHAT_MEMBERS:
            size = UNCOUNTED
        for entry in self.ring.of_chat(chat.chat_id, at):
            size += entry.change_of_size
        self._set_size(chat.chat_id, size)

    def _count(self, entry: Entry) -> None:
        size = 0 if entry.position == 1 else self._sizes.get(entry.chat_id)
        if size is not None:
            self._set_size(entry.chat_id, size + entry.change_of_size)

    def _set_size(self, chat_id: ChatId, size: int) -> None:
        self._sizes[chat_id] = size
        self._sizes.move_to_end(chat_id)
        while len(self._sizes) > REMEMBERED_SIZES:
            self._sizes.popitem(last=False)
