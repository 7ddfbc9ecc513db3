"""Many partitions through one client, on real brokers: each in order from its offset, also after a broker was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from devstack.kafka import KafkaCluster
from schemas.topics import TopicNames, topic_specs
from schemas.wire.encoding import Encoded, Record
from services.runtime.kafka import partitions_reader
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.runtime.kafka.partitions_reader import PartitionsReader
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topics import create_topics
from tests.support.sequencing import Scene

DEADLINE_S: Final = 180.0
PARTITIONS: Final = 4


def numbered(number: int) -> Encoded:
    return Encoded(b"k", b"%d" % number, [])


class Following:
    """A reader, and what it has read."""

    def __init__(self, kafka: str, topic: str) -> None:
        self.reader = PartitionsReader(kafka=KafkaConnection.plain(kafka), topic=topic, client_id="test")
        self.read: dict[int, list[Record]] = {}

    async def until(self, condition: Callable[[], bool], *, max_records: int = 100) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, {partition: len(found) for partition, found in self.read.items()}
            for partition, records in (await self.reader.read(max_records=max_records, timeout_s=0.5)).items():
                assert 0 < len(records) <= max_records
                self.read.setdefault(partition, []).extend(records)

    def offsets(self) -> Mapping[int, list[int]]:
        return {partition: [record.offset for record in records] for partition, records in self.read.items()}

    def count(self) -> int:
        return sum(map(len, self.read.values()))


async def fill(scene: Scene, counts: Mapping[int, int]) -> None:
    for partition, count in counts.items():
        for number in range(count):
            await scene.producer.send(scene.names.events, partition, numbered(number), 30.0)


def test_each_partition_is_read_from_its_offset_and_on_as_records_come(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=PARTITIONS) as scene:
            await fill(scene, {0: 5, 1: 3, 3: 4})
            following = Following(kafka, scene.names.events)
            await following.reader.start({0: 2, 1: 3, 2: 0, 3: 0})
            await following.until(lambda: following.count() == 3 + 4, max_records=2)
            assert following.offsets() == {0: [2, 3, 4], 3: [0, 1, 2, 3]}
            await fill(scene, {0: 2, 1: 2, 2: 1})
            await following.until(lambda: following.count() == 7 + 5)
            assert following.offsets() == {0: [2, 3, 4, 5, 6], 1: [3, 4], 2: [0], 3: [0, 1, 2, 3]}
            assert [record.value for record in following.read[1]] == [b"0", b"1"]
            await following.reader.close()

    asyncio.run(main())


def test_one_that_the_log_does_not_hold_is_lost_and_one_that_is_dropped_ends_and_the_others_go_on(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=PARTITIONS) as scene:
            await fill(scene, {0: 1, 1: 1, 2: 1})
            following = Following(kafka, scene.names.events)
            await following.reader.start({0: 0, 1: 9, 2: 0})
            await following.until(lambda: following.count() == 2 and 1 in following.reader.lost)
            assert "does not hold offset 9" in str(following.reader.lost[1])
            following.reader.drop(2)
            await fill(scene, {1: 1, 2: 1, 0: 1})
            await following.until(lambda: following.count() == 3)
            assert following.offsets() == {0: [0, 1], 2: [0]}
            await following.reader.close()

    asyncio.run(main())


def test_a_partition_that_is_read_too_slowly_waits_and_nothing_of_it_is_left_out(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions_reader, "PARTITION_BYTES", 200)

    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            await fill(scene, {0: 30, 1: 3})
            following = Following(kafka, scene.names.events)
            await following.reader.start({0: 0, 1: 0})
            await following.until(lambda: following.count() == 33, max_records=1)
            assert following.offsets() == {0: list(range(30)), 1: list(range(3))}
            await following.reader.close()

    asyncio.run(main())


def test_reading_goes_on_after_each_broker_was_killed(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = KafkaCluster(tmp_path, brokers=3)
        await cluster.start()
        producer = Producer(kafka=KafkaConnection.plain(cluster.bootstrap_servers), client_id="test")
        try:
            topic = TopicNames().events
            specs = topic_specs(TopicNames(), partitions=6, reply_partitions=1, replication_factor=3)
            await create_topics(KafkaConnection.plain(cluster.bootstrap_servers), specs)
            following = Following(cluster.bootstrap_servers, topic)
            await following.reader.start(dict.fromkeys(range(6), 0))
            acknowledged: dict[int, list[int]] = {partition: [] for partition in range(6)}
            for number, broker in enumerate(cluster.brokers):
                await broker.kill()
                for partition in range(6):
                    acknowledged[partition].append(await _sent(producer, topic, partition, number))
                await broker.start()
                await following.until(lambda: _has(following.offsets(), acknowledged))
            for partition, offsets in following.offsets().items():
                assert offsets == list(range(len(offsets))), partition
            await following.reader.close()
        finally:
            await producer.stop()
            await cluster.stop()

    asyncio.run(main())


def _has(read: Mapping[int, list[int]], acknowledged: Mapping[int, list[int]]) -> bool:
    return all(set(offsets) <= set(read.get(partition, ())) for partition, offsets in acknowledged.items())


async def _sent(producer: Producer, topic: str, partition: int, number: int) -> int:
    """Return the offset of a record, which is sent until it is acknowledged."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await producer.send(topic, partition, numbered(number), 5.0)
            except (AppendUnknown, KafkaUnavailable):
                await asyncio.sleep(0.1)
