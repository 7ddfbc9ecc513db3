"""A log of a benchmark's own on a broker: its topics, and how far they reach."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import TopicNames, topic_specs
from services.runtime.kafka.topics import create_topics


async def fresh_log(bootstrap_servers: str, *, partitions: int) -> TopicNames:
    """Makes three empty topics under a new prefix, with the settings of production."""
    names = TopicNames.prefixed(f"b{uuid.uuid4().hex[:8]}.")
    specs = topic_specs(names, partitions=partitions, reply_partitions=2, replication_factor=1)
    await create_topics(bootstrap_servers, specs)
    return names


class Ends:
    """Tells how many records a topic holds: cheap enough to be asked a hundred times a second."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, p) for p in range(partitions)]

    @classmethod
    @asynccontextmanager
    async def of(cls, bootstrap_servers: str, topic: str, partitions: int) -> AsyncIterator[Ends]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=None)
        await consumer.start()
        try:
            yield cls(consumer, topic, partitions)
        finally:
            await consumer.stop()

    async def total(self) -> int:
        """Records over all partitions, of a topic that was never trimmed."""
        return int(sum((await self._consumer.end_offsets(self._partitions)).values()))
