"""The Kafka clients against a broker that is killed.

These tests cover the uses of aiokafka's private parts (services/runtime/kafka/discard.py), and break when those move.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from devstack.kafka import KafkaCluster
from schemas.events import OtherOutcome
from schemas.log import Stamp
from schemas.topics import TopicNames, topic_specs
from schemas.wire.encoding import Encoded
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable, OffsetMissing, TopicsWrong
from services.runtime.kafka.group import GroupHint
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.reader import PartitionReader
from services.runtime.kafka.topics import check_topics, create_topics, topic_id
from tests.support.group_members import members_of
from tests.support.log_backends import Stamped, append
from tests.support.sequencing import Scene, until

RECORD = Encoded(b"k", b"v", [])


def test_a_discarded_producer_writes_nothing_when_the_broker_returns(tmp_path: Path) -> None:
    """Without the discard the batch lands when the broker is back; that half shows that the test can fail."""

    async def main() -> None:
        async with _cluster(tmp_path) as (cluster, names):
            abandoned = await _appender(cluster, names)
            discarded = await _appender(cluster, names)
            for appender in (abandoned, discarded):
                await append(appender, [_outcome(b"first")], 5.0)
            await cluster.brokers[0].kill()
            began = time.monotonic()
            for appender, value in ((abandoned, b"abandoned"), (discarded, b"discarded")):
                with pytest.raises(AppendUnknown):
                    await append(appender, [_outcome(value)], 0.5)
            assert await discarded.discard()
            assert time.monotonic() - began < 60, "a dead broker does not hold us up"
            await cluster.brokers[0].start()
            seen: list[bytes | None] = []
            reader = _reader(cluster.bootstrap_servers, names.events)
            await reader.start(0)
            deadline = time.monotonic() + 120
            while b"abandoned" not in seen:
                assert time.monotonic() < deadline, "the abandoned producer never wrote: the test shows nothing"
                seen += [r.value for r in await reader.read(max_records=100, timeout_s=0.5)]
            seen += [r.value for r in await reader.read(max_records=100, timeout_s=2.0)]
            assert b"discarded" not in seen
            await reader.close()
            await abandoned.discard()

    asyncio.run(main())


def test_a_producer_renews_itself_after_the_broker_was_away_and_tells_each_caller(tmp_path: Path) -> None:
    async def main() -> None:
        async with _cluster(tmp_path) as (cluster, names):
            producer = Producer(kafka=KafkaConnection.plain(cluster.bootstrap_servers), client_id="test")
            await producer.send(names.commands, 0, RECORD, 5.0)
            await cluster.brokers[0].kill()
            for _ in range(3):
                with pytest.raises((AppendUnknown, KafkaUnavailable)):
                    await producer.send(names.commands, 0, RECORD, 0.5)
            await cluster.brokers[0].start()
            deadline = time.monotonic() + 120
            while True:
                try:
                    await producer.send(names.commands, 0, RECORD, 2.0)
                    break
                except (AppendUnknown, KafkaUnavailable):
                    assert time.monotonic() < deadline, "it never came back"
            began = time.monotonic()
            await producer.stop()
            assert time.monotonic() - began < 60

    asyncio.run(main())


def test_starting_a_client_without_a_broker_ends_in_one_sentence() -> None:
    async def main() -> None:
        nowhere = "127.0.0.1:1"
        producer = Producer(kafka=KafkaConnection.plain(nowhere), client_id="test")
        with pytest.raises(KafkaUnavailable, match="Kafka did not open a producer"):
            await producer.start()
        with pytest.raises(KafkaUnavailable, match="Kafka did not let us read"):
            await _reader(nowhere, "x").start(0)
        with pytest.raises(KafkaUnavailable, match="Kafka did not answer"):
            await topic_id(KafkaConnection.plain(nowhere), "x")

    asyncio.run(main())


def test_a_reader_says_when_the_log_does_not_hold_its_offset(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            reader = await scene.reader(scene.names.commands, 0)
            assert await reader.read(max_records=1, timeout_s=0.2) == []
            await reader.seek(5)
            with pytest.raises(OffsetMissing, match="does not hold offset 5"):
                await _read_on(reader)

    asyncio.run(main())


def test_a_topics_id_is_its_own_and_wrong_topics_are_refused_with_what_to_do(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as one, Scene.on(kafka) as other:
            ids = {
                await topic_id(KafkaConnection.plain(kafka), n)
                for n in (one.names.events, other.names.events, one.names.commands)
            }
            assert len(ids) == 3
            specs = topic_specs(one.names, partitions=8, reply_partitions=2, replication_factor=1)
            with pytest.raises(TopicsWrong, match="has 4 partitions, not 8"):
                await check_topics(KafkaConnection.plain(kafka), one.names, specs)
            right = topic_specs(one.names, partitions=4, reply_partitions=2, replication_factor=1)
            await check_topics(KafkaConnection.plain(kafka), one.names, right)

    asyncio.run(main())


def test_an_idle_group_member_keeps_its_place_beyond_the_poll_interval(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            words: list[frozenset[int]] = []
            hint = GroupHint(
                kafka=KafkaConnection.plain(kafka),
                group_id=f"{scene.names.commands}-group",
                topic=scene.names.commands,
                partitions=scene.partitions,
                client_id="test",
                on_assignment=words.append,
                session_timeout_s=2.0,
                max_poll_interval_s=3.0,
            )
            membership = asyncio.create_task(hint.run())
            await until(lambda: len(words) == 1, "the group speaks")
            until_s = time.monotonic() + 7.0  # the interval is a time, so the test has to last longer than it
            while time.monotonic() < until_s:
                assert hint.partitions == frozenset(range(scene.partitions))
                await asyncio.sleep(0.1)
            assert len(words) == 1, "nobody was thrown out and let in again"
            membership.cancel()
            await asyncio.wait({membership})

    asyncio.run(main())


def test_partitions_beyond_the_logs_are_neither_assigned_nor_served(kafka: str) -> None:
    """The topic has four partitions and the log two.

    The leader of a group assigns its partitions: ours leaves the others out, and a leader of an older release assigns
    all.
    """

    async def main() -> None:
        async with Scene.on(kafka, partitions=4) as scene:
            words: list[frozenset[int]] = []

            def hint_in(group_id: str) -> GroupHint:
                return GroupHint(
                    kafka=KafkaConnection.plain(kafka),
                    group_id=group_id,
                    topic=scene.names.commands,
                    partitions=2,
                    client_id="test",
                    on_assignment=words.append,
                )

            ours = f"{scene.names.commands}-ours"
            async with _running(hint_in(ours)):
                await until(lambda: words == [frozenset({0, 1})], "all partitions of the log are ours")
                assert [*(await members_of(kafka, ours)).values()] == [{0, 1}]

            theirs = f"{scene.names.commands}-theirs"
            older = AIOKafkaConsumer(
                scene.names.commands,
                bootstrap_servers=kafka,
                group_id=theirs,
                partition_assignment_strategy=(RoundRobinPartitionAssignor,),
                heartbeat_interval_ms=200,
            )
            await older.start()
            try:
                await until(lambda: len(older.assignment()) == 4, "the first member leads the group")
                words.clear()
                async with _running(hint_in(theirs)):
                    await until(lambda: bool(words), "the group speaks")
                    assigned = sorted(sorted(given) for given in (await members_of(kafka, theirs)).values())
                    assert assigned == [[0, 2], [1, 3]], "the older release leads"
                    assert words[-1] in ({0}, {1}), "the partition beyond the log's is left out"
            finally:
                await older.stop()

    asyncio.run(main())


@asynccontextmanager
async def _running(hint: GroupHint) -> AsyncIterator[None]:
    membership = asyncio.create_task(hint.run())
    try:
        yield
    finally:
        membership.cancel()
        await asyncio.wait({membership})


def test_a_session_that_the_brokers_refuse_is_made_longer_and_said_so(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tests' broker allows 1 s. If a longer session does not help, it is reported as a trouble."""

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            words: list[frozenset[int]] = []
            troubles: list[str | None] = []
            for session_timeout_s, enough in (
                (0.5, lambda: words and troubles),
                (10_000.0, lambda: troubles != [None]),
            ):
                hint = GroupHint(
                    kafka=KafkaConnection.plain(kafka),
                    group_id=f"{scene.names.commands}-{session_timeout_s}",
                    topic=scene.names.commands,
                    partitions=scene.partitions,
                    client_id="test",
                    on_assignment=words.append,
                    on_trouble=troubles.append,
                    session_timeout_s=session_timeout_s,
                )
                membership = asyncio.create_task(hint.run())
                await until(lambda: bool(enough()), "the group speaks, or says why it does not")  # noqa: B023
                membership.cancel()
                await asyncio.wait({membership})
            assert words == [frozenset(range(scene.partitions))]
            joined, refused = troubles[:2]
            assert joined is None, "the first one is a member"
            assert refused is not None
            assert "GAPLESS_KAFKA_SESSION_TIMEOUT_S" in refused

    asyncio.run(main())
    said = capsys.readouterr()
    advice = [line for line in (said.out + said.err).splitlines() if "session of 0.5 s" in line]
    assert len(advice) == 1, "it is told once"
    assert "group.min.session.timeout.ms" in advice[0]
    assert "GAPLESS_KAFKA_SESSION_TIMEOUT_S" in advice[0]


def _outcome(body: bytes) -> Stamped:
    return OtherOutcome("message.sent.v1", 1_700_000_000_000, body, key=b"k"), Stamp(1, 1, 1)


@asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[tuple[KafkaCluster, TopicNames]]:
    cluster = KafkaCluster(folder)
    await cluster.start()
    names = TopicNames()
    try:
        specs = topic_specs(names, partitions=1, reply_partitions=1, replication_factor=1)
        await create_topics(KafkaConnection.plain(cluster.bootstrap_servers), specs)
        yield cluster, names
    finally:
        await cluster.stop()


async def _appender(cluster: KafkaCluster, names: TopicNames) -> PartitionAppender:
    appender = PartitionAppender(
        kafka=KafkaConnection.plain(cluster.bootstrap_servers), topic=names.events, partition=0, client_id="test"
    )
    await appender.start()
    return appender


async def _read_on(reader: PartitionReader) -> None:
    for _ in range(50):
        await reader.read(max_records=1, timeout_s=0.2)


def _reader(servers: str, topic: str) -> PartitionReader:
    return PartitionReader(kafka=KafkaConnection.plain(servers), topic=topic, partition=0, client_id="test")
