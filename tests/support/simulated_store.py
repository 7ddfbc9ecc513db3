"""What a process leaves on its disk, and a store on it that behaves like RocksStore, in memory.

A disk outlives its processes. After a crash it holds what was written, or what an older copy of the folder held, or
nothing, or another topic's state: anything that a machine may find at its start. tests/simulation/test_stores.py shows
that a store here behaves like one on RocksDB; tests/support/simulated_rocks.py is the disk with real RocksDB on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final, Protocol

from schemas.ids import ChatId, CommandKey, UserId
from services.sequencer.errors import StateBroken
from services.sequencer.ports import LogPosition, StateStore
from services.sequencer.rules.facts import FACTS
from services.sequencer.rules.state import (
    Chat,
    DedupBytes,
    DedupEntry,
    FactKey,
    LoadedView,
    Member,
    MemberKey,
    MessageKey,
    Prefetched,
    StateChanges,
    unpack_dedup,
)

WRITTEN_AT_ONCE: Final = 0.4
"""Chance that a write to memory also goes to the disk."""


class Damage(StrEnum):
    """What happened to a folder while no process had it."""

    NONE = "as it was left"
    OLDER = "an older copy"
    WIPED = "empty"
    FOREIGN = "of another topic"
    SNAPSHOT = "a snapshot of another machine's"
    TORN = "torn in the middle of a write"
    """In memory a write is atomic, so there it is the same as NONE."""


class Disk(Protocol):
    """One folder of one machine, over the lives of its processes."""

    def open(self, topic_id: str) -> StateStore:
        """Return the store of a new process, after the previous process has ended.

        Raises StateBroken if the folder cannot be opened.
        """
        ...

    def keep_copy(self) -> None:
        """Keep a backup, which may be restored later."""
        ...

    def take_snapshot(self) -> None:
        """Take a snapshot that all machines can install."""
        ...

    def damage(self, damage: Damage) -> None: ...

    def close(self) -> None:
        """Close the disk after its last use."""
        ...


@dataclass(slots=True)
class Image:
    """The content of a folder."""

    topic_id: str = ""
    position: LogPosition = field(default_factory=LogPosition)
    chats: dict[ChatId, Chat] = field(default_factory=dict)
    members: dict[MemberKey, Member] = field(default_factory=dict)
    dedup: dict[CommandKey, DedupBytes] = field(default_factory=dict)
    authors: dict[MessageKey, UserId] = field(default_factory=dict)
    facts: dict[FactKey, bytes] = field(default_factory=dict)

    def copy(self) -> Image:
        return Image(
            self.topic_id, self.position, dict(self.chats), dict(self.members), dict(self.dedup),
            dict(self.authors), dict(self.facts),
        )  # fmt: skip

    def move(self, changes: StateChanges, position: LogPosition) -> None:
        self.chats.update(changes.chats)
        self.members.update(changes.members)
        self.dedup.update(changes.dedup)
        for chat_id, senders in changes.senders.items():
            first = changes.chats[chat_id].last_seq - len(senders) + 1
            self.authors.update({(chat_id, seq): sender for seq, sender in enumerate(senders, first)})
        self.facts.update(changes.facts)
        self.position = position

    def differs_from(self, store: StateStore) -> str | None:
        """Return the first value that differs in a store, or None."""
        view = store.load([], [], [])
        for chat_id, chat in self.chats.items():
            if view.chat(chat_id) != chat:
                return f"chat {chat_id} is {view.chat(chat_id)}, not {chat}"
        for member_key, member in self.members.items():
            if view.member(member_key) != member:
                return f"member {member_key} is {view.member(member_key)}, not {member}"
        for command_key, raw in self.dedup.items():
            if view.dedup(command_key) != unpack_dedup(raw):
                return f"command {command_key.hex()} is {view.dedup(command_key)}, not {unpack_dedup(raw)}"
        for (chat_id, seq), author in self.authors.items():
            if view.author(chat_id, seq) != author:
                return f"message {seq} of {chat_id} is {view.author(chat_id, seq)}'s, not {author}'s"
        for chat_id, seq in (*self.authors, *((chat_id, 0) for chat_id in self.chats)):
            for fact in FACTS:
                key = fact.key((chat_id, seq))
                if view.fact(key) != self.facts.get(key):
                    return f"message {seq} of {chat_id}: {fact.name} is {view.fact(key)!r}"
        return None


class MemoryDisk:
    """A disk whose folder is an image in memory."""

    def __init__(self, random: Random, shelf: dict[Path, Image] | None = None) -> None:
        """`shelf`: the snapshots of all machines, by the folder that each is fetched into."""
        self._random = random
        self._older: list[Image] = []
        self.writes = Random(1)
        self.image = Image()
        """What has been written; a crash loses what a store has gathered since."""
        self.shelf = shelf if shelf is not None else {}

    def open(self, topic_id: str) -> SimulatedStore:
        if self.image.topic_id != topic_id:
            self.image = Image(topic_id)
        return SimulatedStore(self)

    def keep_copy(self) -> None:
        self._older.append(self.image.copy())

    def take_snapshot(self) -> None:
        """Store a snapshot, which is tried before earlier ones, whatever its position."""
        self.shelf[Path(f"snapshot-{len(self.shelf)}")] = self.image.copy()

    def damage(self, damage: Damage) -> None:
        if damage is Damage.OLDER and self._older:
            self.image = self._random.choice(self._older).copy()
        elif damage is Damage.WIPED:
            self.image = Image()
        elif damage is Damage.SNAPSHOT and self.shelf:
            self.image = self._random.choice(list(self.shelf.values())).copy()
        elif damage is Damage.FOREIGN:
            self.image = self.image.copy()
            self.image.topic_id = "another"

    def close(self) -> None:
        pass


class SimulatedStore:
    """Simulates RocksStore: bulk reads, atomic updates, written to disk now and then."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self.image = disk.image.copy()
        self._gathered: list[tuple[StateChanges, LogPosition]] = []
        self._open = True

    @property
    def position(self) -> LogPosition:
        return self.image.position

    def load(self, chats: Sequence[ChatId], members: Sequence[MemberKey], dedup: Sequence[CommandKey]) -> LoadedView:
        self._check_open()
        loaded = _Loaded(self.image)
        for chat_id in chats:
            loaded.chat(chat_id)
        for member in members:
            loaded.member(member)
        for command in dedup:
            loaded.dedup(command)
        return loaded

    def apply(self, changes: StateChanges, position: LogPosition) -> None:
        self._check_open()
        self.image.move(changes, position)
        self._gathered.append((changes, position))
        if self._disk.writes.random() < WRITTEN_AT_ONCE:
            self.write_out()

    def write_out(self) -> None:
        self._check_open()
        for changes, position in self._gathered:
            self._disk.image.move(changes, position)
        self._gathered.clear()

    def wipe(self) -> None:
        self._put(Image(self.image.topic_id))

    def replace(self, folder: Path, position: LogPosition) -> bool:
        image = self._disk.shelf.get(folder)
        if image is None or (image.topic_id, image.position) != (self.image.topic_id, position):
            return False
        self._put(image)
        return True

    def close(self) -> None:
        if self._open:
            self.write_out()
        self._open = False

    def _put(self, image: Image) -> None:
        self.image, self._disk.image = image.copy(), image.copy()
        self._gathered.clear()
        self._open = True

    def _check_open(self) -> None:
        if not self._open:
            raise StateBroken("the folder is closed")


class _Loaded:
    """Values as they were when they were first read."""

    __slots__ = ("_chats", "_dedup", "_image", "_members", "prefetched")

    def __init__(self, image: Image) -> None:
        self._image = image
        self._chats: dict[ChatId, Chat | None] = {}
        self._members: dict[MemberKey, Member | None] = {}
        self._dedup: dict[CommandKey, DedupBytes | None] = {}
        self.prefetched = Prefetched(self._chats, self._members, self._dedup)

    def chat(self, chat_id: ChatId) -> Chat | None:
        if chat_id not in self._chats:
            self._chats[chat_id] = self._image.chats.get(chat_id)
        return self._chats[chat_id]

    def member(self, key: MemberKey) -> Member | None:
        if key not in self._members:
            self._members[key] = self._image.members.get(key)
        return self._members[key]

    def dedup(self, key: CommandKey) -> DedupEntry | None:
        if key not in self._dedup:
            self._dedup[key] = self._image.dedup.get(key)
        raw = self._dedup[key]
        return unpack_dedup(raw) if raw is not None else None

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        return self._image.authors.get((chat_id, seq))

    def fact(self, key: FactKey) -> bytes | None:
        return self._image.facts.get(key)


class WatchedStore:
    """Any store, with crash points before and after each write, failing calls, and an observer."""

    def __init__(
        self,
        inner: StateStore,
        *,
        seam: Callable[[], None],
        breaks: Callable[[], bool],
        moved: Callable[[LogPosition], None],
    ) -> None:
        """`seam` may not return; `breaks` returns whether a call fails; `moved` gets each new position."""
        self._inner = inner
        self._seam = seam
        self._breaks = breaks
        self._moved = moved

    @property
    def position(self) -> LogPosition:
        return self._inner.position

    def load(self, chats: Sequence[ChatId], members: Sequence[MemberKey], dedup: Sequence[CommandKey]) -> LoadedView:
        self._may_break()
        return self._inner.load(chats, members, dedup)

    def apply(self, changes: StateChanges, position: LogPosition) -> None:
        self._may_break()
        self._seam()
        self._inner.apply(changes, position)
        self._moved(position)
        self._seam()

    def write_out(self) -> None:
        self._may_break()
        self._seam()
        self._inner.write_out()
        self._seam()

    def wipe(self) -> None:
        self._inner.wipe()

    def replace(self, folder: Path, position: LogPosition) -> bool:
        self._may_break()
        self._seam()
        replaced = self._inner.replace(folder, position)
        if replaced:
            self._moved(position)
        self._seam()
        return replaced

    def close(self) -> None:
        self._inner.close()

    def _may_break(self) -> None:
        if self._breaks():
            raise StateBroken("by the simulation")
