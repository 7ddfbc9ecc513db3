"""Records to any partition, gathered: ingest's commands and the sequencer's replies.

Each partition has a line. While one of its record batches is on the way, what comes waits in the line and makes the
next batch; with none on the way a record waits for the rest of the loop's turn and no longer. So an idle system sends
at once, a loaded one sends large batches, and the records of a partition are in the log in the order they came.

After any error the aiokafka producer is thrown away and the next batch gets a fresh one: what the old one had in
flight is unknown, and each of its callers is told so. What still waited in a line was never handed over, and goes on.
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
"""What a batch is closed at, by the estimate of `Encoded.size`: below `max.message.bytes` of chat.commands, which is
the smallest of our topics'. A record that is larger by itself travels alone, and the broker says what it thinks."""

Settled = Callable[[int, KafkaError | None], None]
"""Told of an append once: `(offset of its first record, None)` where it is acknowledged; else `(-1, error)`, with
KafkaUnavailable where it was never handed over and AppendUnknown where it may be in the log."""


class _Append(NamedTuple):
    """Records that are in the log together, one behind the other, or not at all."""

    records: Sequence[Encoded]
    size: int
    """Bytes in a batch, estimated from above."""
    deadline_s: float
    """On the monotonic clock."""
    settled: Settled


class _PartitionQueue:
    """What waits for one partition, in the order it came. `task` is there while anything waits or is on its way."""

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
        """Connects. Raises KafkaUnavailable; a later send tries again, so a caller may go on."""
        await self._live()

    def append(
        self, topic: str, partition: int, records: Sequence[Encoded], timeout_s: float, settled: Settled
    ) -> None:
        """Puts the records into the partition's line, for one batch. `settled` is called later, never from in here,
        and within `timeout_s` or little more."""
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = _PartitionQueue(topic, partition)
        size = sum([record.size for record in records])
        queue.waiting.append(_Append(records, size, time.monotonic() + timeout_s, settled))
        if queue.task is None:
            # It begins in the next turn of the loop, and so finds what else this turn brings.
            queue.task = asyncio.create_task(self._drain(queue), name=f"append to {topic}-{partition}")

    async def send(self, topic: str, partition: int, record: Encoded, timeout_s: float) -> int:
        """The offset of the acknowledged record.

        Raises KafkaUnavailable where it was never handed over, AppendUnknown where it may be in the log.
        """
        offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def settled(first: int, error: KafkaError | None) -> None:
            if offset.done():  # cancelled: nobody waits any more
                return
            if error is None:
                offset.set_result(first)
            else:
                offset.set_exception(error)

        self.append(topic, partition, (record,), timeout_s, settled)
        return await offset

    async def stop(self) -> None:
        """Leaves in bounded time; whoever still waits is told what became of it."""
        self._stopped = True
        await self._close_current()
        tasks = {queue.task for queue in self._queues.values() if queue.task is not None} | self._discards
        if tasks:
            await asyncio.wait(tasks)
        await self._close_current()  # one that a line was opening meanwhile

    async def _close_current(self) -> None:
        producer, self._current = self._current, None
        if producer is not None:
            try:
                await within(STOP_TIMEOUT_S, "close a producer", producer.stop())
            except KafkaUnavailable:
                await discard(producer)

    async def _drain(self, queue: _PartitionQueue) -> None:
        """One batch after the other until nothing waits: only the acknowledged one makes room for the next."""
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
        failure: KafkaError | None = AppendUnknown("the append was broken off")
        try:
            batch = _batch_of(producer, taken)
            async with asyncio.timeout(taken[0].deadline_s - time.monotonic()):
                done = await producer.send_batch(batch, queue.topic, partition=queue.partition)
                first = (await done).offset
            # Without an offset: written by an earlier try of the client, and the broker no longer knows where.
            failure = None if first >= 0 else AppendUnknown("acknowledged without an offset")
        except TimeoutError:
            failure = AppendUnknown("no acknowledgement in time")
        except (kafka_errors.KafkaError, OSError, AssertionError) as error:
            failure = AppendUnknown(f"{error!r:.300}")
        finally:
            # However this ends, each is told once: nobody may wait for ever, or take silence for a refusal.
            if failure is not None:
                self._throw_away(producer)
            for append in taken:
                append.settled(-1 if failure is not None else first, failure)
                first += len(append.records)

    def _refuse(self, queue: _PartitionQueue, error: KafkaUnavailable) -> None:
        """Whose time is up; all of them where there is more than silence to tell of."""
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
        """At once for the next batch; being rid of it goes on beside."""
        if self._current is producer:
            self._current = None
            task = asyncio.create_task(discard(producer))
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)


class _NotInTime(KafkaUnavailable):
    """A deadline ran out before there was a producer; whoever has time left may go on waiting."""


def _take(waiting: deque[_Append]) -> list[_Append]:
    """The appends of the next batch: at least one, and as many as fit."""
    taken = [waiting.popleft()]
    size = taken[0].size
    while waiting and size + waiting[0].size <= BATCH_BYTES:
        size += waiting[0].size
        taken.append(waiting.popleft())
    return taken


def _batch_of(producer: AIOKafkaProducer, appends: Sequence[_Append]) -> BatchBuilder:
    """One record batch with all of them, closed: nothing is added to it later."""
    batch = producer.create_batch()
    for append in appends:
        for record in append.records:
            added = batch.append(
                key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=record.headers
            )
            assert added is not None, "a batch is closed by an estimate from above"
    batch.close()
    return batch
