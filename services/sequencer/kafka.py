"""Implements the ports of `ports.py` on Kafka."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog

from schemas.topics import TopicNames, TopicSpec
from schemas.wire.encoding import Encoded
from schemas.wire.replies import Reply, encode_replies
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import create_topics, topic_id
from services.runtime.observe.repeated_lines import warn_throttled
from services.sequencer import metrics
from services.sequencer.ports import LogAppender, LogReader

log = structlog.get_logger(__name__)


class KafkaLogs:
    """The two logs of one partition."""

    def __init__(self, *, kafka: KafkaConnection, names: TopicNames, partition: int, client_id: str) -> None:
        self._kafka = kafka
        self._names = names
        self._partition = partition
        self._client_id = client_id

    async def events_topic_id(self) -> str:
        return await topic_id(self._kafka, self._names.events)

    async def read_events(self, offset: int, *, patient: bool = False) -> LogReader:
        return await self._reader(self._names.events, offset, patient=patient)

    async def read_commands(self, offset: int) -> LogReader:
        return await self._reader(self._names.commands, offset)

    async def append_events(self) -> LogAppender:
        appender = PartitionAppender(
            kafka=self._kafka,
            topic=self._names.events,
            partition=self._partition,
            client_id=self._client_id,
        )
        await appender.start()
        return appender

    async def _reader(self, topic: str, offset: int, *, patient: bool = False) -> LogReader:
        reader = PartitionReader(
            kafka=self._kafka,
            topic=topic,
            partition=self._partition,
            client_id=self._client_id,
            patient=patient,
        )
        await reader.start(offset)
        return reader


class KafkaHeartbeatLog:
    """The topic of heartbeats: one partition, created by the first sequencer that needs it."""

    def __init__(self, *, kafka: KafkaConnection, spec: TopicSpec, client_id: str) -> None:
        self._kafka = kafka
        self._spec = spec
        self._client_id = client_id
        self._producer = Producer(kafka=kafka, client_id=client_id)
        self._is_there = asyncio.Lock()
        self._made = False

    async def append(self, record: Encoded, timeout_s: float) -> None:
        await self._make()
        await self._producer.send(self._spec.name, 0, record, timeout_s)

    async def read_from_end(self) -> LogReader:
        await self._make()
        reader = PartitionReader(kafka=self._kafka, topic=self._spec.name, partition=0, client_id=self._client_id)
        await reader.start(0)
        _, end = await reader.bounds()
        await reader.seek(end)
        return reader

    async def stop(self) -> None:
        await self._producer.stop()

    async def _make(self) -> None:
        async with self._is_there:
            if not self._made:
                await create_topics(self._kafka, [self._spec])
                self._made = True


class KafkaReplyPublisher:
    """Sends the replies of all partitions of a process through one producer; those not sent in time are lost."""

    SEND_TIMEOUT_S: Final = 5.0
    MAX_IN_A_RECORD: Final = 500
    """Maximum replies in a record: the longest takes 600 bytes, and Kafka limits a record to a megabyte."""
    MAX_UNDER_WAY: Final = 1_000
    """Maximum records in flight. Beyond it replies are lost, not queued, so that an outage does not fill the memory."""

    def __init__(self, producer: Producer, *, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._under_way: set[asyncio.Task[None]] = set()

    def publish(self, replies: Sequence[tuple[int, Reply]]) -> None:
        """Send the replies, grouped by reply partition; skip partitions that do not exist."""
        by_partition: defaultdict[int, list[Reply]] = defaultdict(list)
        for partition, reply in replies:
            if partition < self._partitions:
                by_partition[partition].append(reply)
        for partition, group in by_partition.items():
            for start in range(0, len(group), self.MAX_IN_A_RECORD):
                self._start(partition, group[start : start + self.MAX_IN_A_RECORD])

    def _start(self, partition: int, group: list[Reply]) -> None:
        if len(self._under_way) >= self.MAX_UNDER_WAY:
            metrics.REPLIES_LOST.inc(len(group))
            return
        task = asyncio.create_task(self._send(partition, group))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def drain(self) -> None:
        """Wait for records in flight; each has its own deadline."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, partition: int, group: list[Reply]) -> None:
        record = Encoded(None, encode_replies(group), [])
        try:
            await self._producer.send(self._topic, partition, record, self.SEND_TIMEOUT_S)
        except KafkaError as error:
            # The waiters get 202 and can ask: the log has the outcome.
            metrics.REPLIES_LOST.inc(len(group))
            warn_throttled(log, "replies.lost", count=len(group), reason=str(error))
