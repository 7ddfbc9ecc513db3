"""The fold: computes the state from the event log, from a stored position or from 0, by the same `evolve` as live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from schemas.cursor import Decided, LogCursor, LogEvent, Opened, Stop
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import TermOpened
from schemas.wire.encoding import Record
from schemas.wire.records import record_digest
from services.runtime.kafka.errors import KafkaUnavailable
from services.sequencer.errors import PartitionStopped
from services.sequencer.ports import LogPosition, LogReader, StateStore
from services.sequencer.rules.evolve import evolve
from services.sequencer.rules.state import Overlay

RECORDS_PER_BATCH: Final = 500
"""Records folded at once: few enough for the processor's caches and for other tasks of the loop."""
READ_TIMEOUT_S: Final = 1.0
NO_PROGRESS_S: Final = 15.0


@dataclass(slots=True)
class ReplayStats:
    """What a fold read."""

    records: int = 0
    voids: int = 0
    watched: dict[int, LogEvent] = field(default_factory=dict)
    """Events by offset, from `watch_from` on."""


async def check_stored_position(reader: LogReader, store: StateStore) -> None:
    """Wipe a state that is not of this log: the record before its position is not the one it ended with.

    Raises PartitionStopped if the log no longer begins at offset 0.
    """
    first, end = await reader.bounds()
    if first > 0:
        raise PartitionStopped(
            f"the event log begins at offset {first}, not 0: its history was deleted. Restore the topic from a backup"
        )
    position = store.position
    if position.next_offset == 0:
        return
    if position.next_offset > end or not await is_in_log(reader, position):
        # The log was truncated or is another one. The state is only a copy, so it is dropped.
        store.wipe()


def _now_s() -> float:
    """Return the time of the event loop's clock, so that a simulation has a single clock."""
    return asyncio.get_running_loop().time()


async def is_in_log(reader: LogReader, position: LogPosition) -> bool:
    """Return whether the log has the record that a position ended with. Raises KafkaUnavailable."""
    await reader.seek(position.next_offset - 1)
    deadline = _now_s() + NO_PROGRESS_S
    while not (records := await reader.read(max_records=1, timeout_s=READ_TIMEOUT_S)):
        if _now_s() > deadline:
            raise KafkaUnavailable("the event log was not read in time")
    record = records[0]
    return record.offset == position.next_offset - 1 and record_digest(record) == position.last_record


async def fold(
    reader: LogReader, store: StateStore, *, end: int, partitions: int, watch_from: int | None = None
) -> ReplayStats:
    """Fold from the store's position to at least `end`, an offset known to be in the log.

    Each batch is applied with its position. Raises LogCorrupt and UnknownType with the offset, PartitionStopped if an
    opening has another number of partitions, KafkaUnavailable and OffsetMissing from the reader.
    """
    stats = ReplayStats()
    if reader.position != store.position.next_offset:
        await reader.seek(store.position.next_offset)
    deadline = _now_s() + NO_PROGRESS_S
    while store.position.next_offset < end:
        records = await reader.read(max_records=RECORDS_PER_BATCH, timeout_s=READ_TIMEOUT_S)
        if reader.position > store.position.next_offset:
            _fold_batch(records, reader.position, store, partitions, watch_from, stats)
            deadline = _now_s() + NO_PROGRESS_S
        elif _now_s() > deadline:
            raise KafkaUnavailable(f"nothing to read at {reader.position} though the log goes to {end}")
    return stats


def fold_read(records: list[Record], next_offset: int, store: StateStore, partitions: int) -> ReplayStats:
    """Fold the records of one read; `next_offset` is the reader's position after it. Standbys follow the log with it.

    Raises what `fold` raises for records."""
    stats = ReplayStats()
    if next_offset > store.position.next_offset:
        _fold_batch(records, next_offset, store, partitions, None, stats)
    return stats


def _fold_batch(
    records: list[Record],
    next_offset: int,
    store: StateStore,
    partitions: int,
    watch_from: int | None,
    stats: ReplayStats,
) -> None:
    cursor = LogCursor(store.position.head)
    view = Overlay(store.load([], [], []))
    for event in cursor.read(records):
        try:
            match event:
                case Decided():
                    evolve(view, event.outcome, view.changes)
                case Opened():
                    _check_partitions(event.opening, partitions)
                case Stop():
                    raise event.error
        except (LogCorrupt, UnknownType) as error:
            raise type(error)(f"offset {event.offset}: {error}") from error
        if watch_from is not None and event.offset >= watch_from:
            stats.watched[event.offset] = event
    stats.records += len(records)
    stats.voids += cursor.voids
    last_record = record_digest(records[-1]) if records else store.position.last_record
    store.apply(view.changes, LogPosition(next_offset=next_offset, head=cursor.head, last_record=last_record))


def _check_partitions(opened: TermOpened, partitions: int) -> None:
    if opened.partitions != partitions:
        raise PartitionStopped(
            f"this log was written for {opened.partitions} partitions and GAPLESS_KAFKA_PARTITIONS is {partitions}:"
            f" chats would live in two partitions. Set it to {opened.partitions} in every process, or name the right"
            " cluster"
        )
