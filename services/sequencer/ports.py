"""The ports of the writer. `kafka` and `store` implement them for real; tests run the writer on simulated ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from schemas.events import Outcome
from schemas.ids import ChatId, CommandKey
from schemas.log import EMPTY, Head, Stamp
from schemas.wire.encoding import Record
from schemas.wire.replies import Reply
from services.sequencer.rules.state import LoadedView, MemberKey, StateChanges


class LogReader(Protocol):
    """Reads one partition of a topic from an offset on (services/runtime/kafka/reader.py)."""

    @property
    def position(self) -> int: ...

    async def seek(self, offset: int) -> None: ...

    async def read(self, *, max_records: int, timeout_s: float) -> list[Record]: ...

    async def bounds(self) -> tuple[int, int]: ...

    async def close(self) -> None: ...


class OutcomeBatch(Protocol):
    """The records of one append. Each is encoded when its outcome is added, so the outcome itself can be freed."""

    def add(self, outcome: Outcome, stamp: Stamp, source: bytes) -> None:
        """`source` is `encoding.event_source` of the partition."""
        ...

    @property
    def writer(self) -> Any:
        """The compiled writer of its records; None without compiled code."""
        ...

    def __len__(self) -> int: ...


class LogAppender(Protocol):
    """A producer for one partition of the event log (services/runtime/kafka/appender.py)."""

    def new_batch(self) -> OutcomeBatch: ...

    async def append(self, batch: OutcomeBatch, timeout_s: float) -> int:
        """Append a batch that `new_batch` returned; return its base offset."""
        ...

    async def discard(self) -> bool: ...

    async def stop(self) -> None: ...


class Logs(Protocol):
    """The two logs of one partition. Everything raises services.runtime.kafka.errors.KafkaUnavailable."""

    async def events_topic_id(self) -> str: ...

    async def read_events(self, offset: int, *, patient: bool = False) -> LogReader:
        """Return a reader from an offset on; a patient one lets records gather before it returns them."""
        ...

    async def append_events(self) -> LogAppender: ...

    async def read_commands(self, offset: int) -> LogReader: ...


class ReplyPublisher(Protocol):
    """Sends replies to waiting ingest processes. It may lose them, and never blocks or raises: the log is the truth."""

    def publish(self, replies: Sequence[tuple[int, Reply]]) -> None: ...


class LogPosition(Struct, frozen=True, kw_only=True):
    """The place in the event log that a state has reached, stored atomically with the state."""

    next_offset: int = 0
    head: Head = EMPTY
    last_record: bytes = b""
    """Digest of the record before `next_offset`: a different record there means a different log."""


class StateStore(Protocol):
    """The folded state of one partition, read in bulk and moved forward atomically."""

    @property
    def position(self) -> LogPosition: ...

    def load(self, chats: Sequence[ChatId], members: Sequence[MemberKey], dedup: Sequence[CommandKey]) -> LoadedView:
        """Return a view of the current state with these keys loaded at once; others are read when needed. Keys may
        repeat."""
        ...

    def apply(self, changes: StateChanges, position: LogPosition) -> None:
        """Apply changes and position atomically: after a crash the position is never ahead of the state. It may be
        behind: the store collects changes and writes them in bulk, on `write_out`, and when closed."""
        ...

    def write_out(self) -> None:
        """Write the collected changes."""
        ...

    def wipe(self) -> None:
        """Reset to the empty state before offset 0."""
        ...

    def replace(self, folder: Path, position: LogPosition) -> bool:
        """Replace this state by that in `folder`. Returns False, and keeps this one, if the other is not at `position`
        of this topic."""
        ...

    def close(self) -> None: ...


class FetchedSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot whose files have all been fetched."""

    name: str
    folder: Path
    position: LogPosition


class SnapshotSource(Protocol):
    """Snapshots of one partition, taken by any process."""

    @property
    def ahead(self) -> int:
        """Minimum number of records by which a snapshot must be ahead of a state."""
        ...

    async def fetch(
        self, topic_id: str, position: LogPosition, end: int, in_log: Callable[[LogPosition], Awaitable[bool]]
    ) -> FetchedSnapshot | None:
        """Fetch the furthest snapshot of this log between `position` and `end` and verify its files. Returns None if no
        snapshot is usable; never raises. `in_log` returns whether the log has the record that a position ended with;
        it raises KafkaUnavailable."""
        ...

    def installed(self, fetched: FetchedSnapshot) -> None: ...

    def reject(self, fetched: FetchedSnapshot) -> None:
        """Reject a fetched snapshot that is not a state."""
        ...
