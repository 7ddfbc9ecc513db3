"""Folds one partition of the log into one projection, or its search, step by step. Used by worker, rebuild, cutover.

While a batch is being written, the next one is read, classified and decoded: it is what arrived meanwhile. So an idle
partition shows a message at once, and a loaded one writes big batches, which cost Postgres less: a chat or a member
that a batch changes a hundred times is one changed row.

A consumer does not retry: every failure is raised, and `open` starts again from the stored position.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import psycopg

from schemas.errors import LogCorrupt, SchemaError, UnknownType
from schemas.wire.encoding import Record
from schemas.wire.records import record_digest
from services.projector import metrics
from services.projector.errors import LostRace, PartitionStopped
from services.projector.following.feeds import HISTORY, Feed
from services.projector.mapping.decode import AnyEvent
from services.projector.mapping.validity import ReaderPosition, belongs_before, classify_records
from services.projector.settings import topic_names
from services.projector.writing.apply import load_last_record, load_position
from services.projector.writing.guard import Move
from services.runtime.kafka.errors import OffsetMissing
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import topic_id
from services.runtime.postgres.pool import Connection
from services.runtime.settings import KafkaSettings

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Total size of record values, in bytes, at which a batch is closed whatever its count. It is held in memory, and so is
the batch before it."""
PIECE_RECORDS: Final = 500
"""Records that are read and decoded in one go, in some 3 ms. Between two pieces Postgres gets its next bytes."""

CHECK_TIMEOUT_S: Final = 2.0
"""Timeout for reading the record before the position, which exists."""
WAY_OUT: Final = (
    "build another version from it (`gapless projection rebuild --to vN`, where `gapless projection list` shows no vN),"
    " let readers see that (`gapless projection cutover --to vN`), and drop this one (`gapless projection drop`)"
)
"""What an operator can do about a projection that is not of the current log."""

YOUNG_OBJECTS: Final = 500_000
"""Threshold of services.runtime.process.collector. A batch has about 20 objects a record until decoded, then two."""


class Connections(Protocol):
    """Lends connections in autocommit mode; a pool does."""

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend one for a unit of work."""
        ...


class TopicId:
    """The id of `chat.events`, cached for MAX_AGE_S so that partitions that start together share one request."""

    MAX_AGE_S: Final = 5.0

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._known: tuple[float, str] | None = None

    async def get(self) -> str:
        """Return the id. Raises KafkaError."""
        if self._known is None or time.monotonic() - self._known[0] > self.MAX_AGE_S:
            found = await topic_id(self._kafka.connection, topic_names(self._kafka).events)
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
    """Time from having the records to their commit."""


@dataclass(slots=True, kw_only=True)
class _ReadBatch:
    """A batch that was read and classified, and is not yet written."""

    end: ReaderPosition
    """The position after it."""
    records: int = 0
    value_bytes: int = 0
    voids: int = 0
    events: list[AnyEvent] = field(default_factory=list)
    last_read: Sequence[Record] = ()
    """The records that were read last: the one before `end` is among them."""
    began_s: float = 0.0
    """When its first records had been read (monotonic)."""
    first_ms: int = 0
    """The timestamp of its first record, or of the one that stops it; 0 if it has neither."""
    stop: SchemaError | None = None
    """Why the record at `end` cannot be applied; it ends the batch."""
    stop_ms: int = 0
    """The timestamp of that record."""


class PartitionConsumer:
    """Folds one partition into one projection. Not for use by two tasks at once."""

    def __init__(
        self,
        *,
        version: int,
        partition: int,
        pool: Connections,
        kafka: KafkaSettings,
        topic: TopicId,
        durable: bool = True,
        feed: Feed = HISTORY,
        turns: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        """The connections of `pool` are in autocommit mode. For `durable`, see `Move`.

        `turns`, a semaphore, is held while a batch is written: so that consumers leave connections to others.
        """
        self.version = version
        self.projection = feed.name(version)
        """What is filled, as logs and metrics name it."""
        self.partition = partition
        self._pool = pool
        self._kafka = kafka
        self._topic = topic
        self._durable = durable
        self._feed = feed
        self._turns = turns if turns is not None else nullcontext()
        self._sql = feed.sql(version)
        self._reader: PartitionReader | None = None
        self._topic_id = ""
        self._unchecked = False
        """Whether the next record is the one before the position, and must be checked against it."""
        self._last_record: bytes | None = None
        """The digest that record must have, if known."""
        self.position = ReaderPosition()
        """The position up to which everything is written."""
        self._batch = _ReadBatch(end=self.position)
        self._unwritten: _ReadBatch | None = None
        """The batch that is being written, or could not be written."""
        self._ran_dry = False
        """Whether the last read returned nothing, though there may be more."""
        self._reading: asyncio.Task[list[Record]] | None = None
        self._writing: asyncio.Task[Step] | None = None
        self.end_offset = 0
        """The end offset of the log when it was last asked for."""

    @property
    def name(self) -> str:
        return f"{self.projection}/{self.partition}"

    @property
    def read_to(self) -> int:
        """The offset after the last record that was read."""
        return self._batch.end.next_offset

    @property
    def oldest_ms(self) -> int | None:
        """The timestamp of the oldest record that was read but not written; None if none is known."""
        return (self._unwritten or self._batch).first_ms or None

    async def open(self) -> ReaderPosition:
        """Start at the stored position, with topic id and head checked, and return it.

        Raises PartitionStopped if the position is not one of this log; KafkaError, psycopg.Error, TimeoutError.
        """
        await self.close()
        self._topic_id = await self._topic.get()
        async with self._pool.connection() as connection:
            stored_topic_id, self.position = await load_position(
                connection, self._sql, partition=self.partition, topic_id=self._topic_id
            )
            self._last_record = await load_last_record(
                connection, self._sql, partition=self.partition, next_offset=self.position.next_offset
            )
        self._refuse_another_log(stored_topic_id, self._topic_id)
        # The record before the position is read again and checked. Otherwise a log that was cut and has grown again
        # would go unnoticed.
        self._unchecked = self.position.next_offset > 0
        self._batch, self._unwritten = _ReadBatch(end=self.position), None
        reader = PartitionReader(
            kafka=self._kafka.connection,
            topic=topic_names(self._kafka).events,
            partition=self.partition,
            client_id=f"{self._kafka.client_id}-projector",
            patient=self._feed.patient,
        )
        self._reader = reader
        await reader.start(max(0, self.position.next_offset - 1))
        await self.ask_end()
        return self.position

    async def ask_end(self) -> int:
        """Return the current end offset of the log.

        Raises PartitionStopped if it is no longer the log that we read: the client would continue in a topic that was
        deleted and created again, where every record would look void, or like the next one. Raises KafkaError.
        """
        assert self._reader is not None, "open() comes first"
        if self._reading is not None:  # a reader handles one request at a time
            await asyncio.wait([self._reading])
        self._refuse_another_log(self._topic_id, await self._topic.get())
        _, self.end_offset = await self._reader.bounds()
        if self.end_offset < self.position.next_offset:
            raise PartitionStopped(
                f"{self.name}: it stands at offset {self.position.next_offset}, but the log ends at {self.end_offset}:"
                f" records were lost, or this is another log; restore the log, or {WAY_OUT}"
            )
        return self.end_offset

    async def confirm(self) -> None:
        """Record that the partition is fed, for readers of the tables, unless a batch is being written.

        Raises LostRace, psycopg.Error.
        """
        if self._writing is not None:
            return
        values = {"partition": self.partition, "next_offset": self.position.next_offset, "topic_id": self._topic_id}
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(self._sql["commit_without_waiting"])
            if (await connection.execute(self._sql["confirm"], values)).rowcount != 1:
                raise LostRace(f"{self.name} is no longer at offset {self.position.next_offset}")

    async def check_history(self) -> None:
        """Read the record before the position and compare it with what was folded; `step` does so as well.

        Raises PartitionStopped, KafkaError.
        """
        assert self._reader is not None, "open() comes first"
        if self._unchecked:
            self._take(await self._read(max_records=1, timeout_s=CHECK_TIMEOUT_S))

    def _refuse_another_log(self, folded: str, there: str) -> None:
        if folded != there:
            raise PartitionStopped(
                f"{self.name}: it was folded from topic {folded}, but {topic_names(self._kafka).events} is now {there}:"
                f" another log; point GAPLESS_KAFKA_BOOTSTRAP at the right cluster, or {WAY_OUT}"
            )

    async def step(self, *, max_records: int, timeout_s: float) -> Step | None:
        """Wait until the next batch is written. Returns None if nothing arrived for `timeout_s`.

        While the log is known to go on, a batch is filled up to `max_records` (or BATCH_BYTES) before it is written;
        otherwise it is what has arrived.
        Raises PartitionStopped with everything before the bad record written; LostRace, KafkaError, psycopg.Error,
        TimeoutError with nothing of the batch written (or, if the connection broke during a commit, perhaps all of
        it: `open` finds out). After any of them, only `open` and `close` may be called.
        """
        assert self._reader is not None, "open() comes first"
        while True:
            if self._writing is None and self._is_due(max_records):
                batch = self._unwritten = self._batch
                self._batch = _ReadBatch(end=batch.end, stop=batch.stop, first_ms=batch.stop_ms, stop_ms=batch.stop_ms)
                self._writing = asyncio.create_task(self._write(batch))
            if self._reading is None and not self._is_full(max_records):
                piece = min(PIECE_RECORDS, max_records - self._batch.records)
                self._reading = asyncio.create_task(self._read(max_records=piece, timeout_s=timeout_s))
            under_way = [task for task in (self._reading, self._writing) if task is not None]
            if not under_way:
                raise self._bad_record_comes()
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if self._reading is not None and self._reading.done():
                reading, self._reading = self._reading, None
                self._take(reading.result())
                if self._ran_dry and self._writing is None and self._batch.end == self.position:
                    return None
            if self._writing is not None and self._writing.done():
                writing, self._writing = self._writing, None
                step = writing.result()
                if self._batch.stop is not None and self._batch.end == self.position:
                    raise self._bad_record_comes()
                return step

    def _is_due(self, max_records: int) -> bool:
        batch = self._batch
        if batch.end == self.position:
            return False
        return self._ran_dry or self._is_full(max_records) or batch.end.next_offset >= self.end_offset

    def _is_full(self, max_records: int) -> bool:
        batch = self._batch
        return batch.stop is not None or batch.records >= max_records or batch.value_bytes >= BATCH_BYTES

    async def _read(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Read the next records. Raises PartitionStopped if the log does not hold them, KafkaUnavailable."""
        assert self._reader is not None
        try:
            return await self._reader.read(max_records=max_records, timeout_s=timeout_s)
        except OffsetMissing as error:
            first, end = await self._reader.bounds()
            if self._reader.position > end:
                raise PartitionStopped(
                    f"{self.name}: it reads at offset {self._reader.position}, but the log ends at {end}: records were"
                    f" lost; restore the log, or {WAY_OUT}"
                ) from error
            raise PartitionStopped(
                f"{self.name}: {error}, for the log begins at {first}: its history was deleted; restore the topic from"
                " a backup before anything reads it"
            ) from error

    def _take(self, records: Sequence[Record]) -> None:
        """Classify and decode what was read, and add it to the batch."""
        assert self._reader is not None
        self._ran_dry = not records
        batch = self._batch
        if records and not batch.records:
            batch.began_s = time.monotonic()
        following = self._without_checked(records)
        if following:
            batch.last_read = following
            batch.first_ms = batch.first_ms or following[0].timestamp
        classified = classify_records(batch.end, following, read_up_to=self._reader.position)
        batch.end, batch.stop = classified.end, classified.stop
        if classified.stop is not None:
            batch.stop_ms = next((r.timestamp for r in following if r.offset >= classified.end.next_offset), 0)
        batch.records += len(following)
        batch.value_bytes += sum([len(record.value or b"") for record in following])
        batch.voids += classified.voids
        batch.events += classified.events

    def _without_checked(self, records: Sequence[Record]) -> Sequence[Record]:
        if not self._unchecked or not records:
            return records
        self._unchecked = False
        first = records[0]
        if first.offset >= self.position.next_offset:
            return records  # the offset before the position holds a marker, not a record
        known = self._last_record is None or self._last_record == record_digest(first)
        if not (known and belongs_before(self.position, first)):
            raise PartitionStopped(
                f"{self.name}: it stands at offset {self.position.next_offset}, but the record before that is not the"
                f" one that was folded: another log, or one that was cut and has grown again; restore the log, or"
                f" {WAY_OUT}"
            )
        return records[1:]

    async def _write(self, batch: _ReadBatch) -> Step:
        try:
            async with self._turns, self._pool.connection() as connection:
                rows = await self._feed.write(
                    connection,
                    self._sql,
                    Move(
                        partition=self.partition,
                        topic_id=self._topic_id,
                        start=self.position,
                        end=batch.end,
                        last_record=_digest_before(batch.end.next_offset, batch.last_read),
                        durable=self._durable,
                    ),
                    batch.events,
                )
        except (LogCorrupt, psycopg.DataError, psycopg.IntegrityError) as error:
            raise self._stopped(self.position.next_offset, error) from error
        self.position, self._unwritten = batch.end, None
        labels = (self.projection, str(self.partition))
        metrics.EVENTS_APPLIED.labels(*labels).inc(len(batch.events))
        metrics.VOID_RECORDS.labels(*labels).inc(batch.voids)
        metrics.ROWS_WRITTEN.labels(labels[0]).inc(rows)
        return Step(
            records=batch.records,
            events=len(batch.events),
            voids=batch.voids,
            rows=rows,
            seconds=time.monotonic() - batch.began_s,
        )

    def _bad_record_comes(self) -> PartitionStopped:
        """Return the error for a record that cannot be applied, once everything before it is written."""
        assert self._batch.stop is not None
        stopped = self._stopped(self._batch.end.next_offset, self._batch.stop)
        stopped.__cause__ = self._batch.stop
        return stopped

    def _stopped(self, offset: int, error: Exception) -> PartitionStopped:
        if isinstance(error, UnknownType):
            return PartitionStopped(f"{self.name} stopped before offset {offset}: {error}")
        where = "at" if isinstance(error, LogCorrupt) else "in the batch from"
        return PartitionStopped(
            f"{self.name} stopped {where} offset {offset}: {_one_line(error)}; prove the log with"
            " `gapless log verify` and the tables with `gapless projection verify`"
        )

    async def close(self) -> None:
        """End what is under way, at a whole batch, and close the connection to Kafka, in bounded time."""
        under_way = [task for task in (self._reading, self._writing) if task is not None]
        self._reading = self._writing = None
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.gather(*under_way, return_exceptions=True)
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()


def _digest_before(offset: int, records: Sequence[Record]) -> bytes | None:
    """Return the digest of the record before an offset, or None if it is not among these."""
    for record in reversed(records):
        if record.offset < offset:
            return record_digest(record) if record.offset == offset - 1 else None
    return None


def _one_line(error: Exception) -> str:
    """Return the first line of a message: Postgres puts a row's values, perhaps a message text, into later lines."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
