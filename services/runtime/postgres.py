"""The Postgres pool of a process: every wait has a deadline, every connection says whose it is."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.runtime.settings import PostgresSettings

Connection = AsyncConnection[TupleRow]
PostgresPool = AsyncConnectionPool[Connection]

IDLE_TRANSACTION_TIMEOUT_S = 60.0
POOL_CLOSE_TIMEOUT_S = 5.0
TCP_USER_TIMEOUT_MS = 10_000
"""How long sent bytes may stay unacknowledged: bounds a vanished host, not a slow statement."""


def connection_info(settings: PostgresSettings, *, application_name: str) -> str:
    """The libpq connection string of a connection with all deadlines set. Holds the password: never log it.

    TCP deadlines close what a vanished server leaves behind; the server cancels a statement that takes longer
    than statement_timeout_s, and a transaction that its client forgot.
    """
    timeouts_ms = {
        "statement_timeout": settings.statement_timeout_s * 1000,
        "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_S * 1000,
    }
    options = " ".join(f"-c {name}={max(1, int(value))}" for name, value in timeouts_ms.items())
    dsn = settings.dsn.get_secret_value()
    given = conninfo_to_dict(dsn).get("options")
    return make_conninfo(
        dsn,
        application_name=application_name,
        connect_timeout=max(1, round(settings.connect_timeout_s)),
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=TCP_USER_TIMEOUT_MS,
        options=f"{given} {options}" if given else options,
    )


@asynccontextmanager
async def open_pool(
    settings: PostgresSettings, *, application_name: str, autocommit: bool = False
) -> AsyncIterator[PostgresPool]:
    """A pool of connections, closed at the end. It opens at once even while Postgres is away, and goes on trying.

    `async with pool.connection() as connection` waits at most acquire_timeout_s, then raises
    `psycopg_pool.PoolTimeout`. A connection on which the server said something while it rested (that it is closing,
    most likely) is tried before it is handed out, so that a restart of the server costs the requests after it a
    moment, and no error. To look costs no round trip; a server that vanished without a word is met by the deadlines.
    """
    renewal: asyncio.Task[None] | None = None

    async def check(connection: Connection) -> None:
        nonlocal renewal
        if not connection.closed and not _has_spoken(connection):
            return
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # Where one is dead its siblings are likely dead too. Left to itself, the pool would find out one by
            # one, and double its pause with each: seconds. So all are tried now, while this caller pauses once.
            if renewal is None or renewal.done():
                renewal = asyncio.create_task(pool.check(), name="renew the connections of the pool")
            raise

    pool: PostgresPool = AsyncConnectionPool(
        connection_info(settings, application_name=application_name),
        kwargs={"autocommit": autocommit},
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.acquire_timeout_s,
        check=check,
        name=application_name,
        open=False,
    )
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        if renewal is not None:
            renewal.cancel()
        await pool.close(timeout=POOL_CLOSE_TIMEOUT_S)


def _has_spoken(connection: Connection) -> bool:
    """Whether there is anything to read: of a connection at rest, a farewell or its end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))


async def connect(settings: PostgresSettings, *, application_name: str, autocommit: bool = False) -> Connection:
    """One connection outside of any pool, for work that holds it for its whole life; close it yourself.

    :raises psycopg.OperationalError: Postgres cannot be reached within connect_timeout_s.
    :raises TimeoutError: the same, where libpq itself does not give up.
    """
    info = connection_info(settings, application_name=application_name)
    async with asyncio.timeout(settings.connect_timeout_s + 1.0):
        return await AsyncConnection.connect(info, autocommit=autocommit)


async def postgres_trouble(pool: PostgresPool, *, timeout_s: float = 1.0) -> str | None:
    """A check for readyz: None while Postgres answers, else a sentence that says it does not."""
    try:
        async with asyncio.timeout(timeout_s), pool.connection(timeout=timeout_s) as connection:
            await connection.execute("SELECT 1")
    except (PoolTimeout, TimeoutError):
        return f"Postgres does not answer within {timeout_s:g} s."
    except psycopg.Error as error:
        return f"Postgres answers with an error ({type(error).__name__})."
    return None
