"""The ring: the newest events of all partitions, in memory, chained by chat and by the users that they name. Pure.

Every event is kept, whether anybody follows its chat or not, so that a reader who comes back finds what it missed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Final, NamedTuple

from schemas.ids import ChatId, UserId
from services.live.hub.entry import Entry

REMEMBERED_CHATS: Final = 100_000


class LastEvent(NamedTuple):
    """The newest event of a chat. It is remembered after the event has left the ring."""

    partition: int
    last_index: int
    position: int
    content_position: int | None
    """Position of its last event that is no receipt; None if it is not known."""


class Ring:
    """:param max_bytes: how much is kept, roughly.
    :param max_age_s: how long it is kept.
    """

    def __init__(self, *, max_bytes: int, max_age_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._entries: deque[tuple[float, Entry]] = deque()
        self._chats: dict[ChatId, deque[Entry]] = {}
        self._users: dict[UserId, deque[Entry]] = {}
        self._last: OrderedDict[ChatId, LastEvent] = OrderedDict()
        self._serial = 0
        self.size_bytes = 0
        self.start: dict[int, int] = {}
        """Partition → index after which every event is here."""

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, partition: int, index: int) -> None:
        """Say that a partition is read from the event after `index` on."""
        self.start[partition] = index

    def covers(self, partition: int, index: int) -> bool:
        """Return whether every event of the partition after `index` is here."""
        start = self.start.get(partition)
        return start is not None and index >= start

    def add(self, entry: Entry, now_s: float) -> None:
        """Add the next event of its partition, and drop what is too old or too much."""
        last = self._last.get(entry.chat_id)
        entry.prev = None if last is None else last.content_position
        content = entry.prev if entry.is_receipt else entry.position
        self._last[entry.chat_id] = LastEvent(entry.partition, entry.index, entry.position, content)
        self._last.move_to_end(entry.chat_id)
        self._chats.setdefault(entry.chat_id, deque()).append(entry)
        for user_id, _ in entry.named:
            self._users.setdefault(user_id, deque()).append(entry)
        self._serial += 1
        entry.serial = self._serial
        self._entries.append((now_s, entry))
        self.size_bytes += entry.size_bytes
        while len(self._entries) > 1 and (
            self.size_bytes > self._max_bytes or self._entries[0][0] < now_s - self._max_age_s
        ):
            self._drop_oldest()
        while len(self._last) > REMEMBERED_CHATS:
            self._last.popitem(last=False)

    def _drop_oldest(self) -> None:
        _, entry = self._entries.popleft()
        self.size_bytes -= entry.size_bytes
        self.start[entry.partition] = entry.index
        _drop_first(self._chats, entry.chat_id)
        for user_id, _ in entry.named:
            _drop_first(self._users, user_id)

    def of_chat(self, chat_id: ChatId, at: Mapping[int, int]) -> Iterable[Entry]:
        """Return the events of a chat that are after the index of its partition in `at`, in order."""
        chain = self._chats.get(chat_id)
        if not chain:
            return ()
        index = at[chain[0].partition]
        if chain[0].index > index:
            return chain
        newest_first = takewhile(lambda entry: entry.index > index, reversed(chain))
        return reversed(tuple(newest_first))

    def of_user(self, user_id: UserId, at: Mapping[int, int]) -> list[Entry]:
        """Return the events after `at` that change the user's memberships. Partitions not in `at` are left out."""
        chain = self._users.get(user_id, ())
        return [entry for entry in chain if entry.index > at.get(entry.partition, entry.index)]

    def position_of(self, chat_id: ChatId) -> int | None:
        """Return the position of a chat's newest event; None if it is not known."""
        last = self._last.get(chat_id)
        return None if last is None else last.position

    def index_at(self, chat_id: ChatId, position: int) -> int | None:
        """Return an index of the chat's partition after which exactly the chat's events after `position` come.

        Returns None if some of those may no longer be here.
        """
        chain = self._chats.get(chat_id)
        if not chain:
            last = self._last.get(chat_id)
            if last is None or position < last.position:
                return None
            return max(last.last_index, self.start[last.partition])
        first = chain[0]
        if first.position > position + 1:
            return None
        if first.position == position + 1:
            return first.index - 1
        # Positions of a chat have no gaps, so an entry's place in the chain is known.
        return chain[min(position - first.position, len(chain) - 1)].index


def _drop_first(chains: dict[ChatId, deque[Entry]] | dict[UserId, deque[Entry]], key: str) -> None:
    chain = chains[key]  # type: ignore[index]
    chain.popleft()
    if not chain:
        del chains[key]  # type: ignore[arg-type]
