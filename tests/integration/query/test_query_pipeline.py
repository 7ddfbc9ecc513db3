"""Statements sent together, on a real Postgres: rows as psycopg returns them, and the connection after errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import psycopg
import pytest
import uvloop
from psycopg import AsyncConnection
from psycopg.types.numeric import Int8

from services.query.snapshot.pipeline import Pipelines, Row, prepared_statement
from services.runtime.postgres.pool import connect
from tests.support.projection import postgres_of

STATEMENTS = {
    "begin": "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "commit": "COMMIT",
    "values": "SELECT %(n)s::int8, %(text)s::text, %(n)s::int8 + 1, true, ARRAY['a,b', 'ü'], NULL::text,"
    " '2026-01-31 12:00:00.045Z'::timestamptz",
    "series": "SELECT generate_series(1, %(n)s::int8)",
    "nothing": "SELECT 1 WHERE false",
    "wrong": "SELECT 1 / %(n)s::int8",
    "missing": "SELECT * FROM there_is_no_such_table",
    "slow": "SELECT pg_sleep(60)",
    "pid": "SELECT pg_backend_pid()",
}
VALUES: tuple[str, Mapping[str, object]] = ("values", {"n": Int8(7), "text": 'it\'s % ü "$1"'})


def run(postgres: str, test: Callable[[AsyncConnection[Row], Pipelines], Awaitable[None]]) -> None:
    """Run a test on a session of ours, on either event loop."""

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            await connect(postgres_of(postgres), application_name="pipelines", autocommit=True) as session,
        ):
            await test(session, Pipelines(STATEMENTS))

    asyncio.run(main())
    uvloop.run(main())


def test_a_name_that_comes_twice_is_one_parameter() -> None:
    statement = prepared_statement("SELECT %(b)s, %(a)s, %(b)s")
    assert (statement.text, statement.parameters) == (b"SELECT $1, $2, $1", ("b", "a"))


def test_rows_are_those_of_a_cursor_each_time(postgres: str) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        expected = (7, 'it\'s % ü "$1"', 8, True, ["a,b", "ü"], None, datetime(2026, 1, 31, 12, 0, 0, 45_000, UTC))
        statements: list[tuple[str, Mapping[str, object]]]
        statements = [("begin", {}), VALUES, ("series", {"n": Int8(3)}), ("nothing", {}), ("commit", {})]
        for _ in range(3):
            assert await pipelines.run(connection, statements) == [[], [expected], [(1,), (2,), (3,)], [], []]
        large = await pipelines.run(connection, [("series", {"n": Int8(100_000)})])
        assert len(large[0]) == 100_000
        for _ in range(2):  # each takes the socket over from the other
            cursor = await connection.execute("SELECT 1 FROM pg_sleep(0.01)")
            assert await cursor.fetchall() == [(1,)], "psycopg's own way is open as before"
            assert await pipelines.run(connection, [("series", {"n": Int8(2)})]) == [[(1,), (2,)]]

    run(postgres, test)


@pytest.mark.parametrize(
    ("name", "error"), [("wrong", psycopg.errors.DivisionByZero), ("missing", psycopg.errors.UndefinedTable)]
)
def test_the_statement_that_failed_says_why_and_after_a_rollback_all_goes_on(
    postgres: str, name: str, error: type[Exception]
) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        for _ in range(2):  # and what was prepared before the failure can be prepared again
            with pytest.raises(error):
                await pipelines.run(connection, [("begin", {}), VALUES, (name, {"n": Int8(0)}), ("commit", {})])
            await connection.rollback()
        assert len(await pipelines.run(connection, [("begin", {}), VALUES, ("commit", {})])) == 3

    run(postgres, test)


def test_a_value_that_cannot_be_written_leaves_the_connection_as_it_was(postgres: str) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        with pytest.raises(UnicodeEncodeError):
            await pipelines.run(connection, [("series", {"n": Int8(1)}), ("values", {"n": Int8(1), "text": "\ud800"})])
        assert await pipelines.run(connection, [("series", {"n": Int8(1)})]) == [[(1,)]]

    run(postgres, test)


def test_a_connection_that_broke_is_an_operational_error(postgres: str) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        [[(pid,)]] = await pipelines.run(connection, [("pid", {})])
        reading = asyncio.create_task(pipelines.run(connection, [("begin", {}), ("slow", {}), ("commit", {})]))
        async with await AsyncConnection.connect(postgres, autocommit=True) as other:
            ended = "SELECT pg_terminate_backend(%s) FROM pg_stat_activity WHERE pid = %s AND query LIKE '%%pg_sleep%%'"
            while not await (await other.execute(ended, (pid, pid))).fetchall():
                await asyncio.sleep(0.01)
        with pytest.raises(psycopg.OperationalError):
            await reading
        with pytest.raises(psycopg.OperationalError):
            await pipelines.run(connection, [("pid", {})])

    run(postgres, test)


def test_the_number_of_a_socket_that_libpq_closed_is_free_for_another(postgres: str) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        await pipelines.run(connection, [("series", {"n": Int8(100_000)})])
        number = connection.pgconn.socket
        connection.pgconn.finish()
        here, there = socket.socketpair()
        with here, there:
            assert number in (here.fileno(), there.fileno())
            for end, other in ((here, there), (there, here)):
                other.send(b"x")
                woken = asyncio.Event()
                asyncio.get_running_loop().add_reader(end.fileno(), woken.set)
                await woken.wait()
                asyncio.get_running_loop().remove_reader(end.fileno())

    run(postgres, test)


def test_a_read_that_is_cancelled_ends_its_statement_and_the_connection_goes_on(postgres: str) -> None:
    async def test(connection: AsyncConnection[Row], pipelines: Pipelines) -> None:
        [[(pid,)]] = await pipelines.run(connection, [("pid", {})])
        reading = asyncio.create_task(pipelines.run(connection, [("begin", {}), ("slow", {}), ("commit", {})]))
        async with await AsyncConnection.connect(postgres, autocommit=True) as other:
            running = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE '%%pg_sleep%%'"
            while not await (await other.execute(running, (pid,))).fetchall():
                await asyncio.sleep(0.01)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert not await (await other.execute(running, (pid,))).fetchall()
        await connection.rollback()
        assert await pipelines.run(connection, [("pid", {})]) == [[(pid,)]]

    run(postgres, test)
