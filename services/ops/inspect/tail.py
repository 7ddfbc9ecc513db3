"""Follows `chat.events`: each record with its place, and what the validity rule says of it where that can be known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from schemas.errors import LogCorrupt
from schemas.events import EventType, Outcome, decode_term_opened
from schemas.log import EMPTY, Head, Stamp, Verdict, after, judge, read_stamp
from schemas.wire.encoding import Record, Undecodable, read_outcome
from services.ops.verify.reading import BATCH_RECORDS, topics_of
from services.runtime.kafka.reader import PartitionReader
from services.runtime.settings import KafkaSettings

WAITING_RECORDS: Final = 1_000
FETCH_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tailed:
    """One record of the log."""

    partition: int
    offset: int
    stamp: Stamp | None
    outcome: Outcome | None
    """None where it cannot be read; `trouble` says why."""
    verdict: str | None
    """`opens`, `valid`, `void` or `corrupt`; None when reading began in the middle, where nothing can be judged."""
    trouble: str | None = None


class _Judge:
    """Applies the rule from offset 0 on; from anywhere else it has no head to judge by, and says nothing."""

    def __init__(self, partition: int, *, from_beginning: bool) -> None:
        self._partition = partition
        self._head: Head | None = EMPTY if from_beginning else None

    def look(self, record: Record) -> Tailed:
        stamp: Stamp | None = None
        outcome: Outcome | None = None
        verdict: str | None = None
        trouble: str | None = None
        try:
            if isinstance(record, Undecodable):
                raise LogCorrupt(f"the record cannot be decoded: {record.error}")
            stamp = read_stamp(record.headers)
            outcome = read_outcome(record)
            if self._head is not None:
                judged = judge(self._head, stamp)
                verdict = judged.name.lower()
                if judged is not Verdict.VOID:
                    opened = outcome.type == EventType.TERM_OPENED
                    commands_from = decode_term_opened(outcome.body).commands_from if opened else None
                    self._head = after(self._head, stamp, outcome.at_ms, commands_from)
        except LogCorrupt as error:
            verdict, trouble, self._head = "corrupt", str(error), None
        return Tailed(
            partition=self._partition, offset=record.offset, stamp=stamp, outcome=outcome, verdict=verdict,
            trouble=trouble,
        )  # fmt: skip


async def tail_log(
    kafka: KafkaSettings, *, partitions: Iterable[int], from_beginning: bool, follow: bool
) -> AsyncIterator[Tailed]:
    """Records of these partitions as they come, each partition in order; without `follow` up to the present end.

    Raises KafkaError.
    """
    names = await topics_of(kafka)
    found: asyncio.Queue[Tailed] = asyncio.Queue(WAITING_RECORDS)  # bounded: a slow terminal slows the reading
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
        judge_of = _Judge(partition, from_beginning=from_beginning and start == 0)
        while follow or reader.position < end:
            for record in await reader.read(max_records=BATCH_RECORDS, timeout_s=FETCH_WAIT_S):
                if follow or record.offset < end:
                    await found.put(judge_of.look(record))
    finally:
        await reader.close()
