"""One partition of the log, folded into one projection step by step. Used by worker, rebuild and cutover alike.

A feed does not retry: whatever goes wrong is raised, and `open` starts again from the stored position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import psycopg

from schemas.encoding import Record
from schemas.errors import LogCorrupt, UnknownType
from services.projector import metrics
from services.projector.apply import apply_sql, load_position, look_up, schema_name, write_batch
from services.projector.errors import PartitionStopped
from services.projector.rows import changes_of, wanted
from services.projector.settings import topic_names
from services.projector.validity import Judged, Position, belongs_before, judge_records
from services.runtime.kafka.errors import OffsetMissing
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import topic_id
from services.runtime.postgres import PostgresPool
from services.runtime.settings import KafkaSettings

OUTCOMES_KEPT: Final = timedelta(days=7)


def outcomes_since_ms() -> int:
    """Outcomes before this are no longer kept."""
    return int((time.time() - OUTCOMES_KEPT.total_seconds()) * 1000)


class TopicId:
    """The id of `chat.events`, asked again when it is older than MAX_AGE_S: one question for all partitions that
    start together."""

    MAX_AGE_S: Final = 5.0

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._known: tuple[float, str] | None = None

    async def get(self) -> str:
        """Raises KafkaError."""
        if self._known is None or time.monotonic() - self._known[0] > self.MAX_AGE_S:
            found = await topic_id(self._kafka.bootstrap_servers, topic_names(self._kafka).events)
            self._known = (time.monotonic(), found)
        return self._known[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step wrote."""

    records: int
    events: int
    voids: int
    rows: int
    seconds: float
    """From records in hand to their commit."""


class PartitionFeed:
    """Not for use by two tasks at once."""

    def __init__(
        self,
        *,
        version: int,
        partition: int,
        pool: PostgresPool,
        kafka: KafkaSettings,
        topic: TopicId,
        durable: bool = True,
    ) -> None:
        """`pool` gives connections in autocommit mode. Not `durable`: see `apply.write_batch`."""
        self.version = version
        self.partition = partition
        self._pool = pool
        self._kafka = kafka
        self._topic = topic
        self._durable = durable
        self._sql = apply_sql(version)
        self._reader: PartitionReader | None = None
        self._topic_id = ""
        self._unchecked = False
        """The next record to come is the one before the position, and is to be checked against it."""
        self.position = Position()
        self.end_offset = 0
        """Of the log, when it was last asked."""

    @property
    def name(self) -> str:
        return f"{schema_name(self.version)}/{self.partition}"

    async def open(self) -> Position:
        """Stands at the stored position, with topic id and head checked.

        Raises PartitionStopped where the position is not one of this log; KafkaError, psycopg.Error, TimeoutError.
        """
        await self.close()
        self._topic_id = await self._topic.get()
        async with self._pool.connection() as connection:
            stored_topic_id, self.position = await load_position(
                connection, self._sql, partition=self.partition, topic_id=self._topic_id
            )
        self._refuse_another_log(stored_topic_id, self._topic_id)
        # The record before the position is read once more and checked: a log that was cut and grew again
        # would otherwise go unnoticed.
        self._unchecked = self.position.next_offset > 0
        reader = PartitionReader(
            bootstrap_servers=self._kafka.bootstrap_servers,
            topic=topic_names(self._kafka).events,
            partition=self.partition,
            client_id=f"{self._kafka.client_id}-projector",
        )
        self._reader = reader
        await reader.start(max(0, self.position.next_offset - 1))
        await self.ask_end()
        return self.position

    async def ask_end(self) -> int:
        """The end offset of the log now.

        Raises PartitionStopped where it is no longer the log that we read: the client would go on in a topic that was
        deleted and made again, and every record there would look void, or like the next one. KafkaError.
        """
        assert self._reader is not None, "open() comes first"
        self._refuse_another_log(self._topic_id, await self._topic.get())
        _, self.end_offset = await self._reader.bounds()
        if self.end_offset < self.position.next_offset:
            raise PartitionStopped(
                f"{self.name} stands at offset {self.position.next_offset}, but the log ends at {self.end_offset}:"
                " records were lost or this is another log; restore the log, or build a new version from what is left"
                " with `gapless projection rebuild`"
            )
        return self.end_offset

    def _refuse_another_log(self, folded: str, there: str) -> None:
        if folded != there:
            raise PartitionStopped(
                f"{self.name} was folded from topic {folded}, but {topic_names(self._kafka).events} is now {there}:"
                " another log; point GAPLESS_KAFKA_BOOTSTRAP at the right cluster, or build a new version from this"
                " log with `gapless projection rebuild`"
            )

    async def step(self, *, max_records: int, timeout_s: float) -> Step | None:
        """Reads what is there, waiting at most `timeout_s` for the first record, and writes it; None: nothing came.

        Raises PartitionStopped with everything before the bad record written; LostRace, KafkaError, psycopg.Error,
        TimeoutError with nothing written (or, where the connection broke in a commit, perhaps all of it: `open`
        finds out).
        """
        assert self._reader is not None, "open() comes first"
        try:
            records = await self._reader.read(max_records=max_records, timeout_s=timeout_s)
        except OffsetMissing as error:
            raise PartitionStopped(
                f"{self.name}: {error}; its history was deleted; restore the log with an import before anything"
                " reads it"
            ) from error
        if not records and self._reader.position <= self.position.next_offset:
            return None
        started = time.monotonic()
        following = self._without_checked(records)
        judged = judge_records(self.position, following, read_up_to=self._reader.position)
        rows = await self._write(judged)
        if judged.stop is not None:
            raise self._stopped(judged.end.next_offset, judged.stop) from judged.stop
        seconds = time.monotonic() - started
        return Step(records=len(records), events=len(judged.events), voids=judged.voids, rows=rows, seconds=seconds)

    def _without_checked(self, records: Sequence[Record]) -> Sequence[Record]:
        if not self._unchecked or not records:
            return records
        self._unchecked = False
        first = records[0]
        if first.offset >= self.position.next_offset:
            return records  # what stands before the position is no record but a marker
        if not belongs_before(self.position, first):
            raise PartitionStopped(
                f"{self.name} stands at offset {self.position.next_offset} with head {self.position.head}, but the"
                f" record before it is not of that history: another log; build a new version from this log with"
                " `gapless projection rebuild`"
            )
        return records[1:]

    async def _write(self, judged: Judged) -> int:
        if judged.end == self.position:
            return 0
        try:
            async with self._pool.connection() as connection:
                known = await look_up(connection, self._sql, wanted(judged.events))
                changes = changes_of(
                    judged.events, known, partition=self.partition, outcomes_since_ms=outcomes_since_ms()
                )
                await write_batch(
                    connection,
                    self._sql,
                    partition=self.partition,
                    topic_id=self._topic_id,
                    start=self.position,
                    end=judged.end,
                    changes=changes,
                    durable=self._durable,
                )
        except (LogCorrupt, psycopg.DataError, psycopg.IntegrityError) as error:
            raise self._stopped(self.position.next_offset, error) from error
        self.position = judged.end
        labels = (schema_name(self.version), str(self.partition))
        metrics.EVENTS_APPLIED.labels(*labels).inc(len(judged.events))
        metrics.VOID_RECORDS.labels(*labels).inc(judged.voids)
        metrics.ROWS_WRITTEN.labels(labels[0]).inc(changes.rows)
        return changes.rows

    def _stopped(self, offset: int, error: Exception) -> PartitionStopped:
        if isinstance(error, UnknownType):
            return PartitionStopped(f"{self.name} stopped before offset {offset}: {error}")
        where = "at" if isinstance(error, LogCorrupt) else "in the batch from"
        return PartitionStopped(
            f"{self.name} stopped {where} offset {offset}: {_one_line(error)}; prove the log with"
            " `gapless log verify` and the tables with `gapless projection verify`"
        )

    async def close(self) -> None:
        """Drops the connection to Kafka, in bounded time."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()


def _one_line(error: Exception) -> str:
    """The first line of a message: Postgres puts the values of a row, perhaps a text, into the lines after it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
