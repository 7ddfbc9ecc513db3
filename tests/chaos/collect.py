"""Reads the final state when a run is over: both topics from beginning to end, and the read model."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg.rows import dict_row

from tests.chaos.evidence import Record, Rows
from tests.chaos.kafka_clients import START_TIMEOUT_S, as_record, in_time
from tests.chaos.rows import KEYS

READ_TIMEOUT_S: Final = 180.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def read_topic(kafka: str, topic: str, partitions: int) -> list[Record]:
    """Return every record that is in the topic now.

    Raises TimeoutError if its end is not reached in time.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="none")
    await in_time(START_TIMEOUT_S, consumer.start())
    try:
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(tps)
        ends = await in_time(START_TIMEOUT_S, consumer.end_offsets(tps))
        for tp in tps:
            consumer.seek(tp, 0)
        found: list[Record] = []
        open_tps = {tp for tp in tps if ends[tp] > 0}
        deadline = time.monotonic() + READ_TIMEOUT_S
        while open_tps:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} was not read to its end: {open_tps} are left")
            for raws in (await consumer.getmany(*open_tps, timeout_ms=1000, max_records=5000)).values():
                found += [as_record(raw) for raw in raws]
            for tp in list(open_tps):
                if await consumer.position(tp) >= ends[tp]:
                    open_tps.discard(tp)
        return found
    finally:
        await in_time(5.0, consumer.stop())


async def end_offsets(kafka: str, topic: str, partitions: int) -> dict[int, int]:
    """Return partition → the offset that the next record will get."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await in_time(START_TIMEOUT_S, consumer.start())
    try:
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends = await in_time(START_TIMEOUT_S, consumer.end_offsets(tps))
        return {tp.partition: end for tp, end in ends.items()}
    finally:
        await in_time(5.0, consumer.stop())


async def projected(postgres: str) -> dict[int, tuple[int, int]]:
    """Return partition → (next offset, offset of the last decided command) of the projection."""
    async with await psycopg.AsyncConnection.connect(postgres, connect_timeout=5) as connection:
        cursor = await connection.execute(
            "SELECT partition, next_offset, command_offset FROM chat.projection_positions"
        )
        return {partition: (offset, command) for partition, offset, command in await cursor.fetchall()}


async def until_quiet(kafka: str, postgres: str, commands: str, events: str, partitions: int, timeout_s: float) -> None:
    """Wait until every command is decided and every outcome projected.

    Raises TimeoutError with what is left.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        decided = await end_offsets(kafka, commands, partitions)
        logged = await end_offsets(kafka, events, partitions)
        stands = await projected(postgres)
        left = {
            p: {"events": (logged[p], stands.get(p)), "commands": decided[p]}
            for p in range(partitions)
            if (logged[p] > 0 or decided[p] > 0) and stands.get(p) != (logged[p], decided[p] - 1)
        }
        if not left:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s:g} s something is still undecided or not projected: {left}")
        await asyncio.sleep(0.5)


async def read_tables(postgres: str) -> dict[str, Rows]:
    """Return the tables of the read model that are judged, every column that readers can see, in one snapshot."""
    async with await psycopg.AsyncConnection.connect(postgres, connect_timeout=5, row_factory=dict_row) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        tables: dict[str, Rows] = {}
        for table in KEYS:
            rows: list[dict[str, Any]] = await (
                await connection.execute(f"SELECT * FROM chat.{table}".encode())
            ).fetchall()
            tables[table] = [{name: _plain(value) for name, value in row.items()} for row in rows]
        return tables


def _plain(value: Any) -> Any:
    """Return an id as text and a time as ms since 1970."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(milliseconds=1)
    return value
