"""Follows `chat.events`: each record with its place, and with its verdict if that can be determined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from schemas.cursor import Decided, LogCursor, LogEvent, Opened, Stop, Void
from schemas.errors import LogCorrupt
from schemas.events import Outcome
from schemas.log import Stamp, read_stamp
from schemas.wire.encoding import Record, Undecodable, read_outcome
from services.ops.verify.reading import BATCH_RECORDS, topics_of
from services.runtime.kafka.reader import PartitionReader
from services.runtime.settings import KafkaSettings

WAITING_RECORDS: Final = 1_000
FETCH_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tailed:
    """A record of the log."""

    partition: int
    offset: int
    stamp: Stamp | None
    outcome: Outcome | None
    """The outcome; None if it cannot be read, and then `trouble` says why."""
    verdict: str | None
    """`opens`, `valid` or `void`; `corrupt` or `unknown_type` for a record at which every reader stops.

    None after such a record, and if reading started in the middle, where only an unreadable record has a verdict."""
    trouble: str | None = None


class PartitionTail:
    """The tail of one partition. Verdicts need a start at offset 0, and end at the first record that stops a reader."""

    def __init__(self, partition: int, *, from_beginning: bool) -> None:
        self._partition = partition
        self._cursor = LogCursor() if from_beginning else None

    def take(self, record: Record) -> Tailed:
        stamp, outcome, trouble = _content(record)
        verdict = "corrupt" if trouble is not None else None
        if self._cursor is not None:
            event = self._cursor.read_one(record)
            if isinstance(event, Stop):
                self._cursor, trouble = None, str(event.error)
                verdict = "corrupt" if isinstance(event.error, LogCorrupt) else "unknown_type"
            else:
                verdict = _VERDICTS[type(event)]
        return Tailed(
            partition=self._partition, offset=record.offset, stamp=stamp, outcome=outcome, verdict=verdict,
            trouble=trouble,
        )  # fmt: skip


_VERDICTS: Final[dict[type[LogEvent], str]] = {Opened: "opens", Decided: "valid", Void: "void"}


def _content(record: Record) -> tuple[Stamp | None, Outcome | None, str | None]:
    """Return a record's stamp and outcome, whether it counts or not, and what is wrong with it."""
    if isinstance(record, Undecodable):
        return None, None, f"the record cannot be decoded: {record.error}"
    stamp = None
    try:
        stamp = read_stamp(record.headers)
        return stamp, read_outcome(record), None
    except LogCorrupt as error:
        return stamp, None, str(error)


async def tail_log(
    kafka: KafkaSettings, *, partitions: Iterable[int], from_beginning: bool, follow: bool
) -> AsyncIterator[Tailed]:
    """Yield records of these partitions as they arrive, each partition in order; without `follow`, to the current end.

    Raises KafkaError.
    """
    names = await topics_of(kafka)
    found: asyncio.Queue[Tailed] = asyncio.Queue(WAITING_RECORDS)  # bounded: a slow terminal slows down reading
    tasks = {
        asyncio.create_task(_one(kafka, names.events, partition, found, from_beginning=from_beginning, follow=follow))
        for partition in partitions
    }
    try:
        while tasks or not found.empty():
            getting = asyncio.create_task(found.get())
            ended, _ = await asyncio.wait({getting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if getting in ended:
                yield getting.result()
            else:
                getting.cancel()
            for task in ended & tasks:
                tasks.discard(task)
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(
    kafka: KafkaSettings,
    topic: str,
    partition: int,
    found: asyncio.Queue[Tailed],
    *,
    from_beginning: bool,
    follow: bool,
) -> None:
    reader = PartitionReader(
        kafka=kafka.connection, topic=topic, partition=partition, client_id=f"{kafka.client_id}-tail"
    )
    await reader.start(0)
    try:
        start, end = await reader.bounds()
        await reader.seek(start if from_beginning else end)
        tail = PartitionTail(partition, from_beginning=from_beginning and start == 0)
        while follow or reader.position < end:
            for record in await reader.read(max_records=BATCH_RECORDS, timeout_s=FETCH_WAIT_S):
                if follow or record.offset < end:
                    await found.put(tail.take(record))
    finally:
        await reader.close()
