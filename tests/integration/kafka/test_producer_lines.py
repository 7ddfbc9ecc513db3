"""The producer's lines on a real broker: the order of records, and groups that stay together."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from schemas.wire.encoding import Encoded
from services.runtime.kafka import producer as producer_module
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaError, KafkaUnavailable
from services.runtime.kafka.producer import Producer
from tests.support.sequencing import Scene, until


class Told:
    """What the producer reported about each append, by its number."""

    def __init__(self) -> None:
        self.offsets: dict[int, int] = {}
        self.errors: dict[int, KafkaError] = {}

    def of(self, number: int, offset: int, error: KafkaError | None) -> None:
        assert number not in self.offsets | self.errors, "each is told once"
        if error is None:
            self.offsets[number] = offset
        else:
            self.errors[number] = error


async def values(scene: Scene, partition: int, count: int) -> list[bytes | None]:
    reader = await scene.reader(scene.names.commands, partition)
    found: list[bytes | None] = []
    while len(found) < count:
        found += [record.value for record in await reader.read(max_records=1_000, timeout_s=60.0)]
    return found


def test_a_partitions_records_stand_in_the_order_they_came_and_each_is_told_its_offset(kafka: str) -> None:
    """Some are appended in one turn of the loop, some behind a batch in flight, some in groups."""

    async def main() -> None:
        async with asyncio.timeout(60), Scene.on(kafka) as scene:
            producer, told = Producer(kafka=KafkaConnection.plain(kafka), client_id="test"), Told()
            wanted: dict[int, list[bytes]] = {0: [], 1: []}
            expected: dict[int, int] = {}
            for number in range(600):
                partition, group = number % 2, 1 + number % 3
                expected[number] = len(wanted[partition])
                texts = [b"%d.%d" % (number, n) for n in range(group)]
                wanted[partition] += texts
                producer.append(
                    scene.names.commands,
                    partition,
                    [Encoded(b"k", text, []) for text in texts],
                    10.0,
                    partial(told.of, number),
                )
                if number % 50 == 0:
                    await asyncio.sleep(0.001)
            assert len(told.offsets) < 600, "nobody waited for anybody"
            await until(lambda: len(told.offsets) == 600, "all are acknowledged")
            assert told.offsets == expected
            for partition, texts in wanted.items():
                assert await values(scene, partition, len(texts)) == texts
            await producer.stop()

    asyncio.run(main())


def test_no_batch_outgrows_what_the_topic_takes_and_a_group_is_never_cut(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`max.message.bytes` of chat.commands is 400,000. The broker would refuse a batch of unlimited size."""

    async def main() -> None:
        async with asyncio.timeout(60), Scene.on(kafka) as scene:
            batches: list[int] = []
            take = producer_module._take

            def noted(waiting: object) -> list[object]:
                taken: list[object] = take(waiting)  # type: ignore[arg-type, assignment]
                batches.append(len(taken))
                return taken

            monkeypatch.setattr(producer_module, "_take", noted)
            producer, told = Producer(kafka=KafkaConnection.plain(kafka), client_id="test"), Told()
            group = [Encoded(b"k", b"x" * 50_000, []) for _ in range(3)]
            for number in range(8):
                producer.append(scene.names.commands, 0, group, 10.0, partial(told.of, number))
            await until(lambda: len(told.offsets) == 8, "all are acknowledged")
            assert batches == [2, 2, 2, 2], "two groups of 150,000 bytes fit, a third does not"
            assert told.offsets == {number: 3 * number for number in range(8)}
            await producer.stop()

    asyncio.run(main())


def test_who_waits_for_a_producer_that_is_stopped_is_told_that_nothing_was_handed_over(kafka: str) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Scene.on(kafka) as scene:
            producer = Producer(kafka=KafkaConnection.plain(kafka), client_id="test")
            await producer.send(scene.names.commands, 0, Encoded(b"k", b"v", []), 5.0)
            await producer.stop()
            with pytest.raises(KafkaUnavailable, match="stopped"):
                await producer.send(scene.names.commands, 0, Encoded(b"k", b"v", []), 5.0)

    asyncio.run(main())
