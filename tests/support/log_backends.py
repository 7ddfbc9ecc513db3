"""One partition of a log, real and simulated, with one interface, for tests/integration/kafka/test_log_conformance.py.

KafkaBackend        PartitionReader and PartitionAppender on a real broker
SimulatedBackend    SimulatedReader and SimulatedAppender on a simulated log without faults
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Protocol
from uuid import uuid4

from schemas.events import Outcome
from schemas.log import Stamp
from schemas.wire.encoding import Encoded, event_source
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import delete_records
from services.sequencer.ports import LogAppender, LogReader
from tests.support.poison import put_undecodable
from tests.support.sequencing import Scene
from tests.support.simulated_log import Network, SimulatedAppender, SimulatedLog, SimulatedReader
from tests.support.simulated_loop import run_simulated

PARTITION = 0
SOURCE = event_source(PARTITION)
Stamped = tuple[Outcome, Stamp]


class Backend(Protocol):
    """An empty log and the operations on it."""

    async def reader(self, offset: int) -> LogReader: ...

    async def appender(self) -> LogAppender: ...

    async def trim(self, before: int) -> None: ...

    async def append_in_a_transaction(self, record: Encoded) -> int:
        """Append and commit a record in a transaction, and return its offset.

        The transaction's marker takes the next offset.
        """
        ...

    async def append_undecodable(self) -> int: ...


Check = Callable[[Backend], Coroutine[Any, Any, None]]


class SimulatedBackend:
    def __init__(self) -> None:
        self._log = SimulatedLog()
        self._network = Network(Random(1))

    async def reader(self, offset: int) -> LogReader:
        return SimulatedReader(self._log, self._network, offset)

    async def appender(self) -> LogAppender:
        return SimulatedAppender(self._log, self._network)

    async def trim(self, before: int) -> None:
        self._log.trim(before)

    async def append_in_a_transaction(self, record: Encoded) -> int:
        offset = self._log.append([record])
        self._log.skip()
        return offset

    async def append_undecodable(self) -> int:
        return self._log.append_undecodable()


class KafkaBackend:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._topic = scene.names.events
        self._readers: list[PartitionReader] = []
        self._appenders: list[PartitionAppender] = []

    @classmethod
    @asynccontextmanager
    async def on(cls, kafka: str) -> AsyncIterator[KafkaBackend]:
        async with Scene.on(kafka) as scene:
            backend = cls(scene)
            try:
                yield backend
            finally:
                for reader in backend._readers:
                    await reader.close()
                for appender in backend._appenders:
                    await appender.discard()

    async def reader(self, offset: int) -> LogReader:
        reader = PartitionReader(
            kafka=KafkaConnection.plain(self._scene.kafka),
            topic=self._topic,
            partition=PARTITION,
            client_id="conformance",
        )
        self._readers.append(reader)
        await reader.start(offset)
        return reader

    async def appender(self) -> LogAppender:
        appender = PartitionAppender(
            kafka=KafkaConnection.plain(self._scene.kafka),
            topic=self._topic,
            partition=PARTITION,
            client_id="conformance",
        )
        await appender.start()
        self._appenders.append(appender)
        return appender

    async def trim(self, before: int) -> None:
        await delete_records(KafkaConnection.plain(self._scene.kafka), self._topic, {PARTITION: before})

    async def append_in_a_transaction(self, record: Encoded) -> int:
        async with self._scene.plain_producer(transactional_id=f"tx-{uuid4()}") as producer, producer.transaction():
            done = await producer.send_and_wait(
                self._topic, value=record.value, key=record.key, headers=record.headers, partition=PARTITION
            )
        offset = int(done.offset)
        reader = await self.reader(offset)
        while (await reader.bounds())[1] < offset + 2:  # the broker answers a commit before its marker is written
            await asyncio.sleep(0.01)
        return offset

    async def append_undecodable(self) -> int:
        return await put_undecodable(self._scene.kafka, self._topic, PARTITION)


async def append(appender: LogAppender, outcomes: Sequence[Stamped], timeout_s: float) -> int:
    """Append the outcomes as one batch and return its acknowledged offset."""
    batch = appender.new_batch()
    for outcome, stamp in outcomes:
        batch.add(outcome, stamp, SOURCE)
    return await appender.append(batch, timeout_s)


def on_simulated(check: Check) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await check(SimulatedBackend())

    run_simulated(1, lambda loop: main())


def on_kafka(kafka: str, check: Check) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), KafkaBackend.on(kafka) as backend:
            await check(backend)

    asyncio.run(main())
