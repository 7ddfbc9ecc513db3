"""The embedded stack on real servers: it starts, keeps its data, refuses a second holder, and survives kills."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from devstack.class_cache import make_class_cache
from devstack.errors import FolderTakenError, PortTakenError, ServerFailedError
from devstack.folder import FolderLock
from devstack.jars import kafka_jars
from devstack.kafka import KafkaCluster
from devstack.postgres import LOG_NOISE, PostgresServer
from devstack.process import wait_gone
from devstack.stack import Stack
from tests.support.hostile import SHELL

DEADLINE_S = 60
ROOT = Path(__file__).parents[3]


async def create_topic(servers: str, name: str, *, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await asyncio.wait_for(admin.start(), DEADLINE_S)
    try:
        await asyncio.wait_for(admin.create_topics([NewTopic(name, 1, replicas)]), DEADLINE_S)
    finally:
        await asyncio.wait_for(admin.close(), DEADLINE_S)


async def min_insync_replicas(servers: str, topic: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await asyncio.wait_for(admin.start(), DEADLINE_S)
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                # The broker may not have heard of the new topic yet; then it returns no entries.
                [answer] = await admin.describe_configs([resource])
                entries = {entry[0]: entry[1] for entry in answer.resources[0][4]}
                if "min.insync.replicas" in entries:
                    return str(entries["min.insync.replicas"])
                await asyncio.sleep(0.05)
    finally:
        await asyncio.wait_for(admin.close(), DEADLINE_S)


async def produce(servers: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await asyncio.wait_for(producer.start(), DEADLINE_S)
    try:
        await asyncio.wait_for(producer.send_and_wait(topic, value), DEADLINE_S)
    finally:
        await asyncio.wait_for(producer.stop(), DEADLINE_S)


async def read_back(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await asyncio.wait_for(consumer.start(), DEADLINE_S)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await asyncio.wait_for(consumer.stop(), DEADLINE_S)


def rows(dsn: str) -> list[int]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM kept ORDER BY n")]


def insert(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.execute(statement.encode())


def compute_until_killed(dsn: str) -> None:
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT count(*) FROM generate_series(1, 1e12::bigint) WHERE random() < 0")


def until_computing(dsn: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            found = connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%'"
                " AND pid <> pg_backend_pid()"
            )
            if found.fetchone() is not None:
                return
            time.sleep(0.02)
    raise AssertionError("the query never ran")


def test_a_restart_keeps_data_and_addresses_and_the_folder_has_one_holder(tmp_path: Path) -> None:
    async def first_run() -> tuple[str, str]:
        async with Stack(tmp_path) as stack:
            await create_topic(stack.bootstrap_servers, "kept")
            await produce(stack.bootstrap_servers, "kept", b"one")
            insert(stack.postgres_dsn, "CREATE TABLE kept AS SELECT 1 AS n")
            with pytest.raises(FolderTakenError, match=f"process {os.getpid()} "):
                await Stack(tmp_path).start()
            # The refused start must not have touched the running servers.
            assert rows(stack.postgres_dsn) == [1]
            return stack.bootstrap_servers, stack.postgres_dsn

    async def second_run() -> tuple[str, str]:
        stack = Stack(tmp_path)
        await stack.start()
        assert await read_back(stack.bootstrap_servers, "kept", 1) == [b"one"]
        assert rows(stack.postgres_dsn) == [1]
        processes = [psutil.Process(pid) for pid in (stack.kafka.brokers[0].pid, stack.postgres.pid) if pid]
        assert len(processes) == 2
        assert await stack.stop(), "a server had to be killed"
        assert wait_gone(processes, timeout_s=0) == []
        return stack.bootstrap_servers, stack.postgres_dsn

    assert asyncio.run(first_run()) == asyncio.run(second_run())


def test_a_killed_broker_comes_back_with_what_it_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = KafkaCluster(tmp_path)
        await cluster.start()
        try:
            [broker] = cluster.brokers
            servers = cluster.bootstrap_servers
            await create_topic(servers, "kept")
            await produce(servers, "kept", b"before")
            killed_pid = broker.pid
            await broker.kill()
            assert not broker.is_running
            assert broker.process is not None
            assert broker.process.exit_code == -signal.SIGKILL

            port = int(servers.rpartition(":")[2])
            with (
                socket.create_server(("127.0.0.1", port)),
                pytest.raises(PortTakenError, match="in use by another program"),
            ):
                await broker.start()

            await broker.restart()
            assert broker.pid not in (None, killed_pid)
            assert cluster.bootstrap_servers == servers
            await produce(servers, "kept", b"after")
            assert await read_back(servers, "kept", 2) == [b"before", b"after"]
        finally:
            await cluster.stop()

    asyncio.run(scenario())


@pytest.mark.proof
def test_the_class_cache_is_made_once_and_brokers_start_from_it(tmp_path: Path) -> None:
    jars = kafka_jars()[0].parent
    own = tmp_path / "cache" / jars.name
    own.mkdir(parents=True)
    for jar in jars.glob("*.jar"):
        shutil.copy2(jar, own)
    cache = make_class_cache(tmp_path / "cache")
    assert cache is not None
    made = cache.stat()
    assert make_class_cache(tmp_path / "cache") == cache
    assert cache.stat() == made

    async def scenario() -> None:
        cluster = KafkaCluster(tmp_path / "kafka", cache_dir=tmp_path / "cache")
        await cluster.start()
        try:
            maps = Path(f"/proc/{cluster.brokers[0].pid}/maps").read_text()
            assert str(cache) in maps, "Java did not accept it"
        finally:
            await cluster.stop()

    asyncio.run(scenario())


def test_three_brokers_go_on_acknowledging_with_one_of_them_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = KafkaCluster(tmp_path, brokers=3)
        await cluster.start()
        try:
            servers = cluster.bootstrap_servers
            assert len(servers.split(",")) == 3
            await create_topic(servers, "kept", replicas=3)
            assert await min_insync_replicas(servers, "kept") == "2"
            await produce(servers, "kept", b"three alive")
            await cluster.brokers[0].kill()
            await produce(servers, "kept", b"two alive")
            await cluster.brokers[0].restart()
            assert await read_back(cluster.brokers[0].bootstrap_server, "kept", 2) == [
                b"three alive",
                b"two alive",
            ]
        finally:
            # A clean stop of three takes seconds, and is not part of this test.
            for broker in cluster.brokers:
                await broker.kill()

    asyncio.run(scenario())


def test_nothing_outlives_a_killed_parent_and_the_next_start_finds_its_data(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from devstack.stack import Stack

        async def main():
            stack = Stack(Path(sys.argv[1]))
            await stack.start()
            print(stack.kafka.brokers[0].pid, stack.postgres.pid, stack.postgres_dsn, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        kafka_pid, postgres_pid, dsn = parent.stdout.readline().split()
        insert(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        servers = [psutil.Process(int(kafka_pid)), psutil.Process(int(postgres_pid))]
    finally:
        parent.kill()
        parent.wait()
    assert wait_gone(servers, timeout_s=120) == []

    async def next_start() -> None:
        async with Stack(tmp_path) as stack:
            assert rows(stack.postgres_dsn) == [7]

    asyncio.run(next_start())


def test_a_broker_that_does_not_come_up_is_reported_with_its_last_log_lines(tmp_path: Path) -> None:
    async def scenario() -> None:
        stack = Stack(tmp_path)
        await stack.start()
        await stack.stop()
        identity = tmp_path / "kafka" / "broker-1" / "data" / "meta.properties"
        identity.write_text(identity.read_text().replace("node.id=1", "node.id=9"))
        with pytest.raises(ServerFailedError) as failure:
            await stack.start()
        assert "Kafka broker 1 ended while starting" in failure.value.sentence
        assert "9" in failure.value.log_tail
        assert "node" in failure.value.log_tail
        assert failure.value.log_path.name == "server.log"
        assert not stack.postgres.is_running, "the other server was left running"
        folder = FolderLock(tmp_path)
        folder.acquire()  # the failed start released it
        folder.release()

    asyncio.run(scenario())


def test_a_broker_that_hangs_while_it_starts_is_given_up_with_its_last_log_lines(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = KafkaCluster(tmp_path)
        starting = asyncio.create_task(cluster.start(silence_s=3.0))
        await until_spawned(lambda: cluster.brokers[0].pid if cluster.brokers else None, starting)
        os.kill(cluster.brokers[0].pid or 0, signal.SIGSTOP)
        with pytest.raises(
            ServerFailedError, match="Kafka broker 1 is not ready, and has shown no sign of life for 3 s"
        ):
            await starting
        assert not cluster.brokers[0].is_running

    asyncio.run(scenario())


def test_a_postgres_that_hangs_while_it_starts_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = PostgresServer(tmp_path)
        starting = asyncio.create_task(server.start(silence_s=3.0))
        await until_spawned(lambda: server.pid, starting)
        os.kill(server.pid or 0, signal.SIGSTOP)
        with pytest.raises(ServerFailedError, match="PostgreSQL is not ready, and has shown no sign of life for 3 s"):
            await starting
        assert not server.is_running

    asyncio.run(scenario())


async def until_spawned(pid: Callable[[], int | None], starting: asyncio.Task[None]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while pid() is None and not starting.done():
            await asyncio.sleep(0.001)
    assert pid() is not None


def test_a_killed_postgres_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = PostgresServer(tmp_path / ("a-long-folder-name" * 8))
        await server.start()
        try:
            dsn = server.dsn
            insert(dsn, "CREATE TABLE kept AS SELECT generate_series(1, 3) AS n")
            open_session = psycopg.connect(dsn)
            open_session.execute("INSERT INTO kept VALUES (4)")
            # A session that computes does not notice the server's death, and would prevent the next start.
            busy = asyncio.create_task(asyncio.to_thread(compute_until_killed, dsn))
            await asyncio.to_thread(until_computing, dsn)
            await server.kill()
            await asyncio.wait_for(busy, DEADLINE_S)
            open_session.close()
            assert server.pid is None
            await server.start()
            assert server.dsn == dsn
            assert rows(dsn) == [1, 2, 3]
            said = {LOG_NOISE.sub("", line) for line in server.log_path.read_text().splitlines()}
            assert " LOG:  database system is ready to accept connections" in said, "its lines are never the same"
            with psycopg.connect(dsn, host=str(server.socket_folder)) as over_socket:
                row = over_socket.execute("SELECT inet_server_addr()").fetchone()
                assert row == (None,)
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_postgres_wants_its_password_and_starts_whatever_the_shell_says_of_other_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (SHELL | {"PGSSLMODE": "verify-full", "PGSERVICE": "elsewhere"}).items():
        monkeypatch.setenv(variable, value)

    async def scenario() -> None:
        server = PostgresServer(tmp_path)
        await server.start()
        try:
            monkeypatch.undo()
            without = f"postgresql://gapless@127.0.0.1:{server.port}/gapless"
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(without)
            with psycopg.connect(server.dsn) as connection:
                settings = connection.execute(
                    "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
                ).fetchone()
            assert settings == ("on", "on")
        finally:
            await server.stop()
        assert (tmp_path / "password").stat().st_mode & 0o077 == 0

    asyncio.run(scenario())


def test_the_servers_of_the_session_answer_and_databases_are_ones_own(kafka: str, database: str) -> None:
    asyncio.run(create_topic(kafka, "test-devstack-session"))
    asyncio.run(produce(kafka, "test-devstack-session", b"here"))
    with psycopg.connect(database) as connection:
        names = connection.execute("SELECT current_database()").fetchone()
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert names is not None
    assert str(names[0]).startswith("test_")
    assert tables == (0,)
