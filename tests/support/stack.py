"""Real servers for the tests: one Kafka and one PostgreSQL per test session, each started on first use.

`GAPLESS_TEST_STACK` chooses: `embedded` (devstack), `containers` (Docker, by testcontainers), or `auto`, the default:
containers if a Docker engine answers, else embedded.

Brokers of both kinds run with the settings of devstack/kafka_config.behaviour. The container path was written on a
machine without a Docker engine and has not been run yet; the embedded path runs everywhere.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from devstack.broker import registered_brokers
from devstack.jars import KAFKA_VERSION
from devstack.kafka import KafkaCluster
from devstack.kafka_config import behaviour
from devstack.ports import choose_ports
from devstack.postgres import DATABASE, SUPERUSER, PostgresServer

KINDS = ("auto", "embedded", "containers")
KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
POSTGRES_IMAGE = "postgres:18.4-trixie"
READY_TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.1


def stack_kind() -> str:
    """Return `embedded` or `containers`, by GAPLESS_TEST_STACK and the Docker engine's presence."""
    wanted = os.environ.get("GAPLESS_TEST_STACK", "auto")
    if wanted not in KINDS:
        raise RuntimeError(f"GAPLESS_TEST_STACK is {wanted!r}: set it to one of {', '.join(KINDS)}.")
    if wanted != "auto":
        return wanted
    return "containers" if docker_answers() else "embedded"


def docker_answers() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=2)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


@contextmanager
def kafka_server() -> Iterator[str]:
    """Run a one-broker Kafka; yields its bootstrap servers."""
    with container_kafka() if stack_kind() == "containers" else embedded_kafka() as servers:
        yield servers


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL; yields the DSN of its database `gapless`, as superuser."""
    with container_postgres() if stack_kind() == "containers" else embedded_postgres() as dsn:
        yield dsn


@contextmanager
def fresh_database(dsn: str) -> Iterator[str]:
    """Create an empty database on the server of `dsn`, yield its DSN, and drop it with all its connections."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield _dsn_of(dsn, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _dsn_of(dsn: str, database: str) -> str:
    parts = conninfo_to_dict(dsn)
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{database}"


@contextmanager
def _temporary_folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"gapless-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def embedded_kafka() -> Iterator[str]:
    with _temporary_folder("kafka") as folder:
        cluster = KafkaCluster(folder)
        asyncio.run(cluster.start())
        try:
            yield cluster.bootstrap_servers
        finally:
            asyncio.run(cluster.stop())


@contextmanager
def embedded_postgres() -> Iterator[str]:
    with _temporary_folder("postgres") as folder:
        server = PostgresServer(folder)
        asyncio.run(server.start())
        try:
            yield server.dsn
        finally:
            asyncio.run(server.stop())


@contextmanager
def container_kafka() -> Iterator[str]:
    """Run Kafka in a container. The broker sends clients its address, so the host's port must be known before it
    starts.
    """
    from testcontainers.core.container import DockerContainer

    [port] = choose_ports(1)
    container = DockerContainer(KAFKA_IMAGE)
    host = container.get_docker_client().host()
    # The image uses its built-in settings only if none is set: one setting makes all of them necessary.
    settings = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        **behaviour(1),
    }
    for key, value in settings.items():
        container.with_env(f"KAFKA_{key.replace('.', '_').upper()}", value)
    container.with_bind_ports(9092, port)
    with container:
        asyncio.run(_kafka_answers(host, port))
        yield f"{host}:{port}"


async def _kafka_answers(host: str, port: int) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while 1 not in await registered_brokers(port, host=host):
            await asyncio.sleep(POLL_INTERVAL_S)


@contextmanager
def container_postgres() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    password = secrets.token_urlsafe(16)
    container = DockerContainer(POSTGRES_IMAGE).with_exposed_ports(5432)
    container.with_envs(
        POSTGRES_USER=SUPERUSER,
        POSTGRES_PASSWORD=password,
        POSTGRES_DB=DATABASE,
        POSTGRES_INITDB_ARGS="--encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8",
    )
    with container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(5432)
        dsn = f"postgresql://{SUPERUSER}:{password}@{host}:{port}/{DATABASE}"
        _postgres_answers(dsn)
        yield dsn


def _postgres_answers(dsn: str) -> None:
    # While the image creates the database, its first server does not listen on TCP.
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=3).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_INTERVAL_S)
        else:
            return
