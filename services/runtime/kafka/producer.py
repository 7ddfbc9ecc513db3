"""Appends records to any partition, in batches: ingest's commands and the sequencer's replies.

Each partition has a queue. While one of its record batches is in flight, new records wait in the queue and form the
next batch; if none is in flight, a record waits only for the rest of the event loop's iteration. So an idle system
sends at once, a loaded one sends large batches, and the records of a partition are logged in the order they came.

After any error the aiokafka producer is discarded and the next batch gets a new one. The result of the appends that the
old one had in flight is unknown, and their callers get AppendUnknown. Queued appends were never sent, and continue.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.wire.encoding import Encoded
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.deadline import within
from services.runtime.kafka.discard import discard
from services.runtime.kafka.errors import AppendUnknown, KafkaError, KafkaUnavailable
from services.runtime.kafka.refusals import opened

START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 3.0
BATCH_BYTES: Final = 390_000
"""Size at which a batch is closed, as estimated by `Encoded.size`: below `max.message.bytes` of chat.commands, the
smallest of our topics. A larger record is sent in a batch of its own, and the broker decides."""

Settled = Callable[[int, KafkaError | None], None]
"""Callback for the result of an append, called once: `(offset of its first record, None)` if it is acknowledged,
otherwise `(-1, error)`: KafkaUnavailable if it was never sent, AppendUnknown if it may be in the log."""


class _Append(NamedTuple):
    """Records that are logged together and consecutively, or not at all."""

    records: Sequence[Encoded]
    size: int
    """Upper estimate of the bytes in a batch."""
    deadline_s: float
    """Deadline on the monotonic clock."""
    settled: Settled


class _PartitionQueue:
    """The queue of one partition, in order of arrival. `task` exists while anything is queued or in flight."""

    __slots__ = ("partition", "task", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[_Append] = deque()
        self.task: asyncio.Task[None] | None = None


class Producer:
    """Appends with acks=all, idempotently, to partitions that the caller names."""

    def __init__(self, *, kafka: KafkaConnection, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._stopped = False
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}
        self._discards: set[asyncio.Task[bool]] = set()

    async def start(self) -> None:
        """Connect. Raises KafkaUnavailable; a later send tries again, so a caller may ignore it."""
        await self._live()

    def append(
        self, topic: str, partition: int, records: Sequence[Encoded], timeout_s: float, settled: Settled
    ) -> None:
        """Queue the records for one batch of the partition. `settled` is called later, never from inside this call, and
        within about `timeout_s`."""
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = _PartitionQueue(topic, partition)
        size = sum([record.size for record in records])
        queue.waiting.append(_Append(records, size, time.monotonic() + timeout_s, settled))
        if queue.task is None:
            # The task starts in the loop's next iteration, so its batch has everything queued in this one.
            queue.task = asyncio.create_task(self._drain(queue), name=f"append to {topic}-{partition}")

    async def send(self, topic: str, partition: int, record: Encoded, timeout_s: float) -> int:
        """Append one record and return its acknowledged offset.

        Raises KafkaUnavailable if it was never sent, AppendUnknown if it may be in the log.
        """
        offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def settled(first: int, error: KafkaError | None) -> None:
            if offset.done():  # cancelled: the caller no longer waits
                return
            if error is None:
                offset.set_result(first)
            else:
                offset.set_exception(error)

        self.append(topic, partition, (record,), timeout_s, settled)
        return await offset

    async def stop(self) -> None:
        """Stop in bounded time; every pending append is settled."""
        self._stopped = True
        await self._close_current()
        tasks = {queue.task for queue in self._queues.values() if queue.task is not None} | self._discards
        if tasks:
            await asyncio.wait(tasks)
        await self._close_current()  # one that a queue's task opened meanwhile

    async def _close_current(self) -> None:
        producer, self._current = self._current, None
        if producer is not None:
            try:
                await within(STOP_TIMEOUT_S, "close a producer", producer.stop())
            except KafkaUnavailable:
                await discard(producer)

    async def _drain(self, queue: _PartitionQueue) -> None:
        """Append batch after batch until the queue is empty; each is sent only after its predecessor is settled."""
        try:
            while queue.waiting:
                try:
                    producer = self._current or await self._live_by(queue.waiting[0].deadline_s)
                except KafkaUnavailable as error:
                    self._refuse(queue, error)
                    continue
                self._refuse(queue, _NotInTime("no room for a batch in time"))
                if queue.waiting:
                    await self._append_batch(producer, queue)
        finally:
            queue.task = None

    async def _append_batch(self, producer: AIOKafkaProducer, queue: _PartitionQueue) -> None:
        taken = _take(queue.waiting)
        first = -1
        failure: KafkaError | None = AppendUnknown("the append was cancelled")
        try:
            batch = _batch_of(producer, taken)
            async with asyncio.timeout(taken[0].deadline_s - time.monotonic()):
                done = await producer.send_batch(batch, queue.topic, partition=queue.partition)
                first = (await done).offset
            # No offset: an earlier attempt of the client wrote it, and the broker no longer knows where.
            failure = None if first >= 0 else AppendUnknown("acknowledged without an offset")
        except TimeoutError:
            failure = AppendUnknown("no acknowledgement in time")
        except (kafka_errors.KafkaError, OSError, AssertionError) as error:
            failure = AppendUnknown(f"{error!r:.300}")
        finally:
            # However this ends, every append is settled once, so that no caller waits indefinitely.
            if failure is not None:
                self._throw_away(producer)
            for append in taken:
                append.settled(-1 if failure is not None else first, failure)
                first += len(append.records)

    def _refuse(self, queue: _PartitionQueue, error: KafkaUnavailable) -> None:
        """Fail the queued appends that are past their deadline, or all of them if the error is not just a timeout."""
        now_s = time.monotonic()
        silent = isinstance(error, _NotInTime)
        while queue.waiting and (not silent or queue.waiting[0].deadline_s <= now_s):
            queue.waiting.popleft().settled(-1, error)

    async def _live_by(self, deadline_s: float) -> AIOKafkaProducer:
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return await self._live()
        except TimeoutError:
            raise _NotInTime("no producer in time") from None

    async def _live(self) -> AIOKafkaProducer:
        if self._current is not None:
            return self._current
        async with self._starting:
            if self._current is None:
                if self._stopped:
                    raise KafkaUnavailable("the producer was stopped")
                producer = AIOKafkaProducer(
                    **self._kafka.client_options(),
                    client_id=self._client_id,
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=10_000,
                )
                try:
                    await opened(self._kafka, START_TIMEOUT_S, "open a producer", producer.start())
                except BaseException:
                    await discard(producer)
                    raise
                self._current = producer
            return self._current

    def _throw_away(self, producer: AIOKafkaProducer) -> None:
        """Make the next batch use a new producer at once, and discard the old one in the background."""
        if self._current is producer:
            self._current = None
            task = asyncio.create_task(discard(producer))
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)


class _NotInTime(KafkaUnavailable):
    """A deadline passed before a producer was ready. Appends with time left may continue to wait."""


def _take(waiting: deque[_Append]) -> list[_Append]:
    """Remove and return the appends of the next batch: at least one, and as many as fit."""
    taken = [waiting.popleft()]
    size = taken[0].size
    while waiting and size + waiting[0].size <= BATCH_BYTES:
        size += waiting[0].size
        taken.append(waiting.popleft())
    return taken


def _batch_of(producer: AIOKafkaProducer, appends: Sequence[_Append]) -> BatchBuilder:
    """Return a closed record batch with all these appends."""
    batch = producer.create_batch()
    for append in appends:
        for record in append.records:
            added = batch.append(
                key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=record.headers
            )
            assert added is not None, "a batch is closed by an upper estimate"
    batch.close()
    return batch
