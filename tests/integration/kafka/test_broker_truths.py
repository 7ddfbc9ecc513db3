"""Real processes on topics that an operator misconfigured: start-up refuses them in one sentence.

A log that is trimmed or replaced behind a running reader is noticed and stops it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import httpx
import psycopg
import pytest

from devstack.kafka import KafkaCluster
from devstack.ports import choose_ports
from schemas.topics import TopicNames, TopicSpec, topic_specs
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.topics import create_topics, delete_records
from tests.support.forked import start_gapless
from tests.support.sequencer_process import SequencerProcess
from tests.support.sequencing import Scene
from tests.support.topic_settings import alter, delete, reassign

SERVICES = ("sequencer", "projector", "ingest")
ENDS_WITHIN_S = 60.0
NOTICED_WITHIN_S = 60.0
SECRET = "a development secret of more than 32 bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Three topics of one test."""

    kafka: str
    names: TopicNames
    commands: TopicSpec
    events: TopicSpec

    @classmethod
    async def made(cls, kafka: str, name: str, *, partitions: int = 2, replication_factor: int = 1) -> Topics:
        names = TopicNames.prefixed(f"{name}.")
        specs = topic_specs(names, partitions=partitions, reply_partitions=2, replication_factor=replication_factor)
        await create_topics(KafkaConnection.plain(kafka), specs)
        return cls(kafka=kafka, names=names, commands=specs[0], events=specs[1])

    def environment(self, folder: Path, **others: str) -> dict[str, str]:
        return {
            **os.environ,
            "GAPLESS_KAFKA_BOOTSTRAP": self.kafka,
            "GAPLESS_KAFKA_TOPIC_PREFIX": self.names.commands.removesuffix("chat.commands"),
            "GAPLESS_KAFKA_PARTITIONS": str(self.commands.partitions),
            "GAPLESS_KAFKA_REPLY_PARTITIONS": "2",
            "GAPLESS_SEQUENCER_STATE_DIR": str(folder / "state"),
            "GAPLESS_JWT_SECRET": SECRET,
            "GAPLESS_HTTP_PORT": "0",
            "GAPLESS_LOG_FORMAT": "json",
            **others,
        }


async def refusal(service: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Return the exit code and the last line of standard error."""
    process = await start_gapless(service, env=environment, stderr=PIPE)
    try:
        _, said = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode().rstrip().splitlines()[-1]


async def refused_by_all(topics: Topics, folder: Path, dsn: str, sentence: str) -> None:
    """Check that each service exits with code 2, and that its last line is a sentence with this in it, no JSON or
    traceback.
    """
    environment = topics.environment(folder, GAPLESS_POSTGRES_DSN=dsn)
    for service in SERVICES:
        code, said = await refusal(service, environment)
        assert code == 2, (service, said)
        assert sentence in said, (service, said)
        assert not said.startswith("{"), "a sentence for a person, not an event"


WRONG_EVENTS = [
    ("cleanup_policy", "compact", "has cleanup.policy=compact; alter it to delete"),
    ("retention_ms", "3600000", "has retention.ms=3600000; alter it to -1"),
    ("retention_bytes", "1000000", "has retention.bytes=1000000; alter it to -1"),
    ("unclean_leader_election_enable", "true", "has unclean.leader.election.enable=true; alter it to false"),
]


@pytest.mark.parametrize(("setting", "value", "sentence"), WRONG_EVENTS)
def test_start_up_refuses_a_log_of_events_that_would_lose_some(
    kafka: str, database: str, tmp_path: Path, setting: str, value: str, sentence: str
) -> None:
    async def main() -> None:
        topics = await Topics.made(kafka, tmp_path.name)
        await alter(kafka, topics.events, **{setting: value})
        await refused_by_all(topics, tmp_path, database, f"{topics.names.events} {sentence}")

    asyncio.run(main())


def test_start_up_refuses_a_log_of_commands_that_expires(kafka: str, tmp_path: Path) -> None:
    """The projector reads no commands; the services that write and decide them refuse."""

    async def main() -> None:
        topics = await Topics.made(kafka, tmp_path.name)
        await alter(kafka, topics.commands, retention_ms="3600000")
        for service in ("sequencer", "ingest"):
            code, said = await refusal(service, topics.environment(tmp_path))
            assert (code, f"{topics.names.commands} has retention.ms=3600000; alter it to -1" in said) == (2, True), (
                said
            )

    asyncio.run(main())


def test_start_up_refuses_unequal_numbers_of_partitions(kafka: str, database: str, tmp_path: Path) -> None:
    """A chat's commands would be decided in one partition while its events are in another."""

    async def main() -> None:
        topics = await Topics.made(kafka, tmp_path.name, partitions=4)
        await delete(kafka, topics.names.events)
        _, fewer, _ = topic_specs(topics.names, partitions=2, reply_partitions=2, replication_factor=1)
        await create_topics(KafkaConnection.plain(kafka), [fewer])
        await refused_by_all(topics, tmp_path, database, f"{topics.names.events} has 2 partitions, not 4")

    asyncio.run(main())


def test_start_up_refuses_a_log_whose_beginning_was_deleted(kafka: str, database: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            chat = await scene.create("cut")
            async with scene.writer(chat.partition):
                await scene.outcome_of(chat.partition, await scene.send(chat, "hi", key="k"))
            await delete_records(KafkaConnection.plain(kafka), scene.names.events, {chat.partition: 2})
            topics = Topics(kafka=kafka, names=scene.names, commands=_of(scene)[0], events=_of(scene)[1])
            await refused_by_all(topics, tmp_path, database, f"{scene.names.events} no longer begins at offset 0")

    asyncio.run(main())


def _of(scene: Scene) -> tuple[TopicSpec, TopicSpec, TopicSpec]:
    return topic_specs(
        scene.names, partitions=scene.partitions, reply_partitions=scene.reply_partitions, replication_factor=1
    )


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the bootstrap servers of a cluster of three."""
    cluster = KafkaCluster(tmp_path_factory.mktemp("three") / "kafka", brokers=3)
    asyncio.run(cluster.start())
    try:
        yield cluster.bootstrap_servers
    finally:
        asyncio.run(cluster.stop())


def test_start_up_refuses_one_replica_in_sync_beside_copies_unless_told(
    three_brokers: str, database: str, tmp_path: Path
) -> None:
    async def main() -> None:
        topics = await Topics.made(three_brokers, tmp_path.name, replication_factor=3)
        await alter(three_brokers, topics.events, min_insync_replicas="1")
        sentence = f"{topics.names.events} has min.insync.replicas=1; alter it to at least 2"
        await refused_by_all(topics, tmp_path, database, sentence)

        told = {"GAPLESS_KAFKA_REPLICATION_FACTOR": "3", "GAPLESS_KAFKA_MIN_INSYNC_REPLICAS": "1"}
        environment = topics.environment(tmp_path, GAPLESS_POSTGRES_DSN=database, **told)
        async with projector(environment) as running:
            assert await reasons(running.url) == []

    asyncio.run(main())


def test_start_up_refuses_fewer_copies_than_the_settings_say_though_it_is_one_partition(
    three_brokers: str, database: str, tmp_path: Path
) -> None:
    """The first partition has three."""

    async def main() -> None:
        topics = await Topics.made(three_brokers, tmp_path.name, replication_factor=3)
        await reassign(three_brokers, topics.events.name, 1, [2])
        environment = topics.environment(tmp_path, GAPLESS_POSTGRES_DSN=database, GAPLESS_KAFKA_REPLICATION_FACTOR="3")
        for service in SERVICES:
            code, said = await refusal(service, environment)
            assert code == 2, said
            assert f"{topics.names.events} has 1 copy of partition 1, not 3" in said

    asyncio.run(main())


def test_topics_with_one_copy_are_made_on_three_brokers_only_if_that_was_said(
    three_brokers: str, tmp_path: Path
) -> None:
    async def main() -> None:
        environment = {
            name: value for name, value in os.environ.items() if name != "GAPLESS_KAFKA_REPLICATION_FACTOR"
        } | {"GAPLESS_KAFKA_BOOTSTRAP": three_brokers, "GAPLESS_KAFKA_TOPIC_PREFIX": f"{tmp_path.name}."}
        code, said = await create_topics_command(environment)
        assert code == 2
        assert said.startswith("GAPLESS_KAFKA_REPLICATION_FACTOR is not set")
        assert "there are 3 brokers" in said
        assert said.endswith("Nothing was created.")
        for copies in ("1", "3"):
            told = {
                "GAPLESS_KAFKA_REPLICATION_FACTOR": copies,
                "GAPLESS_KAFKA_TOPIC_PREFIX": f"{tmp_path.name}.{copies}.",
            }
            code, said = await create_topics_command({**environment, **told})
            assert code == 0, said

    asyncio.run(main())


async def create_topics_command(environment: dict[str, str]) -> tuple[int | None, str]:
    process = await start_gapless(
        "topics", "create", env={**environment, "COLUMNS": "400"}, stdout=DEVNULL, stderr=PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_S)
    return process.returncode, said.decode().strip()


# --- a log that is exchanged behind a running reader --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Projector:
    url: str
    pid: int


@asynccontextmanager
async def projector(environment: dict[str, str]) -> AsyncIterator[Projector]:
    """Run a projector; it must still run at the end."""
    (port,) = choose_ports(1)
    process = await start_gapless("projector", env={**environment, "GAPLESS_OPS_PORT": str(port)})
    try:
        yield Projector(f"http://127.0.0.1:{port}", process.pid)
        assert process.returncode is None, "it goes on, and says what is wrong"
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 120)


async def reasons(url: str, needle: str | None = None) -> list[str]:
    """Return the reasons in /readyz once it is ready, or once one of the reasons contains `needle`."""
    said: list[str] = ["it did not answer"]
    try:
        async with (
            asyncio.timeout(NOTICED_WITHIN_S),
            httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http,
        ):
            while True:
                try:
                    said = (await http.get(f"{url}/readyz")).json()["reasons"]
                except httpx.TransportError:
                    pass
                if (not said and needle is None) or (needle is not None and any(needle in each for each in said)):
                    return said
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"in vain for {needle!r}; it says {said}") from None


def test_a_projector_notices_that_its_log_was_deleted_and_made_again(kafka: str, database: str, tmp_path: Path) -> None:
    """The topic is replaced while the projector is stopped, and filled beyond its position: only the topic's id
    differs.
    """

    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene:
            topics = Topics(kafka=kafka, names=scene.names, commands=_of(scene)[0], events=_of(scene)[1])
            environment = topics.environment(tmp_path, GAPLESS_POSTGRES_DSN=database)
            async with projector({**environment, "GAPLESS_KAFKA_SESSION_TIMEOUT_S": "30"}) as running:
                chat = await scene.create("exchanged")
                async with scene.writer(0):
                    await scene.outcome_of(0, await scene.send(chat, "hi", key="k"))
                assert await reasons(running.url) == []
                await _projected(database, len(await scene.log(0)))
                os.kill(running.pid, signal.SIGSTOP)
                try:
                    await _exchange(scene, records=20)
                finally:
                    os.kill(running.pid, signal.SIGCONT)
                said = next(each for each in await reasons(running.url, "another log") if "another log" in each)
                assert "was folded from topic" in said
                assert "`gapless projection rebuild --to vN`" in said, "it says what to do"
            async with projector(environment) as running:  # nor does a restart forget it
                assert any("another log" in each for each in await reasons(running.url, "another log"))

    asyncio.run(main())


async def _projected(dsn: str, offset: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection, asyncio.timeout(30):
        while True:
            cursor = await connection.execute("SELECT next_offset FROM chat.projection_positions")
            if await cursor.fetchall() == [(offset,)]:
                return
            await asyncio.sleep(0.05)


def test_a_sequencer_notices_that_its_log_was_deleted_and_made_again(kafka: str, tmp_path: Path) -> None:
    """It does not decide all commands anew: clients know answers from the former log."""

    async def main() -> None:
        async with Scene.on(kafka, partitions=1) as scene, SequencerProcess.on(scene, tmp_path) as sequencer:
            chat = await scene.create("exchanged")
            await scene.outcome_of(0, await scene.send(chat, "one", key="k1"))
            await delete(kafka, scene.names.events)
            await create_topics(KafkaConnection.plain(kafka), [_of(scene)[1]])
            await scene.send(chat, "two", key="k2")
            (said,) = await sequencer.until_troubles(
                lambda troubles: any("deleted and made again" in each for each in troubles), "it notices"
            )
            assert said.startswith("partition 0 is stopped: PartitionStopped: the event log was topic")
            assert "Restore the topic from a backup, or restart the sequencers" in said
            assert sequencer.process.returncode is None

    asyncio.run(main())


async def _exchange(scene: Scene, *, records: int) -> None:
    """Replace the topic of events by another one of the same name with its own history."""
    await delete(scene.kafka, scene.names.events)
    await create_topics(KafkaConnection.plain(scene.kafka), [_of(scene)[1]])
    async with scene.writer(0):
        chat = await scene.create("exchanged")
        for n in range(records):
            offset = await scene.send(chat, f"{n}", key=f"other-{n}")
        await scene.outcome_of(0, offset)
