"""The world as the writer sees it. `kafka_ports` and `store` are the real one; tests run the same writer in another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from schemas.events import Outcome
from schemas.ids import ChatId, CommandKey
from schemas.log import EMPTY, Head, Stamp
from schemas.wire.encoding import Record
from schemas.wire.replies import Reply
from services.sequencer.rules.state import LoadedView, MemberKey, StateChanges

if TYPE_CHECKING:
    from schemas.wire._records import OutcomeWriter


class LogReader(Protocol):
    """One partition of a topic, from an offset on (services/runtime/kafka/reader.py)."""

    @property
    def position(self) -> int: ...

    async def seek(self, offset: int) -> None: ...

    async def read(self, *, max_records: int, timeout_s: float) -> list[Record]: ...

    async def bounds(self) -> tuple[int, int]: ...

    async def close(self) -> None: ...


class OutcomeBatch(Protocol):
    """The records of one append, each made when its outcome is added: what it was made of need not be kept."""

    def add(self, outcome: Outcome, stamp: Stamp, source: bytes) -> None:
        """`source` is `encoding.event_source` of the partition."""
        ...

    @property
    def writer(self) -> OutcomeWriter | None:
        """What writes its records, where it is compiled."""
        ...

    def __len__(self) -> int: ...


class LogAppender(Protocol):
    """A producer for one partition of the event log (services/runtime/kafka/appender.py)."""

    def new_batch(self) -> OutcomeBatch: ...

    async def append(self, batch: OutcomeBatch, timeout_s: float) -> int:
        """`batch` is one that `new_batch` gave."""
        ...

    async def discard(self) -> bool: ...

    async def stop(self) -> None: ...


class Logs(Protocol):
    """The two logs of one partition. Everything raises services.runtime.kafka.errors.KafkaUnavailable."""

    async def events_topic_id(self) -> str: ...

    async def read_events(self, offset: int) -> LogReader: ...

    async def append_events(self) -> LogAppender: ...

    async def read_commands(self, offset: int) -> LogReader: ...


class ReplyPublisher(Protocol):
    """Tells waiting ingests. It may lose replies and never blocks or raises: the log is the truth."""

    def publish(self, replies: Sequence[tuple[int, Reply]]) -> None: ...


class LogPosition(Struct, frozen=True, kw_only=True):
    """How far a state has come in the event log: stored in the same write batch as what it made of it."""

    next_offset: int = 0
    head: Head = EMPTY
    last_record: bytes = b""
    """A digest of the record before `next_offset`: another record there means another log."""


class StateStore(Protocol):
    """The folded state of one partition: a view that can be asked in bulk, and moved forward whole."""

    @property
    def position(self) -> LogPosition: ...

    def load(self, chats: Sequence[ChatId], members: Sequence[MemberKey], dedup: Sequence[CommandKey]) -> LoadedView:
        """A view of the state as it is now, with these keys read in one go; others are read when asked for. A
        key may be there more than once."""
        ...

    def apply(self, changes: StateChanges, position: LogPosition) -> None:
        """All or nothing: after a crash the position is never ahead of the rest. It may be behind: the store gathers
        what changes, and writes it when it is much, when it is told to, and when it is closed."""
        ...

    def write_out(self) -> None:
        """Writes what was gathered, where there is time for it."""
        ...

    def wipe(self) -> None:
        """Back to the empty state, before offset 0."""
        ...

    def replace(self, folder: Path, position: LogPosition) -> bool:
        """Puts a state from elsewhere in the place of this one; False where it is not at that position of this topic,
        and then this one stays."""
        ...

    def close(self) -> None: ...


class FetchedSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot whose files are all here, and what they should be."""

    name: str
    folder: Path
    position: LogPosition


class SnapshotSource(Protocol):
    """Snapshots of one partition that were put somewhere, by whatever process."""

    @property
    def ahead(self) -> int:
        """Records that a snapshot has to be further than a state to be worth a look."""
        ...

    async def fetch(
        self, topic_id: str, position: LogPosition, end: int, in_log: Callable[[LogPosition], Awaitable[bool]]
    ) -> FetchedSnapshot | None:
        """The furthest snapshot of this log between `position` and `end`, each file verified. None where there is none
        of use; never raises. `in_log` tells whether the log has the record that a position ended with; it raises
        KafkaUnavailable."""
        ...

    def installed(self, fetched: FetchedSnapshot) -> None: ...

    def reject(self, fetched: FetchedSnapshot) -> None:
        """It made no state."""
        ...
