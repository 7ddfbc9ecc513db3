"""Support for the verifiers' tests: a separate log on the real Kafka, and its projection in the real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from schemas.topics import TopicNames, topic_specs
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import FEEDS, Feed
from services.projector.versions.migrations import migrate
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topics import create_topics
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.chat_log import ChatLog, LogRecord


def kafka_settings(bootstrap_servers: str, *, partitions: int = 1) -> KafkaSettings:
    """Return settings of a log that no other test uses."""
    return KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        partitions=partitions,
        reply_partitions=1,
        topic_prefix=f"t{uuid4().hex[:8]}.",
    )


def postgres_settings(dsn: str) -> PostgresSettings:
    return PostgresSettings.model_validate({"dsn": dsn})


async def create_log(kafka: KafkaSettings) -> TopicNames:
    """Create all three topics with the production settings."""
    names = TopicNames.prefixed(kafka.topic_prefix)
    specs = topic_specs(
        names, partitions=kafka.partitions, reply_partitions=kafka.reply_partitions, replication_factor=1
    )
    await create_topics(kafka.connection, specs)
    return names


async def append(kafka: KafkaSettings, topic: str, partition: int, records: Sequence[LogRecord]) -> None:
    """Append the records in order; fail if their offsets differ."""
    producer = Producer(kafka=kafka.connection, client_id="test")
    await producer.start()
    try:
        for start in range(0, len(records), 500):
            batch = records[start : start + 500]
            offsets = await asyncio.gather(
                *(producer.send(topic, partition, record.encoded(), 20.0) for record in batch)
            )
            assert list(offsets) == [record.offset for record in batch]
    finally:
        await producer.stop()


async def write_log(kafka: KafkaSettings, *logs: ChatLog) -> TopicNames:
    """Create the topics and append the commands and events of each partition."""
    names = await create_log(kafka)
    for log in logs:
        await append(kafka, names.commands, log.partition, log.commands)
        await append(kafka, names.events, log.partition, log.events)
    return names


async def project(kafka: KafkaSettings, postgres: PostgresSettings, *, max_records: int = 7) -> None:
    """Project the whole log into chat_v1, with the projector's own consumer, in small batches."""
    async with open_pool(postgres, application_name="test", autocommit=True) as pool:
        async with pool.connection() as connection:
            await migrate(connection)
        for partition in range(kafka.partitions):
            await feed_to_end(kafka, pool, partition, max_records=max_records)


async def feed_to_end(
    kafka: KafkaSettings,
    pool: PostgresPool,
    partition: int,
    *,
    version: int = 1,
    max_records: int = 7,
    feeds: Sequence[Feed] = FEEDS,
) -> None:
    """Write a partition's tables, and then its search."""
    for feed in feeds:
        consumer = PartitionConsumer(
            version=version, partition=partition, pool=pool, kafka=kafka, topic=TopicId(kafka), feed=feed
        )
        try:
            position = await consumer.open()
            while position.next_offset < consumer.end_offset:
                await consumer.step(max_records=max_records, timeout_s=2.0)
                position = consumer.position
        finally:
            await consumer.close()


@contextmanager
def copy_of(dsn: str) -> Iterator[str]:
    """Yield the DSN of a copy of a database without connections; drop the copy at the end."""
    parts = conninfo_to_dict(dsn)
    server = make_conninfo(dsn, dbname="postgres")
    name = f"copy_{uuid4().hex[:16]}"
    with psycopg.connect(server, autocommit=True) as connection:
        original, copy = sql.Identifier(str(parts["dbname"])), sql.Identifier(name)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(copy, original))
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))


def execute(dsn: str, statement: str, *values: object) -> int:
    """Run a statement as superuser and return how many rows it changed."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(statement.encode(), values).rowcount


def drop_constraints(dsn: str, schema: str = "chat_v1") -> None:
    """Drop all constraints, so that any damage can be planted, as a bad disk or a careless operator would."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE connamespace = %s::regnamespace AND contype <> 'n' ORDER BY contype = 'p'",
            [schema],
        ).fetchall()
        for table, name in found:
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {} CASCADE").format(
                    sql.SQL(table),
                    sql.Identifier(name),
                )
            )
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = %s AND is_nullable = 'NO'",
            [schema],
        ).fetchall()
        for table, name in columns:
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(
                    sql.Identifier(schema, table), sql.Identifier(name)
                )
            )
