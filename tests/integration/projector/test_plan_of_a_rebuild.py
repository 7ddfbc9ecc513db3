"""A plan on real servers: its figures are those of the rebuild that follows, and it leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from services.projector.versions.migrations import create_projection
from services.projector.versions.plan import Plan, plan
from services.runtime.postgres.pool import Connection
from tests.support.projection import empty
from tests.support.proving import feed_to_end
from tests.support.versions import World, world

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _everything(connection: Connection) -> dict[str, Any]:
    """Return each relation of the database with its file, and each row of every table that is ours."""
    found: dict[str, Any] = {}
    relations = await (
        await connection.execute(
            "SELECT n.nspname, c.relname, c.relkind::text, c.oid, c.relfilenode FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <>"
            " 'information_schema' ORDER BY 1, 2"
        )
    ).fetchall()
    found["relations"] = relations
    for schema, name, kind, *_ in relations:
        if kind == "r":
            rows = sql.SQL("SELECT t::text, xmin::text FROM {} t ORDER BY 1").format(sql.Identifier(schema, name))
            found[f"{schema}.{name}"] = await (await connection.execute(rows)).fetchall()
    for catalogue in ("pg_namespace", "pg_policy", "pg_proc", "pg_constraint"):
        row = await (await connection.execute(f"SELECT count(*) FROM {catalogue}".encode())).fetchone()
        found[catalogue] = row
    return found


async def _plan(w: World, version: int = 2) -> Plan:
    return await plan(version, kafka=w.kafka, postgres=w.postgres)


async def _fed(w: World) -> None:
    for log in w.logs:
        await feed_to_end(w.kafka, w.pool, log.partition, version=1, max_records=1_000)


async def test_a_plan_changes_nothing_in_the_database(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        await _fed(w)
        async with w.pool.connection() as connection:
            await create_projection(connection, 2)
            before = await _everything(connection)
            for version in (1, 2, 3):
                made = await _plan(w, version)
                assert made.sample is not None
                assert made.sample.rows > 0
            assert await _everything(connection) == before


async def test_a_rebuild_does_what_its_plan_says(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(400)
        await _fed(w)
        made = await _plan(w)
        assert (made.exists, made.serving, made.refusal, made.there_bytes) == (None, 1, None, 0)
        assert made.ends == {log.partition: len(log.events) for log in w.logs}
        done = await w.rebuild()
        assert done.records_done == made.records
        async with w.pool.connection() as connection:
            for name, rows, size_bytes in made.tables:
                count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("chat_v2", name))
                assert (await (await connection.execute(count)).fetchone()) == (rows,), name
                size = "SELECT pg_total_relation_size(%s::regclass)"
                row = await (await connection.execute(size, [f"chat_v2.{name}"])).fetchone()
                assert row is not None
                assert size_bytes / 4 <= row[0] <= size_bytes * 4, name
        after = await _plan(w)
        assert (after.records, after.there_bytes > 0) == (0, True)
        assert (await _plan(w, 1)).refusal == "chat_v1 is what readers see now"


async def test_if_the_serving_version_is_empty_the_sample_says_what_to_expect(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        await _fed(w)
        expected = {table.name: table.rows for table in (await _plan(w)).tables}
        async with w.pool.connection() as connection:
            await empty(connection, 1)
        by_sample = {table.name: table.rows for table in (await _plan(w)).tables}
        assert by_sample["chat_messages"] == expected["chat_messages"]


async def test_the_plan_of_an_empty_log_claims_no_time(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        made = await _plan(w)
        assert (made.records, made.sample, made.eta_s, made.tables) == (0, None, None, ())
